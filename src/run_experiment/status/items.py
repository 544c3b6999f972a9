"""What the state of an experiment is made of: plain values, without how they were found."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from run_experiment.common.experiment_lock import Owner


class State(enum.StrEnum):
    """What state a training, a verification or an evaluation is in."""

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
    """A training, the verification of an epoch, or an evaluation, and what state it is in.

    `since` is when the state began, `seconds` how long a job that is done ran; `read_on` is a file of the folder that
    says more; `certain` is False if the state is only the last known. `epoch` is None for a model as it is given.
    `attempt` is the number of the attempt that runs or waits, 1 of the first.
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

    @property
    def is_made(self) -> bool:
        """Whether nothing is missing of it."""
        return self.state in (State.DONE, State.SKIPPED)


@dataclass(frozen=True)
class RunStatus:
    """A run: its training, the verifications of its epochs (none without checkpoints), its evaluations."""

    name: str
    type: str
    training: Item
    verifications: tuple[Item, ...]
    evaluations: tuple[Item, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All of them, in the order in which they are made."""
        return (self.training, *self.verifications, *self.evaluations)


@dataclass(frozen=True)
class Status:
    """An experiment's state at one moment.

    `owner` is the main process that follows it if `followed`, else the last one that did, None if there was none.
    `asked` is the client that gave the states of SLURM's jobs, None if none did or had to; `notes` are for the reader.
    `unfinished_redos` says what `redo=` asked for and is not made again yet.
    """

    experiment: str
    folder: Path
    time: datetime
    owner: Owner | None
    followed: bool
    asked: str | None
    notes: tuple[str, ...]
    unfinished_redos: tuple[str, ...]
    runs: tuple[RunStatus, ...]

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Everything that is or was to be made."""
        return tuple(item for run in self.runs for item in run.items)

    @cached_property
    def counts(self) -> dict[State, int]:
        """How many are in each state."""
        found = Counter(item.state for item in self.items)
        return {state: found[state] for state in State}

    @property
    def total(self) -> int:
        """How many are to be made at all."""
        return len(self.items) - self.counts[State.SKIPPED]

    @property
    def missing(self) -> list[Item]:
        """What is not done; a verification only if its training is."""
        return [
            item
            for run in self.runs
            for item in run.items
            if not item.is_made and (item.kind != VERIFICATION or run.training.is_made)
        ]

    @property
    def is_moving(self) -> bool:
        """Whether there is something to wait for."""
        return self.followed or any(item.state in (State.RUNNING, State.PENDING) for item in self.items)
