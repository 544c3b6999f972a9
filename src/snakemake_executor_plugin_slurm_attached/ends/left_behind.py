"""What a job left, and what that says of its end."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from run_experiment.attempts import history
from run_experiment.attempts.history import Attempt
from run_experiment.attempts.saved import SAVED, saved_files
from run_experiment.common.clock import CLOCK_SKEW, NODE_CLOCK_SKEW, moment_of
from run_experiment.common.json_files import read_record
from run_experiment.common.places import no_space
from run_experiment.machine.exit_status import with_hint
from run_experiment.machine.processes import last_lines
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ends import describe
from run_experiment.slurm.job_ids import is_of_slurm
from run_experiment.slurm.ledger import Submission
from snakemake_executor_plugin_slurm_attached.ends.retry_policy import NOT_OPENED, Left

# What a try takes memory by.
_SIZES = ("batch_size", "max_connections")
# What SLURM writes into the output of a job that took more memory than it asked for; without control groups that is
# all that tells such a job from others that were killed.
_OVER_MEMORY = re.compile(r"slurmstepd.*(exceeded (job |step )?memory limit|oom.kill)", re.IGNORECASE)


def planned(folder: Path, job_file: str) -> dict[str, Any]:
    """Contents of the file that a job is started with. Raises ValueError."""
    try:
        facts = json.loads((folder / job_file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{job_file}: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{job_file}: it tells no job")
    return facts


def is_made(folder: Path, submission: Submission) -> bool:
    """Whether a job left its record: that a file is there proves nothing, an earlier one may still lie there."""
    record = read_record(folder / submission.target) or {}
    made_by = (record.get("job_id"), record.get("restored_by"))
    return has_config(record, submission) and submission.job_id in made_by


def made_unseen(folder: Path, submission: Submission, others: Collection[str]) -> Submission:
    """A submission of unknown id, with that of the job that made its target since then, if one did.

    It is none of the `others`. Its record has the time of its node.
    """
    record = read_record(folder / submission.target) or {}
    job_id = str(record.get("job_id"))
    if submission.job_id or not is_of_slurm(job_id) or job_id in others or not has_config(record, submission):
        return submission
    started, submitted = moment_of(record.get("started")), moment_of(submission.time)
    is_new = started is not None and submitted is not None and started >= submitted - NODE_CLOCK_SKEW
    return replace(submission, job_id=job_id) if is_new else submission


def has_config(record: dict[str, Any] | None, submission: Submission) -> bool:
    """Whether a record is of a submission's configuration, of which the queue has only the beginning of the hash."""
    return record is not None and str(record.get("config_hash")).startswith(submission.config_hash)


def why_failed(folder: Path, job: AccountedJob, submission: Submission, output: Path) -> str:
    """Why a job failed: SLURM's words, and what the job itself left."""
    report = _report(folder, job, submission)
    if not report and job.exit_code == NOT_OPENED and not output.exists():
        problem = f"SLURM could not write {output}: its folder has to exist, and to be writable on {job.nodes}"
        return f"SLURM job {job.job_id} ended as {describe(job)}: {problem}"
    return f"SLURM job {job.job_id} ended as {describe(job)}: {(report and report.own_error) or _said(output)}"


def why_lost(folder: Path, submission: Submission, output: Path) -> str:
    """What is known of a job that SLURM has no end of: what it left itself."""
    left = attempts(folder, submission)
    error = left[-1].own_error if left else None
    return f"SLURM does not know job {submission.job_id} any more, nor how it ended: {error or _said(output)}"


def _said(output: Path) -> str:
    lines = last_lines(output)
    last = with_hint(lines[-1]) if lines else str(no_space(output.parent) or "")
    return "\n".join([f"{last and f'{last}; '}its output is {output}", *(f"    {line}" for line in lines)])


def read_left(folder: Path, job: AccountedJob, submission: Submission, output: Path, facts: Mapping[str, Any]) -> Left:
    """What a failed job left; `facts` is the file it was started with, `output` the file with SLURM's messages."""
    last = _last(folder, submission, job.job_id)
    begun = last.begun if last else {}
    return Left(
        reported=_report(folder, job, submission) is not None,
        over_memory=any(map(_OVER_MEMORY.search, last_lines(output, most=20))),
        goes_on=_has_saved(folder, facts, submission) if "checkpoints" in facts else begun.get("goes_on", True),
        output=output.exists(),
        smaller=any(isinstance(size, int) and size > 1 for size in map(begun.get, _SIZES)),
    )


def _has_saved(folder: Path, facts: Mapping[str, Any], submission: Submission) -> bool:
    """Whether a training has saved something to resume from since the last start of its job began."""
    tries = history.of_job(folder, submission.target, str(submission.job_id))
    own = (one.begun for one in tries if one.restarts == tries[-1].restarts)
    before = next((begun[SAVED] for begun in own if SAVED in begun), None)
    now = saved_files(folder, facts.get("output_dir"), facts["checkpoints"])
    return before is not None and any(before.get(name) != stamp for name, stamp in now.items())


def attempts(folder: Path, submission: Submission) -> list[Attempt]:
    """A job's attempts that reported their failure, in order: SLURM may have started it several times."""
    found = history.of_job(folder, submission.target, str(submission.job_id))
    return [attempt for attempt in found if attempt.own_error is not None]


def has_begun(folder: Path, submission: Submission) -> bool:
    """Whether a job has left an attempt, which may still run."""
    return _last(folder, submission, str(submission.job_id)) is not None


def _last(folder: Path, submission: Submission, job_id: str) -> Attempt | None:
    """A job's last attempt, which may say nothing of its end."""
    return next(reversed(history.of_job(folder, submission.target, job_id)), None)


def _report(folder: Path, job: AccountedJob, submission: Submission) -> Attempt | None:
    """The last attempt of a job's last start, if it reports its failure; None if it was cut off."""
    last = _last(folder, submission, job.job_id)
    return last if last and last.own_error is not None and _is_of_last_start(last, job) else None


def _is_of_last_start(attempt: Attempt, job: AccountedJob) -> bool:
    """Whether an attempt is of a job's last start: by SLURM's times, else as far as two machines' clocks tell."""
    if job.started is None:
        return attempt.ended is None
    if attempt.slurm_start:
        return abs(attempt.slurm_start - job.started) <= CLOCK_SKEW
    return attempt.ended is None or attempt.ended >= job.started - CLOCK_SKEW
