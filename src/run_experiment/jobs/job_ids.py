"""How a job names itself: by the id that SLURM gave it, else by the number that the engine counts it with."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# The allocation that the main process itself runs in, as with `salloc`: what it starts there inherits its id.
_OUTER = "RUN_EXPERIMENT_OUTER_JOB"


def note_own_allocation(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let the jobs that this process starts know its own allocation from theirs."""
    environment[_OUTER] = environment.get("SLURM_JOB_ID", "")


def own_job_id(number: str, environment: MutableMapping[str, str] = os.environ) -> str:
    """Id of the job that this process is: SLURM's, or `local-{number}`."""
    job_id = environment.get("SLURM_JOB_ID")
    return job_id if job_id and job_id != environment.get(_OUTER) else f"local-{number}"
