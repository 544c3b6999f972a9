"""A cluster in memory: jobs live step by step, and SLURM's clients say what it shows of them meanwhile.

Its clock is the only one: a step takes a second, and who waits moves it on.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from cluster_runs import ClusterJob

from run_experiment.common import paths
from run_experiment.common.json_files import read_record, write_record
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.job_ids import slurm_id, submitted_id
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_live
from snakemake_executor_plugin_slurm_attached.submissions import targets_of, with_id


@dataclass(frozen=True)
class Step:
    """What SLURM shows of a job: its state in the queue, empty if it is not there, and in accounting.

    `leaves` is what the job leaves as the step begins: its records, the first of them, or errors for the others; with
    `figures` accounting has all it will have.
    """

    queued: str
    accounted: str
    leaves: str = ""
    figures: bool = False
    code: str = "0:0"


_PENDING, _RUNNING = Step("PENDING", "PENDING"), Step("RUNNING", "RUNNING")
_RECORD, _FIRST = replace(_RUNNING, leaves="records"), replace(_RUNNING, leaves="first")


def _ends(state: str, code: str = "0:0", leaves: str = "") -> list[Step]:
    """A job leaves the queue, and accounting has its end, then its figures."""
    steps = [Step("COMPLETING", "RUNNING", leaves), Step("COMPLETING", state), Step("", state)]
    return [replace(step, code=code) for step in (*steps, Step("", state, figures=True))]


_BEGINS = [_PENDING, _RUNNING, _RUNNING]
_FAILS = [Step("PENDING", "NODE_FAIL"), Step("PENDING", "NODE_FAIL")]
LIVES = {
    "succeeds": [*_BEGINS, _RECORD, _RUNNING, *_ends("COMPLETED")],
    "leaves its record as it leaves the queue": [*_BEGINS, *_ends("COMPLETED", leaves="records")],
    "fails": [*_BEGINS, *_ends("FAILED", "3:0", "error")],
    "is killed": [*_BEGINS, *_ends("FAILED", "0:9")],
    "is cancelled": [*_BEGINS, *_ends("CANCELLED")],
    "is cancelled before it starts": [_PENDING, *_ends("CANCELLED")[1:]],
    "is queued again": [*_BEGINS, *_FAILS, *_BEGINS, _RECORD, *_ends("COMPLETED")],
    "loses its node": [*_BEGINS, *_ends("NODE_FAIL")],
    # The controller missed its end.
    "loses its node when all is done": [*_BEGINS, _RECORD, *_ends("NODE_FAIL")],
}
# Those of jobs of several targets that make the first one; a job of one does not make it.
SHARED_LIVES = {
    "the others fail": [*_BEGINS, _FIRST, *_ends("FAILED", "1:0", "error")],
    "it is killed": [*_BEGINS, _FIRST, *_ends("FAILED", "0:9")],
    "it is cancelled": [*_BEGINS, _FIRST, *_ends("CANCELLED")],
    "it is queued again": [*_BEGINS, _FIRST, *_FAILS, *_BEGINS, _RECORD, *_ends("COMPLETED")],
    "it loses its node": [*_BEGINS, _FIRST, *_ends("NODE_FAIL")],
}


@dataclass
class Job:
    """A job, or an element of an array, which has gone through so many `steps` of its life; times are those of the
    cluster's clock.
    """

    job_id: str
    name: str
    comment: str
    config_hash: str
    life: list[Step]
    submitted: int
    steps: int = 0
    starts: list[int] = field(default_factory=list)
    ended: int | None = None

    @property
    def parts(self) -> list[Submission]:
        """What makes each of its targets."""
        found = [
            Submission(target, self.config_hash, self.name, self.comment, os.getuid(), "")
            for target in targets_of(self.comment, self.job_id)
        ]
        return [with_id(one, self.job_id) for one in found]

    @property
    def step(self) -> Step:
        """What SLURM shows of it now."""
        return self.life[self.steps]

    @property
    def is_over(self) -> bool:
        """Whether nothing changes any more."""
        return self.steps == len(self.life) - 1

    def advance(self, now: int) -> None:
        """Begin the next step."""
        before, self.steps = self.step, self.steps + 1
        if self.step.queued == "RUNNING" != before.queued:
            self.starts.append(now)
        if is_live(self.step.accounted):
            self.ended = None
        elif is_live(before.accounted):
            self.ended = now


class SimulatedCluster:
    """The cluster; `lives` are those of the jobs as they are submitted; when none is left, jobs succeed."""

    def __init__(self, folder: Path, *lives: str) -> None:
        self._folder = folder
        self._lives = list(lives)
        # No submission is noted with a later time than that of its job.
        self._begin = datetime.now().astimezone().replace(microsecond=0) + timedelta(minutes=1)
        self.now = 0
        self.jobs: dict[str, Job] = {}

    # The clock, with the functions of the module `time`

    def monotonic(self) -> float:
        return float(self.now)

    def time(self) -> float:
        return self._moment(self.now).timestamp()

    def sleep(self, seconds: float) -> None:
        """Wait for the next step."""
        self.now += 1
        for job in self.jobs.values():
            if not job.is_over:
                job.advance(self.now)
                self._leave(job, job.step.leaves)

    def until_over(self) -> None:
        """Let all jobs come to their ends."""
        while not all(job.is_over for job in self.jobs.values()):
            self.sleep(1)

    # SLURM's clients

    def submit(self, name: str, comment: str, elements: int, config_hash: str) -> str:
        """Take a job, or an array of so many elements."""
        job_id = str(len(self.jobs) + 11)
        for one in [f"{job_id}_{number}" for number in range(1, elements + 1)] if elements > 1 else [job_id]:
            life = list((LIVES | SHARED_LIVES)[self._lives.pop(0) if self._lives else "succeeds"])
            self.jobs[one] = Job(one, name, comment, config_hash, life, self.now)
        return job_id

    def queue(self, timeout: float = 0) -> list[QueuedJob]:
        found = [QueuedJob(job.job_id, job.name, job.comment, job.step.queued, "") for job in self.jobs.values()]
        return [job for job in found if job.state]

    def accounting(self, job_ids: Collection[str], timeout: float = 0) -> dict[str, AccountedJob]:
        return {job_id: self._accounted(job) for job_id in job_ids if (job := self.jobs.get(slurm_id(job_id)))}

    def accounted_ids(self, name: str, folder: Path, since: datetime) -> list[str]:
        own = [job for job in self.jobs.values() if job.name == name and self._moment(job.submitted) >= since]
        return list(dict.fromkeys(submitted_id(job.job_id) for job in own))

    def cancel(self, job_ids: Collection[str], timeout: float = 0) -> None:
        for job in (self.jobs[job_id] for job_id in job_ids):
            if job.step.queued in ("PENDING", "RUNNING"):
                job.life[job.steps + 1 :] = _ends("CANCELLED")[bool(not job.starts) :]

    def accounts(self, names: Mapping[str, str]) -> list[ClusterJob]:
        """All jobs, one for each target, as the tests on a real cluster have them."""
        known = [(self._accounted(job), part) for job in self.jobs.values() for part in job.parts]
        return [
            ClusterJob(str(part.job_id), names[part.target], job.state, _naive(job.started), _naive(job.ended), 1)
            for job, part in known
        ]

    def _accounted(self, job: Job) -> AccountedJob:
        has_started = bool(job.starts) and job.step.accounted != "PENDING"
        return AccountedJob(
            job_id=job.job_id,
            name=job.name,
            uid=os.getuid(),
            comment="",
            state=job.step.accounted,
            cancelled_by=None,
            exit_code=job.step.code,
            reason="",
            submitted=self._moment(job.submitted),
            started=self._moment(job.starts[-1]) if has_started else None,
            ended=None if job.ended is None else self._moment(job.ended),
            nodes="n1" if has_started else "",
            request_known=job.step.figures,
            steps_ended=job.step.figures,
        )

    def _moment(self, step: int) -> datetime:
        return self._begin + timedelta(seconds=step)

    # What jobs leave

    def _leave(self, job: Job, what: str) -> None:
        for place, part in enumerate(job.parts):
            is_made = (read_record(self._folder / part.target) or {}).get("job_id") == part.job_id
            is_first = place == 0 < len(job.parts) - 1
            if what == "records" or (what == "first" and is_first):
                # A job that is started again leaves what it has made.
                if not is_made or len(job.parts) == 1:
                    self._leave_record(job, part)
            elif what == "error" and not is_made:
                self._leave_error(part)

    def _leave_record(self, job: Job, part: Submission) -> None:
        times = {"started": self._moment(job.starts[-1]).isoformat(), "ended": self._moment(self.now).isoformat()}
        start = {"restarts": len(job.starts) - 1, "start_known_to_slurm": True, **times}
        facts = {"config": {}, "job_id": part.job_id, "config_hash": job.config_hash, "allocation": start, **times}
        write_record(self._folder / part.target, facts)

    def _leave_error(self, part: Submission) -> None:
        run, name = paths.target_of(part.target)
        ended = self._moment(self.now).isoformat()
        attempt = {"target": name, "job_id": part.job_id, "error": "ValueError: unlucky", "ended": ended}
        write_record(self._folder / paths.attempts(run) / str(part.job_id) / "attempt.json", attempt)


def _naive(moment: datetime | None) -> datetime | None:
    return moment.astimezone().replace(tzinfo=None) if moment else None
