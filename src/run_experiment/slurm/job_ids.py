"""Ids of jobs, and whether an id is still that of the job which was submitted.

An element of a job array has SLURM's id for it, `17_3`. A job of several targets has an id for each: `17+2` is SLURM's
job 17, and `17_3+2` the third element of array 17, as it makes its second target.
"""

from __future__ import annotations

import re

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ledger import Submission

_MOST_OF_A_NAME = 255
_ID = re.compile(r"([0-9]+)(?:_([0-9]+))?(?:\+[0-9]+)?")


def slurm_id(job_id: str | None) -> str:
    """The id that SLURM's clients know a job by."""
    return str(job_id).partition("+")[0]


def submitted_id(job_id: str) -> str:
    """The id that sbatch gave: for an element of a job array, that of the array."""
    return slurm_id(job_id).partition("_")[0]


def element_of(job_id: str) -> int | None:
    """Which element of a job array a job is; None if it is of none, or if that is not said."""
    found = _ID.fullmatch(job_id)
    return int(found[2]) if found and found[2] else None


def in_order(job_id: str) -> tuple[int, int]:
    """Key that sorts ids by their numbers."""
    return int(submitted_id(job_id)), element_of(job_id) or 0


def is_of_slurm(job_id: str) -> bool:
    """Whether text is the id of a job on a cluster."""
    return _ID.fullmatch(job_id) is not None


def is_same(job: AccountedJob, submission: Submission) -> bool:
    """Whether a job is the one that was submitted: a controller that lost its state reuses ids."""
    # Accounting cuts names off.
    same_name = job.name == submission.name[:_MOST_OF_A_NAME]
    same_comment = not job.comment or job.comment == submission.comment
    return same_name and job.uid == submission.uid and same_comment
