"""Ids of jobs, and whether an id is still that of the job which was submitted.

A job of several targets has an id for each: `17+2` is SLURM's job 17, as it makes its second target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ledger import Submission

_MOST_OF_A_NAME = 255
_ID = re.compile(r"[0-9]+(\+[0-9]+)?")


def slurm_id(job_id: str | None) -> str:
    """The id that SLURM's clients know a job by."""
    return str(job_id).partition("+")[0]


def id_for(slurm_job: str, target: str, targets: Sequence[str]) -> str:
    """Id of SLURM's job as it makes one of its targets."""
    return f"{slurm_job}+{targets.index(target) + 1}" if len(targets) > 1 and target in targets else slurm_job


def is_of_slurm(job_id: str) -> bool:
    """Whether text is the id of a job on a cluster."""
    return _ID.fullmatch(job_id) is not None


def is_same(job: AccountedJob, submission: Submission) -> bool:
    """Whether a job is the one that was submitted: a controller that lost its state reuses ids."""
    # Accounting cuts names off.
    same_name = job.name == submission.name[:_MOST_OF_A_NAME]
    same_comment = not job.comment or job.comment == submission.comment
    return same_name and job.uid == submission.uid and same_comment
