"""Job ids: SLURM's, else Snakemake's number."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# The allocation that the main process itself runs in, as with `salloc`; jobs that it starts inherit its id.
_OUTER = "RUN_EXPERIMENT_OUTER_JOB"


def note_own_allocation(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let jobs that this process starts tell its own allocation from theirs."""
    environment[_OUTER] = environment.get("SLURM_JOB_ID", "")


def own_job_id(number: str, environment: MutableMapping[str, str] = os.environ) -> str:
    """Id of the job that this process is: SLURM's, or `local-{number}`."""
    job_id = environment.get("SLURM_JOB_ID")
    return job_id if job_id and job_id != environment.get(_OUTER) else f"local-{number}"
