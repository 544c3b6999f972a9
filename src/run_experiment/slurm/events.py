"""What becomes of jobs on a cluster, as events: sent by the executor plugin, written down by the action logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from run_experiment.common.clock import now
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live, succeeded


@dataclass(frozen=True)
class Submitted:
    """SLURM accepted a job."""

    submission: Submission


@dataclass(frozen=True)
class Delayed:
    """SLURM did not answer, or does not accept a job now; its submission is tried again and again.

    Sent once for each reason.
    """

    submission: Submission
    reason: str


@dataclass(frozen=True)
class QueueFull:
    """No job is submitted, since others fill the queue: so many of the user's jobs, none of which is followed here."""

    number: int

    @property
    def text(self) -> str:
        """What is waited for."""
        jobs = "1 of your jobs is" if self.number == 1 else f"{self.number} of your jobs are"
        return f"waiting: {jobs} in the queue, none of this experiment (slurm-attached-max-queued)"


@dataclass(frozen=True)
class Refused:
    """SLURM refused a job, in the words of `reason`."""

    submission: Submission
    reason: str


@dataclass(frozen=True)
class Reattached:
    """A job of an earlier main process is followed again, or taken as it ended; `state` is SLURM's."""

    submission: Submission
    state: str


@dataclass(frozen=True)
class Unlogged:
    """An earlier main process noted the end of a job, but the action logs lack it or its figures: they follow."""

    submission: Submission


@dataclass(frozen=True)
class Cancelled:
    """This command cancelled a job; `reason` says why. Its `Finished` follows.

    If `goes_on`, SLURM's job makes other targets, and was only kept from making this one.
    """

    submission: Submission
    reason: str
    goes_on: bool = False


@dataclass(frozen=True)
class Polled:
    """Accounting was asked: SLURM's states of the jobs in flight, by target; `restored` after it did not answer."""

    states: Mapping[str, str]
    restored: bool = False


@dataclass(frozen=True)
class PollFailed:
    """Accounting did not answer; sent once, until it answers again."""

    targets: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Changed:
    """A job's state differs from the one seen before: it waits, runs, or left its record (COMPLETED).

    `job` is what accounting has of it now; None if the record came first.
    """

    submission: Submission
    before: str
    after: str
    job: AccountedJob | None


@dataclass(frozen=True)
class Held:
    """Jobs wait for a reason that does not pass by itself, or not soon; `remedy` is what to do about it.

    `again` if others were waiting for it already, and the same remedy helps them all.
    """

    submissions: tuple[Submission, ...]
    reason: str
    remedy: str
    again: bool = False


@dataclass(frozen=True)
class Finished:
    """A job is over; sent once, when its state, the reason and accounting's figures are known.

    `message` says why it failed, `again` why it is submitted again; `job` is None if accounting never had its end,
    `noticed` is when the end was.
    """

    submission: Submission
    succeeded: bool
    state: str
    message: str = ""
    again: str = ""
    job: AccountedJob | None = None
    noticed: datetime = field(default_factory=now)

    @property
    def verdict(self) -> str:
        """COMPLETED if it made its target, otherwise the final state that SLURM has, or FAILED."""
        if self.succeeded:
            return "COMPLETED"
        return "FAILED" if succeeded(self.state) or is_live(self.state) else self.state


@dataclass(frozen=True)
class Detached:
    """The main process ends before these jobs do."""

    submissions: tuple[Submission, ...]
    cancelled: bool


Event = (
    Submitted
    | Delayed
    | QueueFull
    | Refused
    | Reattached
    | Unlogged
    | Cancelled
    | Polled
    | PollFailed
    | Changed
    | Held
    | Finished
    | Detached
)
# Name under which events travel as attributes of log records.
RECORD_ATTRIBUTE = "job_event"
