"""What follows from the submissions and ends of a session's jobs: that all are submitted, and that all are complete."""

from __future__ import annotations

from collections.abc import Callable

from run_experiment.actionlog.entry import Entry, Log
from run_experiment.session.entries import jobs as entries
from run_experiment.session.jobs import FollowedJob, SessionJobs
from run_experiment.session.plan import SessionPlan
from run_experiment.session.states import States
from run_experiment.session.steps import Steps
from run_experiment.session.written import Written

Write = Callable[[Log, Entry], bool]


class Completion:
    """Writes ALL_SUBMITTED and ALL_COMPLETE, once each, and notes in the ledger which ends the logs have.

    After `detached` nothing is complete any more: the session ends before its jobs.
    """

    def __init__(
        self, plan: SessionPlan, jobs: SessionJobs, steps: Steps, states: States, written: Written, write: Write
    ) -> None:
        self._plan = plan
        self._jobs = jobs
        self._steps = steps
        self._states = states
        self._written = written
        self._write = write
        # Those whose ends the logs have, and the ledger does not yet.
        self._logged: list[FollowedJob] = []
        self._complete: set[Log] = set()
        self._all_submitted = False
        self.detached = False

    def progress(self) -> None:
        """Write that all of a kind are submitted, or are at their ends, if that is so now."""
        self.see_whether_all_submitted()
        for log in Log:
            if not self._jobs.to_be_submitted(log, self._steps.failed) and not self._jobs.unfinished(log):
                self._write_complete(log)

    def see_whether_all_submitted(self) -> None:
        """Write that no evaluation is still to be submitted, if that is so now."""
        wanted = {job.target for job in self._plan.wanted_of(Log.INSPECT)}
        if self._all_submitted or not wanted or self._jobs.to_be_submitted(Log.INSPECT, self._steps.failed):
            return
        self._all_submitted = True
        jobs = self._jobs.current_of(Log.INSPECT)
        attached, refused = sum(job.is_earlier for job in jobs), len(self._jobs.refused & wanted)
        blocked = len(self._jobs.blocked(self._steps.failed) & wanted)
        self._write(Log.INSPECT, entries.all_submitted([job.job_id for job in jobs], attached, refused, blocked))

    def note(self, followed: FollowedJob) -> None:
        """Note an end that the logs have, but not the last of a log before what follows from all of them.

        A session that begins after a crash writes that the jobs of a log are complete if one of them was not noted.
        """
        self._logged.append(followed)
        waiting = [job for job in self._logged if self._jobs.waits_for_figures(job.job.log, self._steps.failed)]
        for one in self._logged:
            if one not in waiting:
                self._states.note(one)
        self._logged = waiting

    def _write_complete(self, log: Log) -> None:
        jobs = self._jobs.current_of(log) or self._jobs.ended_before(log)
        if not jobs or log in self._complete or self.detached:
            return
        self._complete.add(log)
        # The session before may have been killed when it had written this, before it noted that nothing is missing.
        told = (self._written.is_complete(job.job.subject, job.job_id, log) for job in jobs)
        if not any(job.is_new for job in jobs) and all(told):
            return
        wanted, made = {job.target for job in self._plan.wanted_of(log)}, {job.job.target for job in jobs}
        # What ended before this session began is complete in its plan, but counts as one of its jobs.
        before = len(self._plan.complete[log] - made)
        seconds = (max(job.ended_at for job in jobs) - self._jobs.first_submitted(log)).total_seconds()
        verdicts = [job.verdict for job in jobs]
        self._write(log, entries.completion(log, verdicts, before, len(wanted - made), seconds))
