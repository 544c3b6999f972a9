"""Settings of the executor, `--slurm-attached-…` on the command line and in profiles."""

from dataclasses import dataclass, field

from snakemake_executor_plugin_slurm import ExecutorSettings as SlurmSettings
from snakemake_interface_common.exceptions import WorkflowError

DETACH, CANCEL = "detach", "cancel"


@dataclass
class ExecutorSettings(SlurmSettings):  # type: ignore[misc]
    """What can be set, beside what the SLURM executor has."""

    poll_seconds: int = field(
        default=60,
        metadata={"help": "Seconds between two queries to accounting, for all jobs at once.", "env_var": False},
    )
    max_queued: int = field(
        default=25,
        metadata={
            "help": "Most jobs in the queue, including jobs that other programs of yours submitted.",
            "env_var": False,
        },
    )
    on_interrupt: str = field(
        default=DETACH,
        metadata={
            "help": f"What Ctrl-C, SIGTERM and SIGHUP do: '{DETACH}' keeps jobs running, to be found again by the same "
            f"command; '{CANCEL}' cancels them.",
            "env_var": False,
        },
    )
    lost_seconds: int = field(
        default=600,
        metadata={
            "help": "Seconds after which a job counts as failed if it left the queue without an end in accounting.",
            "env_var": False,
        },
    )
    # The logs of jobs are the user's to remove.
    delete_logfiles_older_than: int = field(default=0, metadata={"help": "Not used by this executor."})

    def __post_init__(self) -> None:
        """Refuse what this executor cannot do. Raises WorkflowError."""
        super().__post_init__()
        # Not used here; the SLURM executor would ask the controller whether another one were better.
        self.status_command = None
        if self.efficiency_report:
            raise WorkflowError("slurm-attached writes no efficiency report")
        if self.partition_config:
            raise WorkflowError(
                "slurm-attached-partition-config is not supported: name the partition in config/config.yaml, in job "
                "scripts, or as slurm_partition in a profile"
            )
        if self.on_interrupt not in (DETACH, CANCEL):
            raise WorkflowError(f"slurm-attached-on-interrupt: {self.on_interrupt!r} is neither {DETACH} nor {CANCEL}")
        for name in ("poll_seconds", "max_queued", "lost_seconds"):
            if getattr(self, name) < 1:
                raise WorkflowError(f"slurm-attached-{name.replace('_', '-')}: expected a number of at least 1")
