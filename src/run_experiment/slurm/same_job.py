"""Whether a job in accounting is the one that was submitted."""

from __future__ import annotations

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ledger import Submission

_MOST_OF_A_NAME = 255


def is_same(job: AccountedJob, submission: Submission) -> bool:
    """Whether a job is the one that was submitted: a controller that lost its state reuses ids."""
    # Accounting cuts names off.
    same_name = job.name == submission.name[:_MOST_OF_A_NAME]
    same_comment = not job.comment or job.comment == submission.comment
    return same_name and job.uid == submission.uid and same_comment
