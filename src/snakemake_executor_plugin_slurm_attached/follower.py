"""Follows submitted jobs to their ends: good ends are seen in records, states and bad ends come from accounting.

Records are looked at every time, which costs SLURM nothing; accounting is asked seldom, for all jobs at once, and out
of turn when a job left a failed attempt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from run_experiment.common.json_files import read_record
from run_experiment.slurm import clients
from run_experiment.slurm.clients import AccountedJob, SlurmError
from run_experiment.slurm.events import Accounted, Changed, Event, Polled, PollFailed
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live, succeeded
from snakemake_executor_plugin_slurm_attached.background import Background
from snakemake_executor_plugin_slurm_attached.left_behind import (
    attempts,
    has_config,
    is_made,
    is_same,
    why_failed,
    why_lost,
)
from snakemake_executor_plugin_slurm_attached.retry_policy import Cut

# How soon accounting is asked about the first job.
_FIRST_QUESTION = 5.0
# Accounting shows an end some seconds late: how often and how long it is asked about a failed attempt.
_ASK_AGAIN = 3.0
_ASK_FOR = 45.0
# How long the figures of a job that ended may come later than its end; of a node that was lost they never do.
_LATEST_FIGURES = 60.0

# State of a job that SLURM does not know any more.
LOST = "LOST"

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class End:
    """The end of a job; `message` says why it failed, `accounted` is what accounting has of a bad end."""

    submission: Submission
    succeeded: bool
    state: str
    message: str = ""
    accounted: AccountedJob | None = None


@dataclass
class _Followed:
    submission: Submission
    output: Path
    state: str = "PENDING"
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


@dataclass(frozen=True)
class _Answer:
    accounted: dict[str, AccountedJob]
    # Live jobs by id and comment; None where accounting left no doubt.
    queued: set[tuple[str, str]] | None

    def is_queued(self, submission: Submission) -> bool | None:
        """Whether a job is live, whatever accounting says; None where the queue was not asked."""
        return None if self.queued is None else (submission.job_id, submission.comment) in self.queued


class Follower:
    """The jobs that are followed, by id. Times are in seconds.

    A job that left the queue, and has no end in accounting for `patience`, is given up; a record is waited for
    `latency` after the job completed, since shared file systems show files late. Jobs that ended are asked about until
    accounting has their ends, too.
    """

    def __init__(self, folder: Path, poll: float, patience: float, latency: float, tell: Tell) -> None:
        self._folder = folder
        self._poll = poll
        self._patience = patience
        self._latency = latency
        self._tell = tell
        # Replaced under the lock, never changed: other threads read them.
        self._jobs: dict[str, _Followed] = {}
        self._ended: dict[str, _Followed] = {}
        self._lock = threading.Lock()
        # Ends that were not handed out yet.
        self._new: list[End] = []
        self._question: Background[_Answer] = Background()
        self._asked_at = self._queue_asked_at = time.monotonic()
        self._answering = True

    def add(self, submission: Submission, output: Path, is_over: bool = False) -> None:
        """Follow a job, whose SLURM output goes to `output`; `is_over`: SLURM said once that it ended."""
        job = _Followed(submission, output)
        if is_over:
            job.failing_at = job.failed_at = time.monotonic()
        job.attempts = len(attempts(self._folder, submission))
        if not self._jobs:
            self._asked_at = min(self._asked_at, time.monotonic() - self._poll + _FIRST_QUESTION)
        with self._lock:
            self._jobs = {**self._jobs, _id(submission): job}

    def add_ended(self, submission: Submission, accounted: AccountedJob | None = None) -> None:
        """Ask about a job that ended while it was not followed; of what is `accounted` already, states are told."""
        job = _Followed(submission, Path())
        with self._lock:
            # One that is asked about already stays as it is known.
            self._ended = {_id(submission): job, **self._ended}
        if accounted:
            self._note(job, accounted)

    @property
    def jobs(self) -> dict[str, str]:
        """States of the jobs that are followed, by id, as last seen."""
        return {job_id: job.state for job_id, job in self._jobs.items()}

    @property
    def submissions(self) -> list[Submission]:
        """The jobs that are followed."""
        return [job.submission for job in self._jobs.values()]

    def look(self) -> list[End]:
        """Ends since the last time; asks accounting where that is due, without waiting for it."""
        now = time.monotonic()
        answer = self._answer()
        # Kept until they are handed out: an error on the way must lose none of them.
        self._new += [end for job in self._jobs.values() if (end := self._end(job, answer, now))]
        self._forget(self._new)
        if answer:
            self._close(answer)
        if (self._jobs or self._ended) and now - self._asked_at >= self._pause(now):
            self._ask()
        ends, self._new = self._new, []
        return ends

    def close(self, seconds: float) -> None:
        """Wait for what accounting has of jobs that ended, at most so many seconds; what is missing is told, too."""
        end = time.monotonic() + seconds
        while self._ended and time.monotonic() < end:
            if answer := self._answer():
                self._close(answer)
            elif time.monotonic() - self._asked_at >= _ASK_AGAIN:
                self._ask()
            time.sleep(0.1)
        for job in self._ended.values():
            self._tell(Accounted(job.submission, job.accounted))

    def _forget(self, ends: list[End]) -> None:
        over = {_id(end.submission) for end in ends}
        with self._lock:
            self._ended = {**self._ended, **{job_id: job for job_id, job in self._jobs.items() if job_id in over}}
            self._jobs = {job_id: job for job_id, job in self._jobs.items() if job_id not in over}

    def _end(self, job: _Followed, answer: _Answer | None, now: float) -> End | None:
        return self._end_from_files(job, now) or (self._judge(job, answer, now) if answer else None)

    def _end_from_files(self, job: _Followed, now: float) -> End | None:
        if is_made(self._folder, job.submission):
            return End(job.submission, True, "COMPLETED")
        failed = len(attempts(self._folder, job.submission))
        if failed > job.attempts:
            job.attempts, job.failed_at = failed, now
        if job.completed_at and now - job.completed_at > self._latency:
            # It found its target made by a job that nobody followed, and left that one's record.
            if has_config(read_record(self._folder / job.submission.target), job.submission):
                return End(job.submission, True, "COMPLETED")
            message = f"SLURM job {job.submission.job_id} completed without a record; its output is {job.output}"
            return End(job.submission, False, "COMPLETED", message)
        return None

    def _pause(self, now: float) -> float:
        """Seconds between questions: few where a job has just left a failed attempt."""
        fresh = any(job.failed_at is not None and now - job.failed_at < _ASK_FOR for job in self._jobs.values())
        return min(_ASK_AGAIN, self._poll) if fresh else self._poll

    def _ask(self) -> None:
        if self._question.busy:
            return
        now = self._asked_at = time.monotonic()
        ids = [*self._jobs, *self._ended]
        asks_queue = self._doubts(now)

        def question() -> _Answer:
            accounted = clients.accounting(ids)
            # A job that SLURM starts again counts as ended there until it runs.
            ended = any(not is_live(job.state) and not succeeded(job.state) for job in accounted.values())
            queue = clients.queue() if ended or asks_queue else None
            return _Answer(accounted, None if queue is None else {(job.job_id, job.comment) for job in queue})

        self._question.start(question)

    def _doubts(self, now: float) -> bool:
        """Whether the queue has to be asked, too: accounting may know a job late, and never learn of an end."""
        overdue = any(self._is_overdue(job, now) for job in self._jobs.values())
        if not overdue and now - self._queue_asked_at <= self._patience:
            return False
        self._queue_asked_at = now
        return True

    def _is_overdue(self, job: _Followed, now: float) -> bool:
        """Whether accounting should have an end that it does not have, or a job that it does not know."""
        reported = job.failed_at is not None and now - job.failed_at > _ASK_FOR
        return reported or (job.missing_at is not None and now - job.missing_at > self._patience)

    def _answer(self) -> _Answer | None:
        try:
            answer = self._question.take()
        except SlurmError as error:
            if self._answering:
                self._tell(PollFailed(tuple(job.submission.target for job in self._jobs.values()), str(error)))
            self._answering = False
            return None
        if answer:
            states = {job.submission.target: self._state(job, answer) for job in self._jobs.values()}
            self._tell(Polled(states, restored=not self._answering))
            self._answering = True
        return answer

    def _state(self, job: _Followed, answer: _Answer) -> str:
        """State as accounting has it now, else as it had it before."""
        found = answer.accounted.get(_id(job.submission))
        return found.state if found and is_same(found, job.submission) else job.state

    def _judge(self, job: _Followed, answer: _Answer, now: float) -> End | None:
        found = answer.accounted.get(_id(job.submission))
        queued = answer.is_queued(job.submission)
        if queued:
            job.missing_at = None
        if found is None or not is_same(found, job.submission) or (is_live(found.state) and queued is False):
            return self._missing(job, queued, now)
        if is_live(found.state) or queued:
            self._note(job, found)
            job.completed_at = job.failing_at = None
            return None
        if is_made(self._folder, job.submission):
            return End(job.submission, True, "COMPLETED")
        if succeeded(found.state):
            job.completed_at = job.completed_at or now
            return None
        if job.failing_at is None:
            # A preempted job is told as failed before it is queued again: an end that is asked for twice is one.
            job.failing_at = job.failed_at = now
            return None
        # Of a try of the job's own: a later one may have made it, with a record that shows late.
        if found.state == Cut.OUT_OF_MEMORY.name and now - job.failing_at <= self._latency:
            return None
        message = why_failed(self._folder, found, job.submission, job.output)
        return End(job.submission, False, found.state, message, found)

    def _missing(self, job: _Followed, queued: bool | None, now: float) -> End | None:
        """Accounting may be late, or without a database; a job that the queue does not have either is lost."""
        if queued:
            return None
        job.missing_at = job.missing_at or now
        if queued is None or now - job.missing_at <= self._patience:
            return None
        return End(job.submission, False, LOST, why_lost(self._folder, job.submission, job.output))

    def _close(self, answer: _Answer) -> None:
        """Tell what accounting has of jobs that ended: their ends, and once it has all of them their figures."""
        known, now = set(), time.monotonic()
        for job_id, job in self._ended.items():
            found = answer.accounted.get(job_id)
            if found and is_same(found, job.submission) and not is_live(found.state):
                self._note(job, found)
                job.over_at, job.accounted = job.over_at or now, found
                if found.settled or now - job.over_at > _LATEST_FIGURES:
                    self._tell(Accounted(job.submission, found))
                    known.add(job_id)
        with self._lock:
            self._ended = {job_id: job for job_id, job in self._ended.items() if job_id not in known}

    def _note(self, job: _Followed, found: AccountedJob) -> None:
        """Tell that a job's state differs from the one seen before; also the start of one that has ended since."""
        if found.state == job.state:
            return
        if job.state == "PENDING" and found.started and not is_live(found.state):
            self._tell(Changed(job.submission, "PENDING", "RUNNING", found))
            job.state = "RUNNING"
        self._tell(Changed(job.submission, job.state, found.state, found))
        job.state = found.state


def with_id(submission: Submission, job_id: str) -> Submission:
    """The submission as SLURM accepted it."""
    return replace(submission, job_id=job_id)


def _id(submission: Submission) -> str:
    if submission.job_id is None:
        raise ValueError(f"{submission.target} has no job")
    return submission.job_id
