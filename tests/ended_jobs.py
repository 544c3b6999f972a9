"""A training's job that ended, as SLURM's accounting has it."""

from __future__ import annotations

from datetime import datetime

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ledger import Submission
from snakemake_executor_plugin_slurm_attached.ends.retry_policy import Limits

NOON = datetime.fromisoformat("2025-01-31T12:00:00+01:00")
LIMITS = Limits(3, "r4/finetune.slurm")
R4 = Submission("r4/finetune.json", "hash", "tiny.r4", "comment", 0, NOON.isoformat(), "17")
TRAINING = {"checkpoints": ["r4/artifacts/epoch_0"], "output_dir": "r4/artifacts", "script": "r4/finetune.slurm"}


def accounted(state: str, exit_code: str = "0:0") -> AccountedJob:
    """A job that ended after a minute of its hour."""
    return AccountedJob("17", "tiny.r4", 0, "", state, None, exit_code, "", NOON, NOON, NOON, "n1", 60, 3600)
