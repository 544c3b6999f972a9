"""The table under `-n`: what will not run, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from run_experiment.planning.plan import Row


@dataclass
class PlanTable:
    """Runs and evaluations of the experiment, and the outputs of the jobs that Snakemake planned."""

    rows: Sequence[Row] = ()
    planned: set[str] = field(default_factory=set)

    def text(self) -> str:
        """The table; empty where everything will run."""
        lines = [(row.subject, self._why(row)) for row in self.rows if row.path not in self.planned]
        if not lines:
            return ""
        width = max(len(subject) for subject, _ in lines)
        return "\n".join(["", "Will not run:", *(f"    {subject:<{width}}  {why}" for subject, why in lines)])

    def _why(self, row: Row) -> str:
        return f"not asked for ({row.reason})" if row.wanted else row.reason
