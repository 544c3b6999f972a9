"""Writes the action logs of a session from events; it starts nothing and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from run_experiment.actionlog.entry import ActionLogs, Entry, Log, link_logs
from run_experiment.jobscripts.foreign import is_scaffolded
from run_experiment.session.completion import Completion
from run_experiment.session.entries import jobs as entries
from run_experiment.session.events import RuleFailed, RuleFinished, Rules, RuleStarted, Tick
from run_experiment.session.jobs import FollowedJob, SessionJobs
from run_experiment.session.local_jobs import LocalJobs
from run_experiment.session.outcomes import outcome
from run_experiment.session.pace import PaceWatch
from run_experiment.session.plan import SessionPlan
from run_experiment.session.states import States
from run_experiment.session.steps import Steps
from run_experiment.session.written import Written
from run_experiment.slurm.events import (
    Cancelled,
    Changed,
    Delayed,
    Detached,
    Finished,
    Held,
    Polled,
    PollFailed,
    QueueFull,
    Reattached,
    Refused,
    Submitted,
    Unlogged,
)
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.ledger import Ledger, Logged, Submission
from run_experiment.slurm.states import succeeded
from run_experiment.slurm.usage import gpu_status_text

# Polls from one look at the GPUs, and at the speed of trainings, to the next.
_POLLS = 5


class SessionLog:
    """The session's entries, each written when the thing happens.

    Begin it when the session is certain to do its work; `show` is called with each entry. `observe` takes events of
    `slurm.events` and `session.events`.
    """

    def __init__(self, plan: SessionPlan, show: Callable[[Entry], None] = lambda entry: None) -> None:
        self._plan = plan
        self._show = show
        self._logs = ActionLogs(plan.folder)
        if is_scaffolded(plan.folder):
            link_logs(plan.folder)
        ledger = Ledger(plan.folder / LEDGER) if plan.is_attached else None
        self._written = Written(plan.folder)
        self._jobs = SessionJobs(plan, self._written, _last_logged(ledger))
        # Ids of the jobs whose submissions this session wrote.
        self._submitted: set[str] = set()
        self._delays: dict[str, str] = {}
        self._rules = Rules(plan)
        self._polls = 0
        self._pace = PaceWatch(plan, self._written)
        self._local = None if plan.is_attached else LocalJobs(plan.folder, plan.executor)
        self._steps = Steps(plan, self._write)
        self._states = States(plan, self._jobs, self._rules, self._written, self._write, ledger)
        self._completion = Completion(plan, self._jobs, self._steps, self._states, self._written, self._write)
        self._handlers: dict[type, Callable[[Any], None]] = {
            Submitted: self._on_submitted,
            Delayed: self._on_delayed,
            QueueFull: self._on_queue_full,
            Refused: self._on_refused,
            Reattached: self._on_reattached,
            Unlogged: self._on_unlogged,
            Cancelled: self._on_cancelled,
            Polled: self._on_polled,
            PollFailed: self._on_poll_failed,
            Changed: self._on_changed,
            Held: self._on_held,
            Finished: self._on_finished,
            Detached: self._on_detached,
            RuleStarted: self._on_rule_started,
            RuleFinished: self._on_rule_finished,
            RuleFailed: self._on_rule_failed,
            Tick: self._on_tick,
        }
        self._logs.write(tuple(Log), entries.discovery(plan))
        for log in Log:
            for entry in entries.identification(plan, log):
                self._write(log, entry)
        for target, offered in plan.taken.items():
            made = outcome(Log.INSPECT, plan.folder / target, offered.job_id)
            self._write(Log.INSPECT, entries.reuse(plan.jobs[target], offered, made.text, made.ended))

    def observe(self, event: object) -> None:
        """Write what an event has to say; what is no event has nothing."""
        if handler := self._handlers.get(type(event)):
            handler(event)

    def close(self) -> str | None:
        """Write what only the end of the session shows; returns which log lacks what, None if nothing is missing."""
        # Snakemake was interrupted, or ended at the first failure, before it came to these.
        if not self._completion.detached:
            self._detach([job.submission for job in self._jobs.in_flight()], cancelled=False)
        return self._logs.incomplete()

    def _write(self, log: Log, entry: Entry) -> bool:
        is_written = self._logs.write(log, entry)
        self._show(entry)
        return is_written

    # Submissions

    def _on_submitted(self, event: Submitted) -> None:
        followed = self._jobs.follow(event.submission)
        self._submitted.add(followed.job_id)
        self._delays.pop(event.submission.target, None)
        job = followed.job
        # The first of its kind waits for no other.
        first = all(other is followed or other.job.log is not job.log for other in self._jobs.current.values())
        stagger = 0 if first else self._rules.stagger(job.target)
        self._write(job.log, entries.submission(self._plan, job, stagger, followed.job_id))
        self._completion.see_whether_all_submitted()

    def _on_delayed(self, event: Delayed) -> None:
        # Tried again and again: logged when the reason is new.
        if self._delays.get(event.submission.target) == event.reason:
            return
        self._delays[event.submission.target] = event.reason
        reason = f"{event.reason}; retrying until SLURM accepts it"
        self._write_refusal(event.submission.target, reason)

    def _on_queue_full(self, event: QueueFull) -> None:
        for log in Log:
            if waiting := self._jobs.to_be_submitted(log, self._steps.failed):
                self._write(log, entries.queue_full(len(waiting), event.text))

    def _on_refused(self, event: Refused) -> None:
        self._refuse(event.submission.target, event.reason)

    def _refuse(self, target: str, reason: str) -> None:
        if target in self._jobs.refused:
            return
        self._jobs.refuse(target)
        self._write_refusal(target, reason)
        self._steps.training_missing(self._jobs.job(target), reason.partition("\n")[0])
        self._completion.progress()

    def _write_refusal(self, target: str, reason: str) -> None:
        job = self._jobs.job(target)
        self._write(job.log, entries.submission_failure(self._plan, job, reason))

    def _on_reattached(self, event: Reattached) -> None:
        submission = event.submission
        followed = self._jobs.follow(submission, earlier=True)
        self._write_missing_submission(followed)
        entry = entries.reattachment(followed.job, followed.job_id, submission.time, event.state)
        self._write(followed.job.log, entry)
        self._completion.see_whether_all_submitted()

    def _on_unlogged(self, event: Unlogged) -> None:
        self._write_missing_submission(self._jobs.expect(event.submission))

    def _on_cancelled(self, event: Cancelled) -> None:
        self._write_missing_submission(self._jobs.expect(event.submission))

    def _write_missing_submission(self, followed: FollowedJob) -> None:
        """Write that a job was submitted if the session that did so was killed before it could."""
        job, job_id = followed.job, followed.job_id
        if job_id not in self._submitted and not self._written.has_submission(job.subject, job_id):
            self._submitted.add(job_id)
            self._write(job.log, entries.earlier_submission(self._plan, job, job_id))

    # States

    def _on_polled(self, event: Polled) -> None:
        self._polls += 1
        for log in Log:
            waits = event.restored and self._jobs.unfinished(log)
            if waits or any(job.job.log is log for job in self._jobs.in_flight()):
                states = [
                    event.states.get(job.job.target, job.state) if job.finished is None else job.verdict
                    for job in self._jobs.current.values()
                    if job.job.log is log
                ]
                waiting = len(self._jobs.to_be_submitted(log, self._steps.failed))
                self._write(log, entries.status(self._plan, states, waiting, event.restored))
        self._states.log_notices()
        if self._polls % _POLLS == 0:
            for job in self._jobs.in_flight():
                if event.states.get(job.job.target) == "RUNNING":
                    self._write_gpu_status(job)
                    if slow := self._pace.entry(job):
                        self._write(job.job.log, slow)

    def _write_gpu_status(self, job: FollowedJob) -> None:
        samples = job.samples(self._plan.folder)
        status = gpu_status_text(samples) if samples else None
        if status:
            self._write(job.job.log, job.gpu_status(*status))

    def _on_poll_failed(self, event: PollFailed) -> None:
        for log in Log:
            if self._jobs.unfinished(log):
                self._write(log, entries.status_failure(self._plan, event.reason))

    def _on_changed(self, event: Changed) -> None:
        followed = self._jobs.of(event.submission)
        self._states.changed(followed, event)
        if succeeded(event.after):
            self._see_whether_trained(followed)

    def _on_held(self, event: Held) -> None:
        for followed in map(self._jobs.of, event.submissions):
            entry = entries.held(followed.job, followed.job_id, followed.state, event.reason, event.remedy)
            self._write(followed.job.log, entry)

    # Ends

    def _on_finished(self, event: Finished) -> None:
        followed = self._jobs.of(event.submission)
        is_logged = self._states.finished(followed, event)
        if event.again:
            # What comes after it waits for the next job.
            self._jobs.give_way(followed)
        else:
            self._see_whether_trained(followed)
        self._completion.progress()
        if is_logged:
            self._completion.note(followed)

    def _see_whether_trained(self, followed: FollowedJob) -> None:
        if followed.is_current and followed.job.log is Log.TORCHTUNE:
            self._steps.training_ended(followed, attached=self._plan.is_attached)

    def _on_detached(self, event: Detached) -> None:
        self._detach(event.submissions, event.cancelled)

    def _detach(self, submissions: Sequence[Submission], cancelled: bool) -> None:
        self._completion.detached = True
        self._states.log_notices()
        for log in Log:
            ids = [str(one.job_id) for one in submissions if self._jobs.job(one.target).log is log]
            waiting = len(self._jobs.to_be_submitted(log, self._steps.failed))
            if ids or waiting:
                self._write(log, entries.detachment(log, ids, waiting, cancelled, self._plan.is_local))

    # Rules

    def _on_rule_started(self, event: RuleStarted) -> None:
        target = self._rules.started(event)
        if target is None:
            return
        if target not in self._plan.jobs:
            self._steps.started(target)
        elif self._local:
            self._observe_all(self._local.started(event.number, self._plan.jobs[target]))

    def _on_rule_finished(self, event: RuleFinished) -> None:
        self._on_rule_ended(event.number, succeeded=True, message="")

    def _on_rule_failed(self, event: RuleFailed) -> None:
        self._on_rule_ended(event.number, succeeded=False, message=event.message)

    def _on_rule_ended(self, number: int, succeeded: bool, message: str) -> None:
        target = self._rules.target(number)
        if target is None:
            return
        if target not in self._plan.jobs:
            self._steps.ended(target, succeeded)
        elif self._local:
            self._observe_all(self._local.ended(number, succeeded, self._rules.log(target)))
        elif not succeeded and target not in self._jobs.current:
            self._refuse(target, message)
        self._completion.progress()

    def _on_tick(self, event: Tick) -> None:
        if self._local:
            self.observe(self._local.looked_at())

    def _observe_all(self, events: list[Any]) -> None:
        for event in events:
            self.observe(event)


def _last_logged(ledger: Ledger | None) -> Mapping[str, Logged]:
    try:
        return ledger.last_logged() if ledger else {}
    # Who submits says that the ledger cannot be read.
    except OSError:
        return {}
