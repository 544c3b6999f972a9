"""The jobs that are followed, and what changes of them: each change is sent once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from run_experiment.attempts.starts import started_again
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.events import Changed, Event, Finished, Held
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live, succeeded
from run_experiment.slurm.waits import is_of_each_job, remedy

Tell = Callable[[Event], None]


@dataclass
class Followed:
    """A job and what was seen of it; times are those of this process's clock."""

    submission: Submission
    output: Path
    # The state that was reported last, and the start that belongs to it.
    state: str = "PENDING"
    started: datetime | None = None
    attempts: int = 0
    # When a failed attempt was seen, when SLURM was first found not to know the job, and to call it completed.
    failed_at: float | None = None
    missing_at: float | None = None
    completed_at: float | None = None
    # When accounting was first found to have a bad end.
    failing_at: float | None = None
    # When accounting was first found to have its end.
    over_at: float | None = None
    accounted: AccountedJob | None = None
    # What is known of its end but the figures; None if what the job left is all that says how it ended.
    finished: Finished | None = None
    # Why this command cancelled it.
    cancelled: str = ""
    # What to do about its wait, as last reported; whether the queue said why since it waits.
    held: str = ""
    explained: bool = False

    @property
    def job_id(self) -> str:
        """Its id."""
        return id_of(self.submission)


class Transitions:
    """Sends the changes of jobs, also those that nobody saw happen."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        self._folder = folder
        self._tell = tell

    def live(self, job: Followed, found: AccountedJob, requeued: QueuedJob | None) -> None:
        """Report how the state of a job differs that waits or runs, whatever accounting calls its last start."""
        if is_live(found.state):
            self.start(job, found)
            self._change(job, found.state, found)
        elif requeued:
            self.start(job, found)
            self._change(job, "PENDING", _waiting(found, requeued.reason))

    def start(self, job: Followed, found: AccountedJob) -> None:
        """Report a start that was not reported yet; if the job was started before, first that SLURM requeued it.

        A job that made its target is over, even if SLURM took it for lost and started it again.
        """
        if found.started in (None, job.started) or job.state == "COMPLETED":
            return
        if job.started:
            self._change(job, "PENDING", _waiting(found, "requeued"))
        job.started = found.started
        self._change(job, "RUNNING", found)

    def running(self, job: Followed) -> None:
        """Report that a job runs of which accounting does not know."""
        self._change(job, "RUNNING", None)

    def made(self, job: Followed, found: AccountedJob | None = None) -> None:
        """Report that a job made its target, as soon as its record is there.

        Before that its last start, which accounting has not shown yet if the record came first.
        """
        if job.state == "COMPLETED":
            return
        if self._restarted(job):
            found = None
            self._change(job, "PENDING", None)
        self._change(job, "RUNNING", found)
        # Accounting may still call it running, or have the end of a start before: then the record says when.
        self._change(job, "COMPLETED", found if found and succeeded(found.state) else None)

    def _restarted(self, job: Followed) -> bool:
        """Whether the job's record is of a later start than the one that was reported."""
        reported = job.started if job.state == "RUNNING" else None
        return reported is not None and started_again(self._folder, job.submission.target, job.job_id, reported)

    def held(self, reasons: Iterable[tuple[Followed, str]]) -> None:
        """Report, once, the reasons for which jobs wait if those do not pass by themselves, or not soon.

        Jobs that began to wait for the same reason are reported together.
        """
        known: set[str] = set()
        new: dict[str, list[tuple[Followed, str]]] = {}
        for job, reason in reasons:
            known |= {job.held}
            # What to do counts: SLURM names now one and now another of several limits.
            advice = remedy(reason)
            if advice and advice != job.held:
                new.setdefault(advice, []).append((job, reason))
            job.held, job.explained = advice, bool(reason)
        for advice, waiting in new.items():
            reason = waiting[0][1]
            again = advice in known and not is_of_each_job(reason)
            jobs = [job for job, _ in waiting]
            told = remedy(reason, *(job.job_id for job in jobs))
            self._tell(Held(tuple(job.submission for job in jobs), reason, told, again))

    def _change(self, job: Followed, state: str, found: AccountedJob | None) -> None:
        before, job.state = job.state, state
        if before != state:
            job.explained = False
            self._tell(Changed(job.submission, before, state, found))


def _waiting(job: AccountedJob, reason: str) -> AccountedJob:
    """What accounting will have of a job that waits for its next start."""
    return replace(job, state="PENDING", started=None, ended=None, nodes="", reason=reason)


def id_of(submission: Submission) -> str:
    """Id of a job that was submitted. Raises ValueError if it was not."""
    if submission.job_id is None:
        raise ValueError(f"{submission.target} has no job")
    return submission.job_id
