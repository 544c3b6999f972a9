"""What a job left, and what that says of its end."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from run_experiment import layout
from run_experiment.ledger import Submission
from run_experiment.processes import last_lines
from run_experiment.records import read_record
from run_experiment.slurm import AccountedJob

# How far the clocks of two machines may be apart.
_CLOCKS = timedelta(seconds=2)


def is_made(folder: Path, submission: Submission) -> bool:
    """Whether a job left its record: that a file is there proves nothing, an earlier one may still lie there."""
    record = read_record(folder / submission.target) or {}
    made_by = (record.get("job_id"), record.get("restored_by"))
    return has_config(record, submission) and submission.job_id in made_by


def made_unseen(folder: Path, submission: Submission) -> Submission:
    """A submission of unknown id, with that of the job that made its target since then, if one did."""
    record = read_record(folder / submission.target) or {}
    job_id = str(record.get("job_id"))
    if submission.job_id or not job_id.isdecimal() or not has_config(record, submission):
        return submission
    try:
        since = datetime.fromisoformat(str(record.get("started"))) >= datetime.fromisoformat(submission.time)
    except (ValueError, TypeError):
        return submission
    return replace(submission, job_id=job_id) if since else submission


def has_config(record: dict[str, Any] | None, submission: Submission) -> bool:
    """Whether a record is of the configuration that a job was submitted for."""
    return record is not None and record.get("config_hash") == submission.config_hash


def is_same(job: AccountedJob, submission: Submission) -> bool:
    """Whether a job is the one submitted: a controller that lost its state gives ids anew."""
    same_comment = not job.comment or job.comment == submission.comment
    return (job.name, job.uid) == (submission.name, submission.uid) and same_comment


def why_failed(folder: Path, job: AccountedJob, submission: Submission, output: Path) -> str:
    """Why a job failed: SLURM's words, and what the job itself left."""
    records = [record for path in attempts(folder, submission) if (record := read_record(path))]
    errors = [record.get("error") for record in records if _is_of_last_start(record, job)]
    error = errors[-1] if errors else None
    if not error:
        error = "\n".join([f"its output is {output}", *(f"    {line}" for line in last_lines(output))])
    return f"SLURM job {job.job_id} ended as {describe(job)}: {error}"


def attempts(folder: Path, submission: Submission) -> list[Path]:
    """Records of a job's failed attempts, in order: SLURM may have started it several times."""
    run, _ = layout.target_of(submission.target)
    found = (folder / layout.attempts(run)).glob(f"{submission.job_id}*/attempt.json")
    # `17`, `17.2`, …: not those of job 170, nor `17.artifacts`.
    numbers = {path: re.fullmatch(rf"{submission.job_id}(?:\.(\d+))?", path.parent.name) for path in found}
    return [path for _, path in sorted((int(number[1] or 1), path) for path, number in numbers.items() if number)]


def _is_of_last_start(record: dict[str, Any], job: AccountedJob) -> bool:
    """Whether an attempt ended after the job's last start, as far as the clocks of two machines tell."""
    try:
        ended = datetime.fromisoformat(str(record.get("ended")))
        return job.started is not None and ended >= job.started - _CLOCKS
    # It has no time, or one without an offset.
    except (ValueError, TypeError):
        return True


def describe(job: AccountedJob) -> str:
    """A job's state with who cancelled it, its exit code, its reason."""
    by = f" by {job.cancelled_by}" if job.cancelled_by else ""
    code = f", exit code {job.exit_code}" if job.exit_code not in ("", "0:0") else ""
    reason = f", reason {job.reason}" if job.reason else ""
    return f"{job.state}{by}{code}{reason}"
