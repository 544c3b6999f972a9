"""The jobs that a session follows, as far as the action logs have told of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pandas as pd

from run_experiment.actionlog.entry import OF_JOBS, Action, Entry, Log
from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common import paths
from run_experiment.common.json_files import read_record
from run_experiment.machine.gpu_samples import GpuSummary, summarize
from run_experiment.session.entries import failure_text
from run_experiment.session.plan import SessionJob, SessionPlan
from run_experiment.slurm.clients import AccountedJob
from run_experiment.slurm.events import Changed, Ended
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live, succeeded
from run_experiment.slurm.usage import JobMetrics, metrics_text


@dataclass
class FollowedJob:
    """A job and what is known of it; `state` is the one told last. `is_current`: it counts for this session."""

    job: SessionJob
    submission: Submission
    state: str
    is_current: bool
    ended: Ended | None = None
    # An end that is told when its reason is known.
    held: Changed | None = None
    accounted: AccountedJob | None = None
    is_accounted: bool = False
    is_settled: bool = False
    end_seen: datetime | None = None
    # An earlier session submitted it.
    is_earlier: bool = False

    @property
    def job_id(self) -> str:
        """Its id."""
        return str(self.submission.job_id)

    @property
    def is_new(self) -> bool:
        """Whether this session submitted it: no other can have told of it."""
        return self.is_current and not self.is_earlier

    @property
    def verdict(self) -> str:
        """How it ended for the session, whatever SLURM calls it: COMPLETED, or a state that is none."""
        if self.ended is None:
            return self.state
        if self.ended.succeeded:
            return "COMPLETED"
        return "FAILED" if succeeded(self.ended.state) or is_live(self.ended.state) else self.ended.state

    @property
    def submitted_at(self) -> datetime:
        """When it was first submitted: of a job that was queued again, accounting has the last time."""
        noted = datetime.fromisoformat(self.submission.time)
        return min(noted, (self.accounted and self.accounted.submitted) or noted)

    @property
    def ended_at(self) -> datetime:
        """When it ended, or its end was noticed."""
        if self.accounted and self.accounted.ended:
            return self.accounted.ended
        return self.end_seen or datetime.now().astimezone()

    def is_news(self, event: Changed) -> bool:
        """Whether a change of state was not told yet, in this session or in one before."""
        over = not is_live(self.state) and event.job.state == self.state
        return event.after != self.state and not over

    def failure(self, log: Path | None) -> str:
        """Why it failed, with its log's path and last lines, and whether it is tried again; empty where it did not."""
        if self.ended is None or self.ended.succeeded:
            return ""
        message = self.ended.message.removeprefix(f"SLURM job {self.job_id} ended as ")
        return failure_text(message, log, self.ended.again)

    def samples(self, folder: Path) -> Path | None:
        """File of its GPU samples: of those that may be, the first that is not older than the job."""
        started = self.accounted.started if self.accounted else None
        since = (started or self.submitted_at).timestamp() - 1
        for path in (folder / name for name in self.job.samples):
            if path.is_file() and path.stat().st_mtime >= since:
                return path
        return None

    def gpu_status(self, details: str, result: str) -> Entry:
        """How busy its GPUs are."""
        return Entry(Action.RESOURCE_STATUS, details, result, self.job.subject, job_id=self.job_id)

    def metrics(self, folder: Path) -> Entry:
        """What it used."""
        details = self._used(folder)
        state = self.verdict if self.ended else self.state
        return Entry(Action.COMPUTE_METRICS, details, state, self.job.subject, job_id=self.job_id)

    def _used(self, folder: Path) -> str:
        gpu = self._gpu(folder)
        if self.accounted and not is_live(self.accounted.state):
            return metrics_text(JobMetrics.of_slurm(self.accounted), gpu)
        record = read_record(folder / self.submission.target) or {}
        if record.get("job_id") == self.job_id and "seconds" in record:
            text = metrics_text(JobMetrics(wall_seconds=round(float(record["seconds"]))), gpu)
            return f"{text}; by its record, accounting has no figures"
        return "unknown: accounting has no figures"

    def _gpu(self, folder: Path) -> GpuSummary | None:
        samples = self.samples(folder)
        try:
            return summarize(samples) if samples else None
        except OSError:
            return None


class SessionJobs:
    """The jobs of a session: `current` are those that count for it, by target.

    `refused` targets have none, or, where only another try was refused, the one that failed.
    """

    def __init__(self, plan: SessionPlan) -> None:
        self._plan = plan
        self._by_id: dict[str, FollowedJob] = {}
        # Tries that others follow.
        self._former: list[FollowedJob] = []
        # Those whose ends an earlier session noticed, but could not account for.
        self._unaccounted: list[FollowedJob] = []
        self.told = Told(plan.folder)
        self.current: dict[str, FollowedJob] = {}
        self.refused: set[str] = set()

    @property
    def known(self) -> list[FollowedJob]:
        """All jobs, also those that only their ends are told of."""
        return list(self._by_id.values())

    def follow(self, submission: Submission, earlier: bool = False) -> FollowedJob:
        """A job that counts from now on; `earlier`: it was submitted by an earlier session."""
        state = (self.told.state(str(submission.job_id)) if earlier else None) or "PENDING"
        followed = FollowedJob(self.job(submission.target), submission, state, is_current=True, is_earlier=earlier)
        self._by_id[followed.job_id] = self.current[submission.target] = followed
        return followed

    def expect_figures(self, submission: Submission) -> None:
        """A job ended before this session; what accounting has of it is still to be logged."""
        followed = self.of(submission)
        if not followed.is_current and followed not in self._unaccounted:
            self._unaccounted.append(followed)

    def give_way(self, followed: FollowedJob) -> None:
        """A job ended and its target is submitted again: until then none counts for that."""
        if self.current.get(followed.job.target) is followed:
            self._former.append(self.current.pop(followed.job.target))

    def refuse(self, target: str) -> None:
        """A target is not submitted, or not again: then the try that was the last one counts."""
        self.refused.add(target)
        tries = [job for job in self._former if job.job.target == target]
        if tries and target not in self.current:
            self.current[target] = tries[-1]

    def of(self, submission: Submission) -> FollowedJob:
        """What is known of a job, of this session's or of one that it only tells the end of."""
        job_id = str(submission.job_id)
        if job_id not in self._by_id:
            state = self.told.state(job_id) or "PENDING"
            self._by_id[job_id] = FollowedJob(self.job(submission.target), submission, state, is_current=False)
        return self._by_id[job_id]

    def job(self, target: str) -> SessionJob:
        """The job of a target, also where it is not in the experiment any more."""
        if target in self._plan.jobs:
            return self._plan.jobs[target]
        run, name = paths.target_of(target)
        is_training = target == paths.finetune_record(run)
        subject = run if is_training else paths.subject_of_cell(run, name)
        return SessionJob(target, Log.TORCHTUNE if is_training else Log.INSPECT, subject, run, "", ())

    def current_of(self, log: Log) -> list[FollowedJob]:
        """The session's jobs that a log tells of."""
        return [job for job in self.current.values() if job.job.log is log]

    def ended_before(self, log: Log) -> list[FollowedJob]:
        """Jobs of a log that made their targets before this session, which only accounts for them."""
        wanted = {job.target for job in self._plan.wanted_of(log)}
        jobs = [job for job in self._unaccounted if job.job.log is log and job.verdict == "COMPLETED"]
        return [job for job in jobs if job.job.target not in wanted]

    def in_flight(self) -> list[FollowedJob]:
        """Jobs whose end was not noticed."""
        return [job for job in self.current.values() if job.ended is None]

    def unsettled(self, log: Log) -> list[FollowedJob]:
        """Jobs that a log tells of, and of which not everything was told."""
        waiting = [job for job in self._unaccounted if job.job.log is log]
        return [job for job in (*waiting, *self._all(log)) if not job.is_settled]

    def first_submitted(self, log: Log) -> datetime:
        """When the first of the jobs was submitted that a log tells of. Raises ValueError where there are none."""
        return min(job.submitted_at for job in self._all(log) or self.ended_before(log))

    def _all(self, log: Log) -> list[FollowedJob]:
        """With the tries that others follow."""
        found = {job.job_id: job for job in (*self._former, *self.current.values())}
        return [job for job in found.values() if job.job.log is log]

    def to_be_submitted(self, log: Log, failed_steps: Collection[str]) -> list[SessionJob]:
        """Jobs that may still be submitted."""
        gone = {*self.current, *self.refused, *self.blocked(failed_steps)}
        return [job for job in self._plan.wanted_of(log) if job.target not in gone]

    def blocked(self, failed_steps: Collection[str]) -> set[str]:
        """Targets that cannot be made, since something that they need failed."""
        failed = {job.job.target for job in self.current.values() if job.ended and not job.ended.succeeded}
        return self._plan.blocked_by({*failed, *self.refused, *failed_steps}) - {*self.current, *self.refused}


class Told:
    """What the logs of earlier sessions tell of jobs, read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def state(self, job_id: str) -> str | None:
        """State of a job that was told last; None if none was."""
        rows = self._of(job_id, Action.STATE_CHANGE)
        if len(rows):
            return str(rows["details"].iloc[-1]).rpartition("→")[2].strip()
        return None

    def notices(self, job_id: str, since: datetime) -> int:
        """How much was told, not before a moment, of what a job itself had to tell."""
        known, moment = self._entries, since.astimezone().replace(tzinfo=None)
        of_jobs = known["action"].isin([action.value for action in OF_JOBS])
        return int((of_jobs & (known["job_id"] == job_id) & (known["time"] >= moment)).sum())

    def has_metrics(self, job_id: str) -> bool:
        """Whether it was told what a job used."""
        return len(self._of(job_id, Action.COMPUTE_METRICS)) > 0

    def _of(self, job_id: str, action: Action) -> pd.DataFrame:
        table = self._entries
        return table[(table["job_id"] == job_id) & (table["action"] == action.value)]

    @cached_property
    def _entries(self) -> pd.DataFrame:
        try:
            return read_action_logs(self._folder)
        # What cannot be read tells nothing.
        except OSError:
            return read_action_logs(self._folder, [])
