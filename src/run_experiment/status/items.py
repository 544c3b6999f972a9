"""An experiment's state as plain values."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from run_experiment.common.experiment_lock import Owner
from run_experiment.estimate.cost import Estimate
from run_experiment.status.progress import Progress


class State(enum.StrEnum):
    """State of a training, a verification or an evaluation."""

    DONE = "done"
    RUNNING = "running"
    PENDING = "pending"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STALE = "stale"
    MISSING = "missing"
    SKIPPED = "skipped"


TRAINING, VERIFICATION, EVALUATION = "training", "verification", "evaluation"


@dataclass(frozen=True)
class Item:
    """A training, the verification of an epoch, or an evaluation, with its state.

    `since` is when the state began, `seconds` how long a job that ended ran, `read_on` a file with more details
    (relative to the folder). `certain` is False if this is only the last known state. `epoch` is None for an untrained
    model. `attempt` is the number (from 1) of the attempt that is running or pending. A job that `is_stuck` does not go
    on by itself. `progress` is how far a running job is. `taken_from` is the experiment that a result was taken from,
    if it was.
    """

    kind: str
    subject: str
    run: str
    task: str | None
    epoch: int | None
    state: State
    reason: str
    job_id: str | None = None
    slurm_state: str | None = None
    since: datetime | None = None
    seconds: float | None = None
    read_on: str | None = None
    certain: bool = True
    attempt: int | None = None
    is_stuck: bool = False
    progress: Progress | None = None
    taken_from: str = ""

    @property
    def is_made(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.state in (State.DONE, State.SKIPPED)


@dataclass(frozen=True)
class RunStatus:
    """A run: its training, the verifications of its checkpoints, its evaluations."""

    name: str
    type: str
    training: Item
    verifications: tuple[Item, ...]
    evaluations: tuple[Item, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items of the run, in the order in which they are made."""
        return (self.training, *self.verifications, *self.evaluations)


@dataclass(frozen=True)
class Status:
    """An experiment's state at one moment.

    `owner` is the main process that follows it if `followed`, else the last one that did; None if there was none.
    `asked` is the SLURM client that answered, None if none did or none was needed. `notes` are messages for the user.
    `left` is what is still to be computed, None if that was not asked for.
    """

    experiment: str
    folder: Path
    time: datetime
    owner: Owner | None
    followed: bool
    asked: str | None
    notes: tuple[str, ...]
    runs: tuple[RunStatus, ...]
    left: Estimate | None = None

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The items of all runs."""
        return tuple(item for run in self.runs for item in run.items)

    @cached_property
    def counts(self) -> dict[State, int]:
        """Number of items in each state."""
        found = Counter(item.state for item in self.items)
        return {state: found[state] for state in State}

    @property
    def total(self) -> int:
        """Number of items, without skipped ones."""
        return len(self.items) - self.counts[State.SKIPPED]

    @property
    def missing(self) -> list[Item]:
        """Items that are not done; verifications only of finished trainings."""
        return [
            item
            for run in self.runs
            for item in run.items
            if not item.is_made and (item.kind != VERIFICATION or run.training.is_made)
        ]

    @property
    def is_moving(self) -> bool:
        """Whether the state may still change by itself."""
        return self.followed or any(item.state in (State.RUNNING, State.PENDING) for item in self.items)
