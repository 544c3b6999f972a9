"""Settings of the action logs, `--logger-action-log-…` on the command line and in profiles."""

# Types must be types: the interface does not resolve annotations that are text.
from dataclasses import dataclass, field

from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """What can be set."""

    status_seconds: int = field(
        default=60,
        metadata={"help": "Seconds between two status checks of jobs on this machine.", "env_var": False},
    )
