"""Finds the jobs of an earlier main process: in the ledger, in the queue, and in accounting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from run_experiment.attempts.turns import is_withdrawn
from run_experiment.common.clock import now, stamp
from run_experiment.slurm import clients
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.errors import NoAccountingError
from run_experiment.slurm.events import Cancelled, Event
from run_experiment.slurm.job_ids import in_order, is_of_slurm, is_same, slurm_id
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier
from snakemake_executor_plugin_slurm_attached.submissions import (
    NOT_SUBMITTED,
    cancel_for,
    find_ended,
    is_own,
    on_its_way,
    targets_of,
    with_id,
)

Tell = Callable[[Event], None]
Queue = Callable[[], list[QueuedJob]]


def earlier_jobs(folder: Path, ledger: Ledger, tell: Tell, queue: Queue) -> dict[str, Earlier]:
    """Jobs that were submitted before and are not settled, by target; one for each. Raises SlurmError, OSError.

    `queue` asks for the user's live jobs. If several work for a target, one is kept and the others are cancelled.
    """
    noted = {
        target: submission
        for target, submission in ledger.open().items()
        if _is_sound(submission) and is_own(folder, submission.comment)
    }
    queued = _unsettled(_queued(folder, noted, queue), noted, ledger)
    left = {target: submission for target, submission in noted.items() if target not in queued}
    ended = _ended(folder, left, ledger)
    found = {
        target: Earlier(_noted(jobs[0], target, noted.get(target)), jobs[0].state, is_queued=True)
        for target, jobs in queued.items()
    }
    found |= ended
    _note_ids(ledger, noted, found)
    for target, jobs in queued.items():
        _cancel_others(folder, target, jobs, ledger, tell)
    return found


def _unsettled(
    queued: Mapping[str, list[QueuedJob]], noted: Mapping[str, Submission], ledger: Ledger
) -> dict[str, list[QueuedJob]]:
    """Live jobs without those that are over for their target, and make others."""
    settled = ledger.read().settled
    over = {target: one.job_id for target, one in settled.items() if slurm_id(one.job_id) != one.job_id}
    found = {
        target: [job for job in jobs if job.job_id != over.get(target) or _is_noted(job, noted.get(target))]
        for target, jobs in queued.items()
    }
    return {target: jobs for target, jobs in found.items() if jobs}


def _is_noted(job: QueuedJob, noted: Submission | None) -> bool:
    return noted is not None and noted.comment == job.comment


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


def _queued(folder: Path, noted: dict[str, Submission], queue: Queue) -> dict[str, list[QueuedJob]]:
    """The experiment's live jobs by target, once none can be on its way."""
    queued = _own(folder, queue())
    unanswered = [submission for target, submission in noted.items() if not submission.job_id and target not in queued]
    pause = max(map(on_its_way, unanswered), default=0.0)
    if pause == 0:
        return queued
    time.sleep(pause)
    return _own(folder, queue())


def _ended(folder: Path, noted: dict[str, Submission], ledger: Ledger) -> dict[str, Earlier]:
    """What became of jobs that are not in the queue, by target; without those that were never accepted."""
    seen = {target: find_ended(folder, submission, ledger) for target, submission in noted.items()}
    submitted = {target: submission for target, submission in seen.items() if submission.job_id}
    accounted = _accounted([str(submission.job_id) for submission in submitted.values()])
    found = {}
    for target, submission in submitted.items():
        job = accounted.get(str(submission.job_id))
        known = job if job and is_same(job, submission) else None
        found[target] = Earlier(submission, known.state if known else _unknown(submission), known)
    return found


def _accounted(job_ids: list[str]) -> dict[str, AccountedJob]:
    """What accounting knows of jobs; nothing if there is none. Raises SlurmError."""
    try:
        return clients.accounting(job_ids)
    except NoAccountingError:
        return {}


def _own(folder: Path, jobs: list[QueuedJob]) -> dict[str, list[QueuedJob]]:
    """The experiment's live jobs by target; first the one that runs, and has run longest."""
    own: dict[str, list[QueuedJob]] = {}
    ours = [job for job in jobs if is_own(folder, job.comment)]
    for job in sorted(ours, key=lambda job: (job.state == "PENDING", in_order(job.job_id))):
        for target in targets_of(job.comment, job.job_id):
            one = _for_target(job, target)
            if not is_withdrawn(folder, one.job_id):
                own.setdefault(target, []).append(one)
    return own


def _for_target(job: QueuedJob, target: str) -> QueuedJob:
    """A job with the id that it has as it makes one of its targets."""
    submission = Submission(target, "", job.name, job.comment, os.getuid(), "")
    return replace(job, job_id=str(with_id(submission, job.job_id).job_id))


def _cancel_others(folder: Path, target: str, jobs: list[QueuedJob], ledger: Ledger, tell: Tell) -> None:
    """Cancel all but the first of a target's jobs: two would write to the same files."""
    for job in jobs[1:]:
        submission = _noted(job, target, None)
        goes_on = not cancel_for(folder, submission)
        ledger.settled(target, job.job_id, "CANCELLED")
        tell(Cancelled(submission, f"SLURM job {jobs[0].job_id} makes {target}, too", goes_on))


def _is_sound(submission: Submission) -> bool:
    """Whether an id is one and a time is one: the ledger may have been edited."""
    try:
        datetime.fromisoformat(submission.time)
    except ValueError:
        return False
    return submission.job_id is None or is_of_slurm(submission.job_id)


def _noted(job: QueuedJob, target: str, noted: Submission | None) -> Submission:
    """The submission that a live job is: the noted one, or one that was never noted or whose note got lost."""
    if noted and noted.comment == job.comment and noted.job_id in (None, job.job_id):
        return with_id(noted, job.job_id)
    short_hash = targets_of(job.comment)[target]
    return Submission(target, short_hash, job.name, job.comment, os.getuid(), stamp(now()), job.job_id)


def _unknown(submission: Submission) -> str:
    """State of a job that SLURM does not show: accounting may be late."""
    return "PENDING" if on_its_way(submission) else ""
