"""What SLURM is asked about jobs: accounting for all of them at once, and the queue where accounting leaves doubts."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from run_experiment.slurm import clients
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.errors import NoAccountingError, SlurmError
from run_experiment.slurm.job_ids import is_same, slurm_id
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live, is_waiting, succeeded
from snakemake_executor_plugin_slurm_attached.following.background import Background


@dataclass(frozen=True)
class Answer:
    """What accounting has of jobs by id, and live jobs by id and comment; None if the queue was not asked.

    Without `has_accounts` the cluster keeps none: no figures will ever come.
    """

    accounted: dict[str, AccountedJob]
    queued: dict[tuple[str, str], QueuedJob] | None
    has_accounts: bool = True

    def job(self, submission: Submission) -> AccountedJob | None:
        """What accounting has of a job, but of none that only has its id."""
        found = self.accounted.get(str(submission.job_id))
        return found if found and is_same(found, submission) else None

    def is_queued(self, submission: Submission) -> bool | None:
        """Whether a job is live, whatever accounting says; None if the queue was not asked."""
        return None if self.queued is None else _key(submission) in self.queued

    def runs(self, submission: Submission) -> bool:
        """Whether the queue shows that a job runs, on a cluster without accounting, which would say since when."""
        job = (self.queued or {}).get(_key(submission))
        return not self.has_accounts and job is not None and job.state == "RUNNING"

    def waiting(self, submission: Submission) -> QueuedJob | None:
        """A job that waits in the queue, if it does: accounting may still show the end of its last start."""
        job = (self.queued or {}).get(_key(submission))
        return job if job and is_waiting(job.state) else None


class Questions:
    """One question at a time, in the background. Times are `time.monotonic`."""

    def __init__(self) -> None:
        self._call: Background[Answer] = Background()
        self._asked_at = self._queue_asked_at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last question."""
        return time.monotonic() - self._asked_at

    def hasten(self, age: float) -> None:
        """Have the last question be at least so many seconds old."""
        self._asked_at = min(self._asked_at, time.monotonic() - age)

    def ask(self, job_ids: Collection[str], patience: float) -> None:
        """Ask about jobs unless a question is under way; the queue, too, if that was `patience` seconds ago.

        Accounting may know a job late, never learn of an end, and does not know why jobs wait.
        """
        if self._call.busy:
            return
        now = self._asked_at = time.monotonic()
        asks_queue = now - self._queue_asked_at >= patience
        if asks_queue:
            self._queue_asked_at = now
        ids = list(job_ids)
        self._call.start(lambda: _answer(ids, asks_queue))

    def take(self) -> Answer | None:
        """The answer, once; None if there is none yet. Raises SlurmError."""
        return self._call.take()


def _answer(job_ids: Collection[str], asks_queue: bool) -> Answer:
    try:
        accounted = clients.accounting(job_ids)
    except NoAccountingError:
        return Answer({}, _queued(), has_accounts=False)
    # A job that SLURM starts again counts as ended there until it runs: without the queue's word there is no answer.
    if any(not is_live(job.state) and not succeeded(job.state) for job in accounted.values()):
        return Answer(accounted, _queued())
    try:
        return Answer(accounted, _queued() if asks_queue else None)
    except SlurmError:
        return Answer(accounted, None)


def _key(submission: Submission) -> tuple[str, str]:
    return slurm_id(submission.job_id), submission.comment


def _queued() -> dict[tuple[str, str], QueuedJob]:
    return {(job.job_id, job.comment): job for job in clients.queue()}
