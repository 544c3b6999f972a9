"""Files of attempts, `{run}/attempts/{job id}/`.

A job writes `begun.json` when it starts and replaces it with `attempt.json` when it fails; if it is killed,
`begun.json` remains. On a cluster the main process adds `slurm.json`, SLURM's verdict. A job that succeeds removes
the folder. A job that SLURM does not accept has only `slurm.json`, in `not-submitted-{target}/`, until one is accepted.
"""

from __future__ import annotations

import enum
import re
import shutil
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.common.clock import now, stamp
from run_experiment.common.json_files import read_record, write_record
from run_experiment.common.secret_values import without_secrets

# In place of a state of SLURM's.
NOT_SUBMITTED = "NOT_SUBMITTED"
BEGUN, ENDED, SLURM, LOG = "begun.json", "attempt.json", "slurm.json", "job.log"


class Failure(enum.StrEnum):
    """Why an attempt failed: the next one may resume, needs less memory, or would fail too."""

    INTERRUPTED = "interrupted"
    OUT_OF_MEMORY = "out of memory"
    ERROR = "error"


def note_slurm_end(folder: Path, submission_target: str, job_id: str, state: str, error: str) -> None:
    """Store SLURM's verdict with a job's attempt, since a job that is killed cannot write one.

    `submission_target` is the record that the job should have made. Raises OSError.
    """
    run, target = paths.target_of(submission_target)
    attempt = _last_attempt(folder / paths.attempts(run), target, job_id)
    facts = {"target": target, "job_id": job_id, "state": state, "error": error}
    write_record(attempt / SLURM, {**facts, "ended": stamp(now())})


def _last_attempt(attempts: Path, target: str, job_id: str) -> Path:
    """Folder of a job's last attempt at a target, a new one if it left none: another job may have had its id."""
    found = folders(attempts, job_id)
    if own := [one for one in found if _target_in(one) in (target, None)]:
        return own[-1]
    return attempts / (f"{job_id}.{number_of(found[-1]) + 1}" if found else job_id)


def _target_in(attempt: Path) -> Any:
    """Name of the target that an attempt was at; None if nothing in its folder says so."""
    records = (read_record(attempt / name) for name in (ENDED, BEGUN, SLURM))
    return next((record.get("target") for record in records if record), None)


def note_not_submitted(folder: Path, submission_target: str, config_hash: str, error: str) -> None:
    """Store that SLURM did not accept a job for a target; it replaces the last such note. Raises OSError."""
    facts = {"job_id": "", "config_hash": config_hash, "state": NOT_SUBMITTED, "error": without_secrets(error)}
    target = paths.target_of(submission_target)[1]
    write_record(_not_submitted(folder, submission_target) / SLURM, {"target": target, **facts, "ended": stamp(now())})


def forget_not_submitted(folder: Path, submission_target: str) -> None:
    """Remove that note, since SLURM accepted a job."""
    shutil.rmtree(_not_submitted(folder, submission_target), ignore_errors=True)


def _not_submitted(folder: Path, submission_target: str) -> Path:
    run, target = paths.target_of(submission_target)
    return folder / paths.attempts(run) / f"not-submitted-{target}"


def folders(attempts: Path, job_id: str | None = None) -> list[Path]:
    """Folders of a job's attempts in the folder `attempts`, in order; without `job_id`, those of all jobs."""
    # `17`, `17.2`, …: not those of job 170, nor `17.artifacts`, a training that an older version moved away, nor what
    # `redo=` moved away.
    name = re.compile(rf"{re.escape(job_id)}(\.\d+)?" if job_id else r"(?!redo-).+(?<!\.artifacts)")
    found = [path for path in attempts.glob(f"{job_id or ''}*") if name.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=number_of)


def number_of(folder: Path) -> int:
    """Number of an attempt among those of its job: 2 of `17.2`, 1 of `17`."""
    number = folder.name.rpartition(".")[2]
    return int(number) if "." in folder.name and number.isdecimal() else 1
