"""Finds the jobs of an earlier main process again, and decides what becomes of each."""

from __future__ import annotations

import enum
import hashlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.attempts.redone import redone_at
from run_experiment.common import paths
from run_experiment.common.clock import moment_of, now, stamp
from run_experiment.slurm import clients
from run_experiment.slurm.clients import AccountedJob, NoAccountingError, QueuedJob
from run_experiment.slurm.events import Cancelled, Event
from run_experiment.slurm.ledger import Ledger, Submission
from run_experiment.slurm.same_job import is_same
from run_experiment.slurm.states import is_live, succeeded
from snakemake_executor_plugin_slurm_attached.follower import with_id
from snakemake_executor_plugin_slurm_attached.left_behind import is_made, made_unseen

# Seconds for which a job may be on its way although SLURM does not show it: an sbatch that outlived its main process or
# that got no answer, an accounting that is late.
ON_ITS_WAY = 20.0
_MARK = "run-experiment"
# State of what SLURM never accepted, in the ledger.
NOT_SUBMITTED = "NOT SUBMITTED"

Tell = Callable[[Event], None]


class Fate(enum.Enum):
    """What becomes of an earlier job for a target that is wanted now."""

    ATTACH = "it is followed"
    MADE = "it made its target"
    FAILED = "it failed while no process followed it"
    CANCEL = "its configuration is outdated: cancelled and resubmitted"
    GONE = "it left nothing: resubmitted"


@dataclass(frozen=True)
class Earlier:
    """A job of an earlier main process, and what is known of it: its state, "" if nothing."""

    submission: Submission
    state: str
    accounted: AccountedJob | None = None

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs."""
        return bool(self.state) and is_live(self.state)

    def completed(self, config_hash: str) -> Earlier:
        """The same with today's whole hash if it is of today's configuration: a comment has only its beginning."""
        if not config_hash.startswith(self.submission.config_hash):
            return self
        return replace(self, submission=replace(self.submission, config_hash=config_hash))

    def fate(self, folder: Path, config_hash: str) -> Fate:
        """What becomes of it: `config_hash` is today's; nothing counts from before a `redo=` of its target."""
        same = self.submission.config_hash == config_hash and not self._is_before_redo(folder)
        if same and is_made(folder, self.submission):
            return Fate.MADE
        if self.is_live:
            return Fate.ATTACH if same else Fate.CANCEL
        # Who cancelled a job and starts again wants it to run.
        if same and self.accounted and not succeeded(self.state) and self.state != "CANCELLED":
            return Fate.FAILED
        return Fate.GONE

    def _is_before_redo(self, folder: Path) -> bool:
        """Whether it was submitted before what it was making, or had just made, was moved away."""
        redone = redone_at(folder, self.submission.target)
        submitted = moment_of(self.submission.time)
        return redone is not None and (submitted is None or submitted < redone)


def planned_submission(folder: Path, facts: Mapping[str, Any]) -> Submission:
    """The submission of a job with these facts; the queue knows it by its comment. Raises ValueError."""
    try:
        target, config_hash, name = (str(facts[fact]) for fact in ("target", "config_hash", "name"))
    except KeyError as error:
        raise ValueError(f"the job file lacks {error}") from error
    comment = f"{_MARK} {_key(folder)} {config_hash[:16]} {target}"
    return Submission(target, config_hash, name, comment, os.getuid(), stamp(now()))


def dated(submission: Submission) -> Submission:
    """The same submission, made now."""
    return replace(submission, time=stamp(now()))


def find(submission: Submission) -> str | None:
    """Id of the live job of a submission: the one that it names, or any if it names none. Raises SlurmError."""
    own = [job.job_id for job in clients.queue() if job.comment == submission.comment]
    return next((job_id for job_id in own if submission.job_id in (None, job_id)), None)


def cancel(submissions: Collection[Submission]) -> None:
    """Cancel live jobs, but none that only has the id of one that SLURM forgot. Raises SlurmError."""
    wanted = {(submission.job_id, submission.comment) for submission in submissions}
    clients.cancel([job.job_id for job in clients.queue() if (job.job_id, job.comment) in wanted])


def cancel_outdated(earlier: Mapping[str, Earlier], dag: Any, tell: Tell) -> dict[str, Earlier]:
    """Cancel jobs that would hold their GPUs for nothing; returns what is known of them then. Raises SlurmError."""
    cancelled = {}
    for former in _outdated(earlier, dag):
        cancel([former.submission])
        tell(Cancelled(former.submission, "the checkpoints of its run are made again or restored"))
        cancelled[former.submission.target] = replace(former, state="CANCELLED", accounted=None)
    return cancelled


def _outdated(earlier: Mapping[str, Earlier], dag: Any) -> Iterator[Earlier]:
    """Live jobs for targets whose run Snakemake's DAG trains anew, or takes a training back of.

    Then a target may be there already: its job would replace it by what it makes of other checkpoints.
    """
    needed = {path: job for job in dag.needrun_jobs() for path in job.output}
    for target, former in earlier.items():
        job, training = needed.get(target), paths.finetune_record(paths.target_of(target)[0])
        if former.is_live and (_waits_for_others(job, dag) if job else training in needed):
            yield former


def _waits_for_others(job: Any, dag: Any) -> bool:
    """Whether another job of the cluster has to end before this one can begin."""
    needed = [other for other in dag.dependencies[job] if dag.needrun(other)]
    return any(not other.is_local or _waits_for_others(other, dag) for other in needed)


def earlier_jobs(folder: Path, ledger: Ledger, tell: Tell) -> dict[str, Earlier]:
    """Jobs that were submitted before and are not settled, by target; one for each. Raises SlurmError, OSError.

    If several live jobs work for a target, one is kept and the others are cancelled.
    """
    noted = {
        target: submission
        for target, submission in ledger.open().items()
        if _is_sound(submission) and is_own(folder, submission.comment)
    }
    queued = _queued(folder, noted)
    ended = _ended(folder, {target: submission for target, submission in noted.items() if target not in queued})
    found = {
        target: Earlier(_noted(jobs[0], target, noted.get(target)), jobs[0].state) for target, jobs in queued.items()
    }
    found |= ended
    _note_ids(ledger, noted, found)
    for target, jobs in queued.items():
        _cancel_others(target, jobs, ledger, tell)
    return found


def _note_ids(ledger: Ledger, noted: Mapping[str, Submission], found: Mapping[str, Earlier]) -> None:
    """Note the ids of jobs that were found, and which submissions SLURM never accepted. Raises OSError."""
    for target, former in found.items():
        if former.submission != noted.get(target):
            ledger.accepted(former.submission, str(former.submission.job_id))
    for target in noted.keys() - found.keys():
        ledger.settled(target, "", NOT_SUBMITTED)


def unlogged(folder: Path, ledger: Ledger) -> list[Submission]:
    """Jobs whose end an earlier process noted, but did not live to log with its figures. Raises OSError."""
    return [one for one in ledger.unlogged() if _is_sound(one) and is_own(folder, one.comment)]


def _queued(folder: Path, noted: dict[str, Submission]) -> dict[str, list[QueuedJob]]:
    """The experiment's live jobs by target, once none can be on its way."""
    queued = _own(folder, clients.queue())
    unanswered = [submission for target, submission in noted.items() if not submission.job_id and target not in queued]
    pause = max(map(on_its_way, unanswered), default=0.0)
    if pause == 0:
        return queued
    time.sleep(pause)
    return _own(folder, clients.queue())


def _ended(folder: Path, noted: dict[str, Submission]) -> dict[str, Earlier]:
    """What became of jobs that are not in the queue, by target; without those that were never accepted."""
    seen = {target: find_ended(folder, submission) for target, submission in noted.items()}
    submitted = {target: submission for target, submission in seen.items() if submission.job_id}
    accounted = _accounted([str(submission.job_id) for submission in submitted.values()])
    found = {}
    for target, submission in submitted.items():
        job = accounted.get(str(submission.job_id))
        known = job if job and is_same(job, submission) else None
        found[target] = Earlier(submission, known.state if known else _unknown(submission), known)
    return found


def find_ended(folder: Path, submission: Submission) -> Submission:
    """A submission of unknown id, with that of the job that it brought and that has ended, if it did.

    Raises SlurmError.
    """
    found = made_unseen(folder, submission)
    if found.job_id:
        return found
    try:
        job_ids = clients.accounted_ids(submission.name, folder, datetime.fromisoformat(submission.time))
    except NoAccountingError:
        return submission
    return with_id(submission, job_ids[-1]) if job_ids else submission


def _accounted(job_ids: list[str]) -> dict[str, AccountedJob]:
    """What accounting knows of jobs; nothing if there is none. Raises SlurmError."""
    try:
        return clients.accounting(job_ids)
    except NoAccountingError:
        return {}


def _own(folder: Path, jobs: list[QueuedJob]) -> dict[str, list[QueuedJob]]:
    """The experiment's live jobs by target; first the one that runs, and has run longest."""
    own: dict[str, list[QueuedJob]] = {}
    for job in sorted(jobs, key=lambda job: (job.state == "PENDING", int(job.job_id))):
        if is_own(folder, job.comment):
            own.setdefault(job.comment.split(" ", 3)[3], []).append(job)
    return own


def is_own(folder: Path, comment: str) -> bool:
    """Whether a job was submitted from this folder: a copied folder has the ledger of the original."""
    words = comment.split(" ", 3)
    return len(words) == 4 and words[:2] == [_MARK, _key(folder)]


def _cancel_others(target: str, jobs: list[QueuedJob], ledger: Ledger, tell: Tell) -> None:
    """Cancel all but the first of a target's jobs: two would write to the same files."""
    clients.cancel([job.job_id for job in jobs[1:]])
    for job in jobs[1:]:
        ledger.settled(target, job.job_id, "CANCELLED")
        tell(Cancelled(_noted(job, target, None), f"SLURM job {jobs[0].job_id} makes {target}, too"))


def _is_sound(submission: Submission) -> bool:
    """Whether an id is one and a time is one: the ledger may have been edited."""
    try:
        datetime.fromisoformat(submission.time)
    except ValueError:
        return False
    return submission.job_id is None or re.fullmatch("[0-9]+", submission.job_id) is not None


def _noted(job: QueuedJob, target: str, noted: Submission | None) -> Submission:
    """The submission that a live job is: the noted one, or one that was never noted or whose note got lost."""
    if noted and noted.comment == job.comment and noted.job_id in (None, job.job_id):
        return with_id(noted, job.job_id)
    short_hash = job.comment.split(" ", 3)[2]
    return Submission(target, short_hash, job.name, job.comment, os.getuid(), stamp(now()), job.job_id)


def on_its_way(submission: Submission) -> float:
    """Seconds for which an sbatch may still bring a job that was meant to be submitted."""
    age = time.time() - datetime.fromisoformat(submission.time).timestamp()
    return max(0.0, ON_ITS_WAY - age) if age >= 0 else ON_ITS_WAY


def _unknown(submission: Submission) -> str:
    """State of a job that SLURM does not show: accounting may be late."""
    return "PENDING" if on_its_way(submission) else ""


def _key(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:12]
