"""Files of attempts, `{run}/attempts/{job id}/`.

A job writes `begun.json` when it starts and replaces it with `attempt.json` when it fails; if it is killed,
`begun.json` remains. On a cluster the main process adds `slurm.json`, SLURM's verdict. A job that succeeds removes
the folder.
"""

from __future__ import annotations

import enum
import re
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.clock import now, stamp
from run_experiment.common.json_files import write_record

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
    attempts = folder / paths.attempts(run)
    attempt = next(reversed(folders(attempts, job_id)), attempts / job_id)
    facts = {"target": target, "job_id": job_id, "state": state, "error": error}
    write_record(attempt / SLURM, {**facts, "ended": stamp(now())})


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
