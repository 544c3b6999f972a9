"""Follows submitted jobs to their ends: good ends are seen in records, states and bad ends come from accounting.

Snakemake hears of an end at once (`look`); the logs get it as one `Finished`, once accounting has the job's figures.

Records are looked at every time, which costs SLURM nothing; accounting is asked seldom, for all jobs at once, and out
of turn when a job left a failed attempt.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from run_experiment.common.json_files import read_record
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.errors import SlurmError
from run_experiment.slurm.events import Finished, Polled, PollFailed
from run_experiment.slurm.ledger import Logged, Submission
from run_experiment.slurm.states import is_live, is_waiting, succeeded
from snakemake_executor_plugin_slurm_attached.ends.left_behind import (
    attempts,
    has_config,
    is_made,
    why_failed,
    why_lost,
)
from snakemake_executor_plugin_slurm_attached.ends.retry_policy import Cut
from snakemake_executor_plugin_slurm_attached.ends.verdict import End
from snakemake_executor_plugin_slurm_attached.following.ended import Ended
from snakemake_executor_plugin_slurm_attached.following.questions import Answer, Questions
from snakemake_executor_plugin_slurm_attached.following.transitions import Followed, Tell, Transitions, id_of
from snakemake_executor_plugin_slurm_attached.submissions import LOST

# How soon accounting is asked about the first job.
_FIRST_QUESTION = 5.0
# Accounting shows an end some seconds late: how often and how long it is asked about a failed attempt.
_ASK_AGAIN = 3.0
_ASK_FOR = 45.0
# Every how many polls the queue is asked why jobs wait: of those that just began to, and of others.
_EXPLANATION, _ANOTHER = 2, 5


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
        self._transitions = Transitions(folder, tell)
        # Those that are over; also those that ended while nothing followed them.
        self.ended = Ended(folder, patience, self._transitions, tell)
        # Replaced under the lock, never changed: other threads read them.
        self._jobs: dict[str, Followed] = {}
        # Those whose ends were handed out, until `finish`.
        self._judged: dict[str, Followed] = {}
        self._lock = threading.Lock()
        # Ends that were not handed out yet.
        self._new: list[End] = []
        self._questions = Questions()
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
        self.ended.reopen(job.job_id)
        with self._lock:
            self._jobs = {**self._jobs, job.job_id: job}

    def finish(self, finished: Finished, accounted: AccountedJob | None) -> None:
        """Report an end that was handed out by `look`."""
        self.ended.add(self._judged.pop(id_of(finished.submission)), finished, accounted)

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
            self.ended.update(answer)
        if (self._jobs or self.ended.jobs) and self._questions.age >= self._pause(now):
            self._ask()
        ends, self._new = self._new, []
        return ends

    def close(self, seconds: float) -> None:
        """Wait for figures of jobs that ended, at most so many seconds; then they are reported without.

        While accounting does not answer, jobs are left to the next start that nothing else is known of.
        """
        end = time.monotonic() + seconds
        while self.ended.jobs and time.monotonic() < end:
            if answer := self._answer():
                self.ended.update(answer)
                if not answer.has_accounts:
                    break
            elif self._questions.age >= _ASK_AGAIN:
                self._ask()
            time.sleep(0.1)
        self.ended.close()

    def _forget(self, ends: list[End]) -> None:
        over = {id_of(end.submission) for end in ends}
        self._judged |= {job_id: job for job_id, job in self._jobs.items() if job_id in over}
        with self._lock:
            self._jobs = {job_id: job for job_id, job in self._jobs.items() if job_id not in over}

    def _end(self, job: Followed, answer: Answer | None, now: float) -> End | None:
        end = self._end_from_files(job, now) or (self._judge(job, answer, now) if answer else None)
        if end and end.succeeded:
            self._transitions.made(job)
        return end

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
        jobs = (*self._jobs.values(), *self.ended.jobs.values())
        fresh = any(job.failed_at is not None and now - job.failed_at < _ASK_FOR for job in jobs)
        return min(_ASK_AGAIN, self._poll) if fresh else self._poll

    def _ask(self) -> None:
        now = time.monotonic()
        overdue = any(self._is_overdue(job, now) for job in self._jobs.values())
        explained = [job.explained for job in self._jobs.values() if is_waiting(job.state)]
        every = _ANOTHER if all(explained) else _EXPLANATION
        patience = min(self._patience, every * self._poll) if explained else self._patience
        self._questions.ask([*self._jobs, *self.ended.jobs], 0 if overdue else patience)

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

    def _note_held(self, answer: Answer) -> None:
        """Report reasons for which jobs wait; accounting keeps those that are over, so only the queue is believed."""
        if answer.queued is not None:
            waiting = ((job, answer.waiting(job.submission)) for job in self._jobs.values())
            self._transitions.held([(job, queued.reason if queued else "") for job, queued in waiting])
