"""States of an experiment's jobs, found without following them: from the ledger, SLURM, locks and failed attempts.

Nothing is written, and no lock is taken that could make a job fail.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from run_experiment.attempts.files import ENDED, LOG
from run_experiment.attempts.history import Attempt
from run_experiment.common.clock import moment_of, now
from run_experiment.common.process_identity import started_at
from run_experiment.planning.snapshot import Snapshot
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.ends import describe
from run_experiment.slurm.job_ids import is_same, slurm_id
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live, is_waiting, succeeded
from run_experiment.slurm.waits import remedy
from run_experiment.status.items import State
from run_experiment.status.sources import (
    ask,
    aware,
    first_line,
)

# How late accounting may be, or a record on a shared file system.
_LATE = timedelta(seconds=60)
_LIVE = frozenset({State.RUNNING, State.PENDING})
# SLURM's states of jobs that have begun and do not go on.
_STOPPED = ("SUSPENDED", "STOPPED")


@dataclass(frozen=True)
class Evidence:
    """State of the newest job for a target. `since` is when the state began, `seconds` how long a job that ended ran;
    None if unknown.

    `certain` is False if this is only the last known state; `config_hash` may be only the beginning of the hash, or
    None. `attempt` is the number (from 1) of a live job's attempt. A job that `is_stuck` does not go on by itself.
    """

    state: State
    job_id: str | None
    since: datetime | None
    reason: str = ""
    read_on: str | None = None
    slurm_state: str | None = None
    certain: bool = True
    config_hash: str | None = None
    attempt: int | None = None
    is_stuck: bool = False
    seconds: float | None = None


class Jobs:
    """Jobs of an experiment at one moment. Raises OSError if the ledger cannot be read."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._folder = snapshot.folder
        self._now = now()
        self._open = snapshot.ledger.open
        self.answer = ask(self._open.values())

    def live(self, target: str, log: str) -> Evidence | None:
        """State of a job for the record `target` whose end was not recorded; `log` is its script's log."""
        if (submission := self._open.get(target)) is not None:
            found = replace(self._submitted(submission, log), config_hash=submission.config_hash)
        elif (holder := self._snapshot.holder(target)) is not None:
            reason = f"on this machine as process {holder}"
            found = Evidence(State.RUNNING, None, started_at(holder), reason, log)
        else:
            return None
        return replace(found, attempt=self._number(target, found) if found.state in _LIVE else None)

    def ended(self, attempt: Attempt, log: str) -> Evidence:
        """State of an attempt that failed; `log` is its script's log."""
        state = State.CANCELLED if attempt.was_cancelled else State.FAILED
        folder = attempt.folder.relative_to(self._folder)
        read_on = self._existing(log)
        if attempt.own_error is not None:
            read_on = self._existing(f"{folder}/{LOG}") or f"{folder}/{ENDED}"
        return Evidence(
            State.MISSING if attempt.may_run else state,
            attempt.job_id or None,
            attempt.moment,
            attempt.why,
            read_on,
            attempt.slurm_state,
            certain=not attempt.may_run,
            seconds=_between(attempt.began, attempt.ended),
        )

    def _submitted(self, submission: Submission, log: str) -> Evidence:
        job_id, since = submission.job_id, moment_of(submission.time)
        is_new = since is not None and self._now - since < _LATE
        if job_id is None:
            reason = "is being submitted" if is_new else "may have been submitted; run the same command to find out"
            return Evidence(State.PENDING, None, since, reason, certain=False)
        if found := self._answered(submission, job_id, since, log):
            return found
        if (left := self._attempt(submission)) and left.is_over:
            return self.ended(left, log)
        # squeue was asked only for the user's own jobs.
        if self.answer.source is None or (self.answer.source == "squeue" and submission.uid != os.getuid()):
            return self._last_known(submission, log)
        if is_new:
            return Evidence(State.PENDING, job_id, since, "SLURM does not show it yet", certain=False)
        reason = f"SLURM no longer knows job {job_id}, and it left no record"
        return Evidence(State.MISSING, job_id, since, reason, self._existing(log), certain=False)

    def _answered(self, submission: Submission, job_id: str, since: datetime | None, log: str) -> Evidence | None:
        """SLURM's answer on a job; None if there is none."""
        job = self.answer.accounted.get(job_id)
        if job is not None and is_same(job, submission):
            return self._accounted(submission, job, log)
        queued = self._queued(submission, job_id)
        return _queued(queued, since) if queued else None

    def _queued(self, submission: Submission, job_id: str) -> QueuedJob | None:
        queued = self.answer.queued.get(slurm_id(job_id))
        return replace(queued, job_id=job_id) if queued and queued.comment == submission.comment else None

    def _accounted(self, submission: Submission, job: AccountedJob, log: str) -> Evidence:
        if is_waiting(job.state):
            queued = self._queued(submission, job.job_id)
            # Accounting keeps reasons that are over.
            found = _waiting(job.job_id, aware(job.submitted), queued.reason if queued else job.reason, bool(queued))
            return replace(found, read_on=self._existing(log), slurm_state=job.state)
        if is_live(job.state):
            return replace(_running(job.job_id, aware(job.started), job.state), read_on=self._existing(log))
        ended = aware(job.ended)
        if succeeded(job.state) and ended and self._now - ended < _LATE:
            return Evidence(State.RUNNING, job.job_id, ended, "it ended; its record is not visible yet", log, job.state)
        left = self._attempt(submission)
        reason = f"SLURM job {job.job_id} ended as {describe(job)}"
        reason += " and left no record" if succeeded(job.state) else ""
        read_on = self._existing(log)
        if left and left.own_error is not None:
            kept = self.ended(left, log)
            failed = job.state == "FAILED"
            reason, read_on = kept.reason if failed else f"{reason}: {first_line(left.own_error)}", kept.read_on
        state = State.CANCELLED if job.state == "CANCELLED" else State.FAILED
        ran = _between(aware(job.started), ended)
        return Evidence(state, job.job_id, ended, reason, read_on, job.state, seconds=ran)

    def _last_known(self, submission: Submission, log: str) -> Evidence:
        """State of a job without an answer from SLURM: running if it said that it began."""
        left, read_on = self._attempt(submission), self._existing(log)
        if left:
            return Evidence(State.RUNNING, submission.job_id, left.began, "last known state", read_on, certain=False)
        since = moment_of(submission.time)
        return Evidence(State.PENDING, submission.job_id, since, "last known state", certain=False)

    def _attempt(self, submission: Submission) -> Attempt | None:
        """The job's last attempt that left files."""
        lefts = self._snapshot.history.at(submission.target)
        return next((left for left in reversed(lefts) if left.job_id == submission.job_id), None)

    def _number(self, target: str, job: Evidence) -> int:
        """Number of a live job's attempt, among those with its configuration."""
        known = [None, "", job.config_hash]
        submitted = [left for left in self._snapshot.history.at(target) if left.was_submitted]
        lefts = [left for left in submitted if not job.config_hash or left.config_hash in known]
        has_begun = bool(lefts) and not lefts[-1].is_over and job.job_id in (None, lefts[-1].job_id)
        return len(lefts) + (not has_begun)

    def _existing(self, log: str) -> str | None:
        return log if (self._folder / log).is_file() else None


def _between(began: datetime | None, ended: datetime | None) -> float | None:
    return max(0.0, (ended - began).total_seconds()) if began and ended else None


def _queued(job: QueuedJob, submitted: datetime | None) -> Evidence:
    if is_waiting(job.state):
        return replace(_waiting(job.job_id, submitted, job.reason), slurm_state=job.state)
    return _running(job.job_id, None, job.state)


def _waiting(job_id: str, submitted: datetime | None, reason: str, is_of_now: bool = True) -> Evidence:
    """A job that waits, with what to do if the reason does not pass by itself."""
    advice = remedy(reason, job_id) if is_of_now else ""
    text = f"{reason}: {advice}" if advice else reason
    return Evidence(State.PENDING, job_id, submitted, text, is_stuck=bool(advice))


def _running(job_id: str, started: datetime | None, slurm_state: str) -> Evidence:
    is_stuck = slurm_state in _STOPPED
    reason = f"{slurm_state}: until somebody resumes it" if is_stuck else ""
    return Evidence(State.RUNNING, job_id, started, reason, slurm_state=slurm_state, is_stuck=is_stuck)
