"""Follows submitted jobs to their ends: good ends are seen in records, states and bad ends come from accounting.

Snakemake hears of an end at once (`look`); the logs get it as one `Finished`, once accounting has the job's figures.

Records are looked at every time, which costs SLURM nothing; accounting is asked seldom, for all jobs at once, and out
of turn when a job left a failed attempt.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from run_experiment.common.json_files import read_record
from run_experiment.slurm.clients import AccountedJob, SlurmError
from run_experiment.slurm.events import Finished, Polled, PollFailed
from run_experiment.slurm.ledger import Logged, Submission
from run_experiment.slurm.states import is_live, succeeded
from snakemake_executor_plugin_slurm_attached.left_behind import (
    attempts,
    has_config,
    is_made,
    started_again,
    why_failed,
    why_lost,
)
from snakemake_executor_plugin_slurm_attached.questions import Answer, Questions
from snakemake_executor_plugin_slurm_attached.retry_policy import Cut
from snakemake_executor_plugin_slurm_attached.transitions import Followed, Tell, Transitions, id_of

# How soon accounting is asked about the first job.
_FIRST_QUESTION = 5.0
# Accounting shows an end some seconds late: how often and how long it is asked about a failed attempt.
_ASK_AGAIN = 3.0
_ASK_FOR = 45.0
# How long the figures of a job may come later than its end.
_LATEST_FIGURES = 60.0

# State of a job that SLURM does not know any more.
LOST = "LOST"


@dataclass(frozen=True)
class End:
    """The end of a job; `message` says why it failed, `accounted` is what accounting has of a bad end."""

    submission: Submission
    succeeded: bool
    state: str
    message: str = ""
    accounted: AccountedJob | None = None


class Follower:
    """The jobs that are followed, by id. Times are in seconds.

    A job that left the queue, and has no end in accounting for `patience`, is given up; a record is waited for
    `latency` after the job completed, since shared file systems show files late. Jobs that ended are asked about until
    accounting has their figures, too.
    """

    def __init__(self, folder: Path, poll: float, patience: float, latency: float, tell: Tell) -> None:
        self._folder = folder
        self._poll = poll
        self._patience = patience
        self._latency = latency
        self._tell = tell
        self._transitions = Transitions(tell)
        # Replaced under the lock, never changed: other threads read them.
        self._jobs: dict[str, Followed] = {}
        # Those whose ends were handed out, until `finish`; then, until accounting has their figures.
        self._judged: dict[str, Followed] = {}
        self._ended: dict[str, Followed] = {}
        # All whose `Finished` was sent.
        self._finished: set[str] = set()
        self._lock = threading.Lock()
        # Ends that were not handed out yet.
        self._new: list[End] = []
        self._questions = Questions(patience)
        self._answering = True

    def add(self, submission: Submission, output: Path, logged: Logged, ended: AccountedJob | None = None) -> None:
        """Follow a job, whose SLURM output goes to `output`; `logged` is what the action logs have of it already.

        `ended` is what accounting has of it if that showed an end once.
        """
        job = Followed(submission, output, logged.state, logged.started)
        if ended:
            job.failing_at = job.failed_at = time.monotonic()
            self._transitions.start(job, ended)
        job.attempts = len(attempts(self._folder, submission))
        if not self._jobs:
            self._questions.hasten(self._poll - _FIRST_QUESTION)
        with self._lock:
            # It may be one that somebody requeued after its end.
            self._finished.discard(id_of(submission))
            self._ended = {job_id: job for job_id, job in self._ended.items() if job_id != id_of(submission)}
            self._jobs = {**self._jobs, id_of(submission): job}

    def add_ended(
        self, submission: Submission, output: Path, logged: Logged, known: AccountedJob | None = None, why: str = ""
    ) -> None:
        """Report a job that ended while it was not followed, once accounting has its figures.

        `known` is what accounting has of it already, `why` the reason if this command cancelled it.
        """
        job = Followed(submission, output, logged.state, logged.started, accounted=known, cancelled=why)
        with self._lock:
            if id_of(submission) in self._ended or id_of(submission) in self._finished:
                return
            self._ended = {**self._ended, id_of(submission): job}
        if known:
            self._transitions.start(job, known)
        if is_made(self._folder, submission):
            self._report_made(job, known)
        if known and _is_whole(known):
            self._finish(job)

    def add_forgotten(self, submission: Submission, output: Path, logged: Logged) -> None:
        """Report a job that SLURM does not know any more."""
        job = Followed(submission, output, logged.state, logged.started)
        if id_of(submission) not in self._finished:
            self._finish(job)

    def finish(self, finished: Finished, accounted: AccountedJob | None) -> None:
        """Report an end that was handed out by `look`, now or once accounting has the job's figures."""
        job_id = id_of(finished.submission)
        job = self._judged.pop(job_id)
        job.finished, job.accounted = finished, accounted
        if finished.state == LOST or (accounted and _is_whole(accounted)):
            self._finish(job)
            return
        with self._lock:
            self._ended = {**self._ended, job_id: job}

    @property
    def jobs(self) -> dict[str, str]:
        """States of the jobs that are followed, by id, as last seen."""
        return {job_id: job.state for job_id, job in self._jobs.items()}

    @property
    def submissions(self) -> list[Submission]:
        """The jobs that are followed."""
        return [job.submission for job in self._jobs.values()]

    def look(self) -> list[End]:
        """Ends since the last call; asks accounting when that is due, without waiting for the answer."""
        now = time.monotonic()
        answer = self._answer()
        # Kept until they are handed out: an error on the way must lose none of them.
        self._new += [end for job in self._jobs.values() if (end := self._end(job, answer, now))]
        self._forget(self._new)
        if answer:
            self._note_held(answer)
            self._close(answer)
        if (self._jobs or self._ended) and self._questions.age >= self._pause(now):
            self._ask()
        ends, self._new = self._new, []
        return ends

    def close(self, seconds: float) -> None:
        """Wait for figures of jobs that ended, at most so many seconds; then they are reported without.

        While accounting does not answer, jobs are left to the next start that nothing else is known of.
        """
        end = time.monotonic() + seconds
        while self._ended and time.monotonic() < end:
            if answer := self._answer():
                self._close(answer)
                if not answer.has_accounts:
                    break
            elif self._questions.age >= _ASK_AGAIN:
                self._ask()
            time.sleep(0.1)
        for job in self._ended.values():
            if job.finished or job.accounted or job.missing_at or is_made(self._folder, job.submission):
                self._finish(job)

    def _forget(self, ends: list[End]) -> None:
        over = {id_of(end.submission) for end in ends}
        self._judged |= {job_id: job for job_id, job in self._jobs.items() if job_id in over}
        with self._lock:
            self._jobs = {job_id: job for job_id, job in self._jobs.items() if job_id not in over}

    def _end(self, job: Followed, answer: Answer | None, now: float) -> End | None:
        end = self._end_from_files(job, now) or (self._judge(job, answer, now) if answer else None)
        if end and end.succeeded:
            self._report_made(job)
        return end

    def _report_made(self, job: Followed, found: AccountedJob | None = None) -> None:
        """Report the end of a job that left its record, and before it the last start if the record came first."""
        reported = job.started if job.state == "RUNNING" else None
        restarted = reported is not None and started_again(self._folder, job.submission, reported)
        self._transitions.made(job, found, restarted)

    def _end_from_files(self, job: Followed, now: float) -> End | None:
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
        """Seconds between questions: few if a job has just left a failed attempt, or lacks only its figures."""
        jobs = (*self._jobs.values(), *self._ended.values())
        fresh = any(job.failed_at is not None and now - job.failed_at < _ASK_FOR for job in jobs)
        return min(_ASK_AGAIN, self._poll) if fresh else self._poll

    def _ask(self) -> None:
        now = time.monotonic()
        overdue = any(self._is_overdue(job, now) for job in self._jobs.values())
        self._questions.ask([*self._jobs, *self._ended], overdue)

    def _is_overdue(self, job: Followed, now: float) -> bool:
        """Whether accounting should have an end that it does not have, or a job that it does not know."""
        reported = job.failed_at is not None and now - job.failed_at > _ASK_FOR
        return reported or (job.missing_at is not None and now - job.missing_at > self._patience)

    def _answer(self) -> Answer | None:
        try:
            answer = self._questions.take()
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

    def _state(self, job: Followed, answer: Answer) -> str:
        """State as accounting has it now, or else the queue; else as it was before."""
        found = answer.job(job.submission)
        if found is None and answer.runs(job.submission):
            return "RUNNING"
        return found.state if found else job.state

    def _judge(self, job: Followed, answer: Answer, now: float) -> End | None:
        found = answer.job(job.submission)
        queued = answer.is_queued(job.submission)
        if queued:
            job.missing_at = None
        if found is None or (is_live(found.state) and queued is False):
            if found is None and answer.runs(job.submission):
                self._transitions.running(job)
            return self._missing(job, queued, now)
        if is_live(found.state) or queued:
            self._transitions.live(job, found, answer.waiting(job.submission))
            job.completed_at = job.failing_at = None
            return None
        self._transitions.start(job, found)
        if is_made(self._folder, job.submission):
            return End(job.submission, True, "COMPLETED")
        if succeeded(found.state):
            job.completed_at = job.completed_at or now
            return None
        if job.failing_at is None:
            # SLURM briefly reports a preempted job as failed before requeueing it: an end counts when seen twice.
            job.failing_at = job.failed_at = now
            return None
        # One of the job's own attempts: a later one may have succeeded, with a record that shows late.
        if found.state == Cut.OUT_OF_MEMORY.name and now - job.failing_at <= self._latency:
            return None
        message = why_failed(self._folder, found, job.submission, job.output)
        return End(job.submission, False, found.state, message, found)

    def _missing(self, job: Followed, queued: bool | None, now: float) -> End | None:
        """Accounting may be late, or without a database; a job that the queue does not have either is lost."""
        if queued:
            return None
        job.missing_at = job.missing_at or now
        if queued is None or now - job.missing_at <= self._patience:
            return None
        return End(job.submission, False, LOST, why_lost(self._folder, job.submission, job.output))

    def _close(self, answer: Answer) -> None:
        """Report the jobs that ended once accounting has all their figures, or had the time to."""
        now = time.monotonic()
        for job in self._ended.values():
            found = answer.job(job.submission)
            if found is None:
                job.missing_at = job.missing_at or now
                if now - job.missing_at > self._patience:
                    self._finish(job)
            elif not is_live(found.state):
                job.accounted, job.over_at = found, job.over_at or now
                if _is_whole(found) or now - job.over_at > _LATEST_FIGURES:
                    self._finish(job)

    def _finish(self, job: Followed) -> None:
        """Send the one `Finished` of a job, after the start that nobody saw."""
        job_id = job.job_id
        if job.accounted and is_live(job.state):
            self._transitions.start(job, job.accounted)
        finished = job.finished or self._unseen_end(job)
        self._tell(replace(finished, job=job.accounted))
        with self._lock:
            self._finished.add(job_id)
            self._ended = {other: job for other, job in self._ended.items() if other != job_id}

    def _unseen_end(self, job: Followed) -> Finished:
        """How a job ended while it was not followed, by what it left and what accounting has."""
        submission, found = job.submission, job.accounted
        if is_made(self._folder, submission):
            self._report_made(job, found)
            return Finished(submission, True, "COMPLETED")
        if found is None:
            if job.cancelled:
                return Finished(submission, False, "CANCELLED", job.cancelled)
            return Finished(submission, False, LOST, why_lost(self._folder, submission, job.output))
        if succeeded(found.state):
            return Finished(submission, True, found.state)
        why = job.cancelled or why_failed(self._folder, found, submission, job.output)
        return Finished(submission, False, found.state, why)

    def _note_held(self, answer: Answer) -> None:
        """Report reasons for which jobs wait that do not pass by themselves; only the queue has them."""
        for job in self._jobs.values() if answer.queued is not None else ():
            queued = answer.waiting(job.submission)
            self._transitions.held(job, queued.reason if queued else "")


def _is_whole(job: AccountedJob) -> bool:
    """True if accounting has all that it will ever have: for a node that was lost there are no figures."""
    return job.settled or job.state == "NODE_FAIL"


def with_id(submission: Submission, job_id: str) -> Submission:
    """The submission as SLURM accepted it."""
    return replace(submission, job_id=job_id)
