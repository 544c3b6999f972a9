"""What becomes of a job of an earlier main process."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from pathlib import Path

from run_experiment.attempts.redone import last_redo
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live, succeeded
from snakemake_executor_plugin_slurm_attached.ends.left_behind import is_made


class Fate(enum.Enum):
    """What becomes of an earlier job for a target that is wanted now."""

    ATTACH = "it is followed"
    MADE = "it made its target"
    FAILED = "it failed while no process followed it"
    CANCEL = "its configuration is outdated: cancelled and resubmitted"
    GONE = "it left nothing: resubmitted"


@dataclass(frozen=True)
class Earlier:
    """A job of an earlier main process, and what is known of it: its state, "" if nothing; whether it is queued."""

    submission: Submission
    state: str
    accounted: AccountedJob | None = None
    is_queued: bool = False

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs."""
        return bool(self.state) and is_live(self.state)

    @property
    def is_leaving(self) -> bool:
        """Whether its end is under way, perhaps by `scancel`: the queue drops a job before accounting has its end."""
        return self.is_live and (self.state == "COMPLETING" or not self.is_queued)

    def completed(self, config_hash: str) -> Earlier:
        """The same with today's whole hash if it is of today's configuration: a comment has only its beginning."""
        if not config_hash.startswith(self.submission.config_hash):
            return self
        return replace(self, submission=replace(self.submission, config_hash=config_hash))

    def fate(self, folder: Path, config_hash: str) -> Fate:
        """What becomes of it: `config_hash` is today's; nothing counts from before a `redo=` of its target."""
        same = self.submission.config_hash == config_hash and not self._is_before_redo(folder)
        if same and is_made(folder, self.submission):
            return Fate.MADE
        if self.is_live:
            return Fate.ATTACH if same else Fate.CANCEL
        # Who cancelled a job and starts again wants it to run.
        if same and self.accounted and not succeeded(self.state) and self.state != "CANCELLED":
            return Fate.FAILED
        return Fate.GONE

    def _is_before_redo(self, folder: Path) -> bool:
        """Whether it was submitted before what it was making, or had just made, was moved away."""
        redone = last_redo(folder, self.submission.target)
        return redone is not None and self.submission.job_id in redone.before
