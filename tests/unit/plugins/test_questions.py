"""What answers of SLURM say of a job."""

from __future__ import annotations

import pytest

from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.ledger import Submission
from snakemake_executor_plugin_slurm_attached.following.questions import Answer


@pytest.mark.parametrize("has_accounts", [True, False])
def test_accounting_says_since_when_a_job_runs_if_the_cluster_keeps_accounts(has_accounts: bool) -> None:
    """Accounting may know a job later than the queue: the log waits for its start, unless it can never come."""
    job = Submission("r4/finetune.json", "hash", "tiny.r4", "mark", 0, "2025-01-31T12:00:00+00:00", "17")
    queued = {("17", "mark"): QueuedJob("17", "tiny.r4", "mark", "RUNNING", "")}
    assert Answer({}, queued, has_accounts).runs(job) is not has_accounts
