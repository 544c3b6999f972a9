"""What becomes of the jobs of a session, as its logs tell it: their states, what they did, what they used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from run_experiment.actionlog.entry import Entry, Log
from run_experiment.session import entries
from run_experiment.session.jobs import FollowedJob, SessionJobs
from run_experiment.session.notices import Notices
from run_experiment.session.outcomes import Outcome, outcome
from run_experiment.session.plan import SessionPlan
from run_experiment.session.rules import Rules
from run_experiment.slurm.events import Accounted, Changed
from run_experiment.slurm.states import is_live, succeeded

Write = Callable[[Log, Entry], None]
# Ends that SLURM may start a job again after; one that then made its target ran, whether that was seen or not.
_STARTED_AGAIN = frozenset({"NODE_FAIL", "PREEMPTED", "BOOT_FAIL"})


class States:
    """Tells each transition of a job once, with what it did meanwhile, and at its end what it used."""

    def __init__(self, plan: SessionPlan, jobs: SessionJobs, rules: Rules, write: Write) -> None:
        self._folder = plan.folder
        self._jobs = jobs
        self._rules = rules
        self._write = write
        self._notices = Notices(plan.folder, jobs.told)

    def changed(self, event: Changed) -> None:
        """Tell that a job's state changed."""
        followed = self._jobs.of(event.submission)
        if is_live(event.after):
            # It was none: SLURM starts the job again.
            self.tell_held(followed)
        if not followed.is_news(event):
            return
        # Why it failed follows with the notice of its end.
        if followed.is_current and followed.ended is None and not is_live(event.after) and not succeeded(event.after):
            followed.held = event
            return
        self._tell_change(followed, event)

    def tell_held(self, followed: FollowedJob) -> None:
        """Tell the end that waited for its reason."""
        held, followed.held = followed.held, None
        if held:
            self._tell_change(followed, held)

    def tell(self, followed: FollowedJob, after: str, result: str) -> None:
        """Tell a transition from the state told last."""
        before, followed.state = followed.state, after
        if before == after:
            return
        if after != "RUNNING":
            self._tell_notices(followed)
        entry = entries.transition(followed.job, followed.job_id, before, after, result)
        self._write(followed.job.log, entry)
        if after == "RUNNING":
            self._tell_notices(followed)

    def succeeded(self, followed: FollowedJob) -> None:
        """Tell a good end as soon as its record is there, before accounting has it."""
        if not is_live(followed.state) and followed.state not in _STARTED_AGAIN:
            return
        log, found = followed.job.log, self._outcome(followed)
        if followed.state != "RUNNING":
            self.tell(followed, "RUNNING", entries.started(log, found.started))
        self.tell(followed, "COMPLETED", entries.finished(log, found.text, found.ended))

    def _outcome(self, followed: FollowedJob) -> Outcome:
        return outcome(followed.job.log, self._folder / followed.job.target, followed.job_id)

    def tell_notices(self) -> None:
        """Tell what jobs did: of each what it did since its start was told, or since it was asked last."""
        for followed in self._jobs.in_flight():
            if followed.state == "RUNNING":
                self._tell_notices(followed)

    def accounted(self, followed: FollowedJob, event: Accounted) -> None:
        """Tell what a job used, once its end was noticed; an end without figures is told now at the latest."""
        followed.is_accounted = True
        followed.accounted = event.job or followed.accounted
        if event.job is None and followed.ended:
            failure = followed.failure(self._rules.log(followed.job.target))
            result = f"{failure or 'by its record'}; accounting does not say when"
            self.tell(followed, followed.verdict, result)
        if followed.ended or not followed.is_current:
            self.settle(followed)

    def settle(self, followed: FollowedJob) -> None:
        """Tell what a job used, once: after the notice of its end and accounting's figures."""
        if followed.is_settled:
            return
        followed.is_settled = True
        followed.end_seen = datetime.now().astimezone()
        self._tell_notices(followed)
        if followed.is_new or not self._jobs.told.has_metrics(followed.job_id):
            self._write(followed.job.log, followed.metrics(self._folder))

    def _tell_notices(self, followed: FollowedJob) -> None:
        for entry in self._notices.untold(followed):
            self._write(followed.job.log, entry)

    def _tell_change(self, followed: FollowedJob, event: Changed) -> None:
        followed.accounted = event.job
        failure = followed.failure(self._rules.log(followed.job.target)) if not is_live(event.after) else ""
        outcome = self._outcome(followed).text if succeeded(event.after) else ""
        result = entries.transition_result(followed.job.log, event.after, event.job, failure, outcome)
        self.tell(followed, event.after, result)
