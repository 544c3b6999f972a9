"""Jobs that ended: of each, the logs get one `Finished`, once accounting has its figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.events import Event, Finished
from run_experiment.slurm.ledger import Logged, Submission
from run_experiment.slurm.states import is_live, succeeded
from snakemake_executor_plugin_slurm_attached.ends.left_behind import is_made, why_failed, why_lost
from snakemake_executor_plugin_slurm_attached.following.questions import Answer
from snakemake_executor_plugin_slurm_attached.following.transitions import Followed, Transitions, id_of
from snakemake_executor_plugin_slurm_attached.submissions import LOST

# How long, in seconds, the figures of a job may come later than its end.
_LATEST_FIGURES = 60.0

Tell = Callable[[Event], None]


class Ended:
    """The jobs that ended, by id, until accounting has their figures, or has not known them for `patience` seconds."""

    def __init__(self, folder: Path, patience: float, transitions: Transitions, tell: Tell) -> None:
        self._folder = folder
        self._patience = patience
        self._transitions = transitions
        self._tell = tell
        # Replaced under the lock, never changed: other threads read them.
        self._jobs: dict[str, Followed] = {}
        # All whose `Finished` was sent.
        self._finished: set[str] = set()
        self._lock = threading.Lock()

    @property
    def jobs(self) -> dict[str, Followed]:
        """Those that lack figures, by id."""
        return self._jobs

    def reopen(self, job_id: str) -> None:
        """Forget a job that is followed again: somebody may have requeued it after its end."""
        with self._lock:
            self._finished.discard(job_id)
            self._jobs = {other: job for other, job in self._jobs.items() if other != job_id}

    def add(self, job: Followed, finished: Finished, accounted: AccountedJob | None) -> None:
        """Report the end of a job that was followed, now or once accounting has its figures."""
        job.finished, job.accounted = finished, accounted
        if finished.state == LOST or (accounted and _is_whole(accounted)):
            self._finish(job)
            return
        with self._lock:
            self._jobs = {**self._jobs, job.job_id: job}

    def add_unseen(
        self, submission: Submission, output: Path, logged: Logged, known: AccountedJob | None = None, why: str = ""
    ) -> None:
        """Report a job that ended while it was not followed, once accounting has its figures.

        `known` is what accounting has of it already, `why` the reason if this command cancelled it.
        """
        job = Followed(submission, output, logged.state, logged.started, accounted=known, cancelled=why)
        with self._lock:
            if id_of(submission) in self._jobs or id_of(submission) in self._finished:
                return
            self._jobs = {**self._jobs, id_of(submission): job}
        if known:
            self._transitions.start(job, known)
        if is_made(self._folder, submission):
            self._transitions.made(job, known)
        if known and _is_whole(known):
            self._finish(job)

    def add_forgotten(self, submission: Submission, output: Path, logged: Logged) -> None:
        """Report a job that SLURM does not know any more."""
        job = Followed(submission, output, logged.state, logged.started)
        if id_of(submission) not in self._finished:
            self._finish(job)

    def add_withdrawn(self, submission: Submission, output: Path, logged: Logged, why: str) -> None:
        """Report that a job of several targets is not to make this one, or is done with it: it has no figures yet."""
        job = Followed(submission, output, logged.state, logged.started)
        if not is_made(self._folder, submission):
            job.finished = Finished(submission, False, "CANCELLED", why)
        self._finish(job)

    def update(self, answer: Answer) -> None:
        """Report the jobs that ended once accounting has all their figures, or had the time to."""
        now = time.monotonic()
        for job in self._jobs.values():
            found = answer.job(job.submission)
            if found is None:
                job.missing_at = job.missing_at or now
                if now - job.missing_at > self._patience:
                    self._finish(job)
            elif not is_live(found.state):
                job.accounted, job.over_at = found, job.over_at or now
                if _is_whole(found) or now - job.over_at > _LATEST_FIGURES:
                    self._finish(job)

    def close(self) -> None:
        """Report those whose end is known without figures; the others are left to the next start."""
        for job in self._jobs.values():
            if job.finished or job.accounted or job.missing_at or is_made(self._folder, job.submission):
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
            self._jobs = {other: job for other, job in self._jobs.items() if other != job_id}

    def _unseen_end(self, job: Followed) -> Finished:
        """How a job ended while it was not followed, by what it left and what accounting has."""
        submission, found = job.submission, job.accounted
        if is_made(self._folder, submission):
            self._transitions.made(job, found)
            return Finished(submission, True, "COMPLETED")
        if found is None:
            if job.cancelled:
                return Finished(submission, False, "CANCELLED", job.cancelled)
            return Finished(submission, False, LOST, why_lost(self._folder, submission, job.output))
        if succeeded(found.state):
            return Finished(submission, True, found.state)
        why = job.cancelled or why_failed(self._folder, found, submission, job.output)
        return Finished(submission, False, found.state, why)


def _is_whole(job: AccountedJob) -> bool:
    """True if accounting has all that it will ever have: for a node that was lost there are no figures."""
    return job.settled or job.state == "NODE_FAIL"
