"""The jobs that a session follows, and what the action logs have of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.actionlog.entry import Action, Entry, Log
from run_experiment.attempts import history
from run_experiment.common import paths
from run_experiment.common.clock import CLOCK_SKEW, now
from run_experiment.common.json_files import read_record
from run_experiment.machine.gpu_samples import GpuSummary, summarize
from run_experiment.machine.process_usage import usage_from
from run_experiment.session.entries.jobs import failure_text
from run_experiment.session.plan import SessionJob, SessionPlan
from run_experiment.session.written import Written
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.events import Finished
from run_experiment.slurm.job_ids import slurm_id
from run_experiment.slurm.ledger import Logged, Submission
from run_experiment.slurm.states import is_live
from run_experiment.slurm.usage import JobMetrics, metrics_text


@dataclass
class FollowedJob:
    """A job; `state` is the one that the logs have, `accounted` what accounting said last.

    `is_current`: it counts for this session; `is_earlier`: an earlier session submitted it.
    """

    job: SessionJob
    submission: Submission
    state: str
    is_current: bool
    is_earlier: bool = False
    accounted: AccountedJob | None = None
    finished: Finished | None = None

    @property
    def job_id(self) -> str:
        """Its id."""
        return str(self.submission.job_id)

    @property
    def is_new(self) -> bool:
        """Whether this session submitted it: no other can have logged anything of it."""
        return self.is_current and not self.is_earlier

    @property
    def verdict(self) -> str:
        """How it ended for the session, whatever SLURM calls it; its state while it has not."""
        return self.finished.verdict if self.finished else self.state

    @property
    def submitted_at(self) -> datetime:
        """When it was first submitted: for a requeued job, accounting has the time of that."""
        noted = datetime.fromisoformat(self.submission.time)
        return min(noted, (self.accounted and self.accounted.submitted) or noted)

    @property
    def ended_at(self) -> datetime:
        """When it ended, or its end was noticed."""
        if self.accounted and self.accounted.ended:
            return self.accounted.ended
        return self.finished.noticed if self.finished else now()

    def failure(self, log: Path | None) -> str:
        """Why it failed, with its log's path and last lines, and why it is submitted again; empty if it did not."""
        if self.finished is None or self.finished.succeeded:
            return ""
        message = self.finished.message.removeprefix(f"SLURM job {self.job_id} ended as ")
        return failure_text(message, log, self.finished.again)

    def samples(self, folder: Path) -> Path | None:
        """File of its GPU samples: of those that may be, the first that is not older than the job."""
        return self._first_new(folder, self.job.samples)

    def curve(self, folder: Path) -> Path | None:
        """File of its steps, if it is a training that has begun."""
        return self._first_new(folder, [self.job.curve] if self.job.curve else [])

    def _first_new(self, folder: Path, names: Iterable[str]) -> Path | None:
        started = self.accounted.started if self.accounted else None
        since = (started or self.submitted_at).timestamp() - 1
        for path in (folder / name for name in names):
            if path.is_file() and path.stat().st_mtime >= since:
                return path
        return None

    def gpu_status(self, details: str, result: str) -> Entry:
        """How busy its GPUs are."""
        return Entry(Action.RESOURCE_STATUS, details, result, self.job.subject, job_id=self.job_id)

    def metrics(self, folder: Path) -> Entry:
        """What it used."""
        details = self._used(folder)
        return Entry(Action.COMPUTE_METRICS, details, self.verdict, self.job.subject, job_id=self.job_id)

    def _used(self, folder: Path) -> str:
        gpu = self._gpu(folder)
        record = read_record(folder / self.submission.target) or {}
        is_made = record.get("job_id") == self.job_id and "seconds" in record
        by_record = metrics_text(_by_record(record), gpu) if is_made else ""
        is_shared = slurm_id(self.job_id) != self.job_id
        others = f"since SLURM's job {slurm_id(self.job_id)} made others, too"
        if by_record and is_shared:
            return f"{by_record}; by its record, {others}"
        if self.accounted and not is_live(self.accounted.state):
            if is_shared:
                return f"{metrics_text(self._by_attempts(folder, self.accounted), gpu)}; by its attempts, {others}"
            return metrics_text(JobMetrics.of_slurm(self.accounted), gpu)
        if by_record:
            return f"{by_record}; by its record, accounting has no figures"
        return "unknown: accounting has no figures"

    def _by_attempts(self, folder: Path, accounted: AccountedJob) -> JobMetrics:
        """What a job took, in its last start, for a target that it did not make."""
        seconds = 0.0
        for attempt in history.of_job(folder, self.submission.target, self.job_id):
            if not (attempt.began and accounted.started and accounted.ended):
                continue
            if attempt.began >= accounted.started - CLOCK_SKEW:
                # The end of one that was cut off may have been noted late.
                ended = min(attempt.ended or accounted.ended, accounted.ended)
                seconds += max(0.0, (ended - attempt.began).total_seconds())
        return JobMetrics(round(seconds))

    def _gpu(self, folder: Path) -> GpuSummary | None:
        samples = self.samples(folder)
        try:
            return summarize(samples) if samples else None
        except OSError:
            return None


def _by_record(record: Mapping[str, Any]) -> JobMetrics:
    seconds, usage = round(float(record["seconds"])), usage_from(record)
    if usage is None:
        return JobMetrics(seconds)
    return JobMetrics(seconds, None, usage.cpus, round(usage.cpu_seconds), usage.peak_memory_mib)


class SessionJobs:
    """The jobs of a session: `current` are those that count for it, by target.

    `refused` targets have none, or the one that failed if only its retry was refused. `written` is what the logs of
    earlier sessions have, `logged` what the ledger says that they have, by id.
    """

    def __init__(self, plan: SessionPlan, written: Written, logged: Mapping[str, Logged]) -> None:
        self._plan = plan
        self._written = written
        self._by_id: dict[str, FollowedJob] = {}
        self._logged = logged
        # Those that were submitted again.
        self._former: list[FollowedJob] = []
        # Those whose ends an earlier session noted, but did not log with their figures.
        self._unlogged: list[FollowedJob] = []
        self.current: dict[str, FollowedJob] = {}
        self.refused: set[str] = set()

    def follow(self, submission: Submission, earlier: bool = False) -> FollowedJob:
        """A job that counts from now on; `earlier`: it was submitted by an earlier session."""
        # The end of the one before may be logged later than this submission.
        if former := self.current.pop(submission.target, None):
            self._former.append(former)
        state = self._state(submission) if earlier else Logged().state
        followed = FollowedJob(self.job(submission.target), submission, state, is_current=True, is_earlier=earlier)
        # Its end may have been noted too soon, as of one that SLURM still shows: then there is one end to wait for.
        self._unlogged = [job for job in self._unlogged if job.job_id != followed.job_id]
        self._by_id[followed.job_id] = self.current[submission.target] = followed
        return followed

    def expect(self, submission: Submission) -> FollowedJob:
        """A job's end and figures are still to be logged, although it does not count for this session."""
        followed = self.of(submission)
        if not followed.is_current and followed not in self._unlogged:
            self._unlogged.append(followed)
        return followed

    def give_way(self, followed: FollowedJob) -> None:
        """A job ended and its target is submitted again: until then none counts for that."""
        target = followed.job.target
        if self.current.get(target) is followed and target not in self.refused:
            self._former.append(self.current.pop(target))

    def refuse(self, target: str) -> None:
        """A target is not submitted, or not again: then the last of its jobs counts."""
        self.refused.add(target)
        former = [job for job in self._former if job.job.target == target]
        if former and target not in self.current:
            self.current[target] = former[-1]

    def of(self, submission: Submission) -> FollowedJob:
        """What is known of a job, of this session's or of one whose end it only logs."""
        job_id = str(submission.job_id)
        if job_id not in self._by_id:
            state = self._state(submission)
            self._by_id[job_id] = FollowedJob(self.job(submission.target), submission, state, is_current=False)
        return self._by_id[job_id]

    def _state(self, submission: Submission) -> str:
        job_id = str(submission.job_id)
        if job_id in self._by_id:
            return self._by_id[job_id].state
        subject = self.job(submission.target).subject
        return self._written.state(subject, job_id) or self._logged.get(job_id, Logged()).state

    def is_noted(self, followed: FollowedJob) -> bool:
        """Whether the ledger had a job's state when the session began."""
        return self._logged.get(followed.job_id, Logged()).state == followed.state

    def job(self, target: str) -> SessionJob:
        """The job of a target, even if it is not in the experiment any more."""
        if target in self._plan.jobs:
            return self._plan.jobs[target]
        run, name = paths.target_of(target)
        is_training = target == paths.finetune_record(run)
        subject = run if is_training else paths.subject_of_cell(run, name)
        return SessionJob(target, Log.TORCHTUNE if is_training else Log.INSPECT, subject, run, "", ())

    def current_of(self, log: Log) -> list[FollowedJob]:
        """The session's jobs of a log."""
        return [job for job in self.current.values() if job.job.log is log]

    def ended_before(self, log: Log) -> list[FollowedJob]:
        """Jobs of a log that made their targets before this session, which only logs their ends."""
        wanted = {job.target for job in self._plan.wanted_of(log)}
        jobs = [job for job in self._unlogged if job.job.log is log and job.verdict == "COMPLETED"]
        return [job for job in jobs if job.job.target not in wanted]

    def in_flight(self) -> list[FollowedJob]:
        """Jobs whose end was not noticed."""
        return [job for job in self.current.values() if job.finished is None and is_live(job.state)]

    def unfinished(self, log: Log) -> list[FollowedJob]:
        """Jobs of a log that lacks something of them."""
        waiting = [job for job in self._unlogged if job.job.log is log]
        return [job for job in (*waiting, *self._all(log)) if job.finished is None]

    def waits_for_figures(self, log: Log, failed_steps: Collection[str]) -> bool:
        """Whether all that a log lacks is the ends of jobs that do not count for this session any more."""
        lacking = self.unfinished(log)
        none_counts = not any(job in self.current.values() for job in lacking)
        return bool(lacking) and none_counts and not self.to_be_submitted(log, failed_steps)

    def first_submitted(self, log: Log) -> datetime:
        """When the first job of a log was submitted. Raises ValueError if there is none."""
        return min(job.submitted_at for job in self._all(log) or self.ended_before(log))

    def _all(self, log: Log) -> list[FollowedJob]:
        """Those of a log, with the ones that were submitted again."""
        found = {job.job_id: job for job in (*self._former, *self.current.values())}
        return [job for job in found.values() if job.job.log is log]

    def to_be_submitted(self, log: Log, failed_steps: Collection[str]) -> list[SessionJob]:
        """Jobs that may still be submitted."""
        gone = {*self.current, *self.refused, *self.blocked(failed_steps)}
        return [job for job in self._plan.wanted_of(log) if job.target not in gone]

    def blocked(self, failed_steps: Collection[str]) -> set[str]:
        """Targets that cannot be made, since something that they need failed."""
        failed = {job.job.target for job in self.current.values() if job.finished and not job.finished.succeeded}
        return self._plan.blocked_by({*failed, *self.refused, *failed_steps}) - {*self.current, *self.refused}
