"""What becomes of jobs on a cluster, as events: who follows the jobs tells them, who writes them down reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from run_experiment.slurm.clients import AccountedJob
from run_experiment.slurm.ledger import Submission


@dataclass(frozen=True)
class Submitted:
    """SLURM accepted a job."""

    submission: Submission


@dataclass(frozen=True)
class Delayed:
    """SLURM did not answer, or has no room for a job; its submission is tried again after so many seconds."""

    submission: Submission
    reason: str
    seconds: float


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
class Unaccounted:
    """A job of an earlier main process ended, and what accounting has of it is still to come."""

    submission: Submission


@dataclass(frozen=True)
class Cancelled:
    """A job was cancelled from here; `reason` says why."""

    submission: Submission
    reason: str


@dataclass(frozen=True)
class Polled:
    """Accounting was asked: SLURM's states of the jobs in flight, by target; `restored` after it did not answer."""

    states: Mapping[str, str]
    restored: bool = False


@dataclass(frozen=True)
class PollFailed:
    """Accounting did not answer; told once, until it answers again."""

    targets: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Changed:
    """A job's SLURM state differs from the one seen before; `job` is what accounting has of it now."""

    submission: Submission
    before: str
    after: str
    job: AccountedJob


@dataclass(frozen=True)
class Ended:
    """The end of a job was noticed; `message` says why it failed."""

    submission: Submission
    succeeded: bool
    state: str
    message: str = ""
    again: str = ""


@dataclass(frozen=True)
class Accounted:
    """What accounting has of a job that ended; None where it never came to know the end."""

    submission: Submission
    job: AccountedJob | None


@dataclass(frozen=True)
class Detached:
    """The main process ends before these jobs do."""

    submissions: tuple[Submission, ...]
    cancelled: bool


Event = (
    Submitted
    | Delayed
    | Refused
    | Reattached
    | Unaccounted
    | Cancelled
    | Polled
    | PollFailed
    | Changed
    | Ended
    | Accounted
    | Detached
)
# Name under which events travel as attributes of log records.
RECORD_ATTRIBUTE = "job_event"
