"""Starts of a job that SLURM requeued, by what the job itself left: accounting shows only the last, and late."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from run_experiment.attempts import history
from run_experiment.common.clock import CLOCK_SKEW
from run_experiment.common.json_files import read_record
from run_experiment.experiment.records import allocation_of


def started_again(folder: Path, target: str, job_id: str, since: datetime) -> bool:
    """Whether SLURM started the job that left the record of a target again after its start at `since`.

    The job may have asked SLURM when; else, an attempt of an earlier start than that of the record did not begin before
    `since`.
    """
    last = allocation_of(read_record(folder / target) or {})
    if last.start_known_to_slurm and last.started:
        return last.started > since
    earlier = (one for one in history.of_job(folder, target, job_id) if one.restarts < last.restarts)
    starts = (one.slurm_start or one.began for one in earlier)
    return any(start is not None and start >= since - CLOCK_SKEW for start in starts)
