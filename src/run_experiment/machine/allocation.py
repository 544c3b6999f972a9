"""The allocation that a process runs in: of the main process, as with `salloc`, or of the job that it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

# The allocation that the main process itself runs in, as with `salloc`; jobs that it starts inherit its id.
_OUTER = "RUN_EXPERIMENT_OUTER_JOB"
# Which of its targets a job of several makes now, from 1.
PLACE_IN_JOB = "RUN_EXPERIMENT_PLACE"


def own_allocation(environment: Mapping[str, str] = os.environ) -> str:
    """SLURM's id of the allocation that this process runs in, `17_3` in a job array; empty if it runs in none."""
    array, element = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else environment.get("SLURM_JOB_ID", "")


def note_own_allocation(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let jobs that this process starts tell its own allocation from theirs."""
    environment[_OUTER] = own_allocation(environment)


def own_job_id(number: str, environment: Mapping[str, str] = os.environ) -> str:
    """Id of the job that this process is: SLURM's, or `local-{number}`; of a job of several targets, with the place."""
    job_id = own_allocation(environment)
    if not job_id or job_id == environment.get(_OUTER):
        return f"local-{number}"
    place = environment.get(PLACE_IN_JOB)
    return f"{job_id}+{place}" if place else job_id


def own_restarts(environment: Mapping[str, str] = os.environ) -> int:
    """How often SLURM had started this job before; 0 outside of SLURM."""
    count = environment.get("SLURM_RESTART_COUNT", "")
    return int(count) if count.isdecimal() else 0
