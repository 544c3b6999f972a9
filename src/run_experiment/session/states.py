"""What becomes of the jobs of a session, as its logs have it: their states, what they did, what they used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from run_experiment.actionlog.entry import Entry, Log
from run_experiment.attempts.starts import started_again
from run_experiment.common.clock import CLOCK_SKEW
from run_experiment.session.entries import jobs as entries
from run_experiment.session.events import Rules
from run_experiment.session.jobs import FollowedJob, SessionJobs
from run_experiment.session.notices import Notices
from run_experiment.session.outcomes import Outcome, is_made, outcome
from run_experiment.session.plan import SessionPlan
from run_experiment.session.written import Written
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.events import Changed, Finished
from run_experiment.slurm.ledger import Ledger
from run_experiment.slurm.states import is_live, is_waiting, succeeded

Write = Callable[[Log, Entry], bool]


class States:
    """Logs each transition of a job once, with what it did meanwhile, and what it used.

    The ledger keeps what is logged, after the logs have it: no crash can lose an entry. It is None for jobs that end
    with their session.
    """

    def __init__(
        self,
        plan: SessionPlan,
        jobs: SessionJobs,
        rules: Rules,
        written: Written,
        write: Write,
        ledger: Ledger | None,
    ) -> None:
        self._folder = plan.folder
        self._jobs = jobs
        self._rules = rules
        self._write = write
        self._ledger = ledger
        self._written = written
        self._notices = Notices(plan.folder, self._written)

    def changed(self, followed: FollowedJob, event: Changed) -> None:
        """Log that a job waits, runs, or made its target."""
        followed.accounted = event.job or followed.accounted
        if self._is_over(followed) and is_live(event.after):
            return
        if self._is_later_start(followed, event):
            self._log_state(followed, "PENDING", entries.waits("requeued"))
        if event.job:
            result = self._result(followed, event.after, event.job)
        else:
            result = self._result_by_record(followed, event.after)
        self._log_state(followed, event.after, result, event.job.started if event.job else None)

    def _is_over(self, followed: FollowedJob) -> bool:
        """Whether the logs have the end of a job that made its target; the ledger may lack it after a crash."""
        log, record = followed.job.log, self._folder / followed.job.target
        return followed.state == "COMPLETED" and is_made(log, record, followed.job_id)

    def _is_later_start(self, followed: FollowedJob, event: Changed) -> bool:
        """Whether a job has started again since the start that the logs have and the ledger did not come to have."""
        if not event.after == followed.state == "RUNNING":
            return False
        logged = self._written.started(followed.job.subject, followed.job_id)
        if logged is None:
            return False
        if event.job is None:
            return started_again(self._folder, followed.submission.target, followed.job_id, logged)
        return event.job.started is not None and event.job.started - logged > CLOCK_SKEW

    def finished(self, followed: FollowedJob, event: Finished) -> bool:
        """Log a job's end, if its record did not say it before, and what it used; False if the logs lack that."""
        followed.finished = event
        ended = event.job if event.job and not is_live(event.job.state) else None
        followed.accounted = event.job or followed.accounted
        if ended:
            state = "COMPLETED" if event.succeeded else ended.state
            self._log_state(followed, state, self._result(followed, state, ended))
        else:
            failure = followed.failure(self._rules.log(followed.job.target))
            result = f"{failure or 'by its record'}; accounting does not say when"
            self._log_state(followed, event.verdict, result)
        self._log_notices(followed)
        return self._log_metrics(followed)

    def note(self, followed: FollowedJob) -> None:
        """Note that the logs have all of a job and what follows from its end: the next start has nothing to add."""
        if self._ledger:
            # The next start logs what could not be noted unless the logs have it.
            with suppress(OSError):
                self._ledger.accounted(followed.job_id)

    def _log_metrics(self, followed: FollowedJob) -> bool:
        """Log what a job used, once; False if the log could not take it."""
        is_there = not followed.is_new and self._written.has_metrics(followed.job.subject, followed.job_id)
        return is_there or self._write(followed.job.log, followed.metrics(self._folder))

    def log_notices(self) -> None:
        """Log what jobs did: each of them since its start was logged, or since the last call."""
        for followed in self._jobs.in_flight():
            if followed.state == "RUNNING":
                self._log_notices(followed)

    def _log_state(self, followed: FollowedJob, after: str, result: str, started: datetime | None = None) -> None:
        """Log a transition from the state logged last, then note it in the ledger."""
        before, followed.state = followed.state, after
        if before == after:
            if not followed.is_new and not self._jobs.is_noted(followed):
                self._note_state(followed, started)
            return
        if after != "RUNNING":
            self._log_notices(followed)
        entry = entries.transition(followed.job, followed.job_id, before, after, result)
        if self._write(followed.job.log, entry):
            self._note_state(followed, started)
        if after == "RUNNING":
            self._log_notices(followed)

    def _note_state(self, followed: FollowedJob, started: datetime | None) -> None:
        if self._ledger:
            # As in `note`.
            with suppress(OSError):
                self._ledger.logged(followed.job_id, followed.state, started)

    def _log_notices(self, followed: FollowedJob) -> None:
        for entry in self._notices.new(followed):
            self._write(followed.job.log, entry)

    def _result(self, followed: FollowedJob, state: str, job: AccountedJob) -> str:
        failure = followed.failure(self._rules.log(followed.job.target)) if not is_live(state) else ""
        outcome = self._outcome(followed).text if succeeded(state) else ""
        return entries.transition_result(followed.job.log, state, job, failure, outcome)

    def _result_by_record(self, followed: FollowedJob, state: str) -> str:
        """What a record says of a job's start or end, before accounting has it."""
        log, found = followed.job.log, self._outcome(followed)
        if is_waiting(state):
            return entries.waits("requeued")
        if state == "RUNNING":
            return entries.started(log, found.started)
        return entries.finished(log, found.text, found.ended)

    def _outcome(self, followed: FollowedJob) -> Outcome:
        return outcome(followed.job.log, self._folder / followed.job.target, followed.job_id)
