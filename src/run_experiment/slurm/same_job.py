"""Whether a job in accounting is the one that was submitted."""

from __future__ import annotations

from run_experiment.slurm.clients import AccountedJob
from run_experiment.slurm.ledger import Submission


def is_same(job: AccountedJob, submission: Submission) -> bool:
    """Whether a job is the one that was submitted: a controller that lost its state reuses ids."""
    same_comment = not job.comment or job.comment == submission.comment
    return (job.name, job.uid) == (submission.name, submission.uid) and same_comment
