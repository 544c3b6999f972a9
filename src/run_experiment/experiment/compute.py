"""What jobs request of the cluster, as `experiment_summary.yaml` says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, PrivateAttr

from run_experiment.experiment.section import Section

# As SLURM takes it, but for minutes and seconds: who writes 4:00 means hours.
TIME_PATTERN = r"(\d+|\d+-\d+(:\d{1,2}){0,2}|\d+(:\d{1,2}){2})"
# A small number without a unit would be megabytes to SLURM, and is meant as gigabytes.
MEMORY_PATTERN = r"(\d+[KMGT]|\d{4,})"
# Fits into a line of a job script as it is.
OPTION_PATTERN = r"[^\s\"'\\#]+"


Option = Annotated[str, Field(pattern=f"^{OPTION_PATTERN}$")]


def _option_value(value: Any) -> Any:
    """The text of an option's value; a flag, `true` in the file, has an empty one."""
    return "" if value is True else str(value) if type(value) is int else value


OptionValue = Annotated[str, BeforeValidator(_option_value), Field(pattern=f"^({OPTION_PATTERN})?$")]


class Compute(Section):
    """What a job requests of the cluster; what is absent is estimated, or is the settings'."""

    time: Annotated[str, Field(pattern=f"^{TIME_PATTERN}$")] | None = Field(None, description="Time limit, HH:MM:SS.")
    gpus: NonNegativeInt | None = Field(
        None, description="GPUs on each node; several share a training by `trl`, or the model of an evaluation."
    )
    nodes: PositiveInt | None = Field(None, description="Nodes that share a training by `trl`; absent: one.")
    mem: Annotated[str, Field(pattern=f"^{MEMORY_PATTERN}$")] | None = Field(None, description="Memory, like 80G.")
    cpus_per_task: PositiveInt | None = Field(None, description="CPU cores.")
    partition: Option | None = Field(None, description="Partition, instead of the settings'.")
    account: Option | None = Field(None, description="Account, instead of the settings'.")
    constraint: Option | None = Field(None, description="Features of the nodes.")
    qos: Option | None = Field(None, description="Quality of service.")

    # Further options of sbatch by their full names, and the requests that `slurm_overrides` made.
    _options: dict[str, str] = PrivateAttr(default_factory=dict)
    _overridden: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def options(self) -> Mapping[str, str]:
        """Further options of sbatch by their full names; the value of a flag is empty."""
        return self._options

    @property
    def devices(self) -> int:
        """GPUs of all nodes, or nodes without GPUs, that share a training."""
        return (self.nodes or 1) * max(1, self.gpus or 1)

    def key(self, name: str) -> str:
        """The key of the run that a request is or would be written at: `compute.time`."""
        return f"{'slurm_overrides' if name in self._overridden else 'compute'}.{name}"


class SlurmOverrides(Compute):
    """Requests that are stronger than those of `compute`; any further option of sbatch, with - or _ in its name."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, populate_by_name=True)

    __pydantic_extra__: dict[str, OptionValue] = Field(init=False)

    def over(self, other: Compute | None) -> Compute:
        """These requests, and another's for what they leave open."""
        names = self.model_fields_set & set(Compute.model_fields)
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        merged = (other or Compute()).model_copy(update=own)
        merged._overridden = frozenset(own)
        merged._options = {name.replace("_", "-"): value for name, value in (self.model_extra or {}).items()}
        return merged
