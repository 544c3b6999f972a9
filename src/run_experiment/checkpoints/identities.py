"""What distinguishes trainings and checkpoints, read from their records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from run_experiment.experiment.records import TrainingRecord

# The cell of a configuration that only the job can fill in: the checkpoint it evaluates.
CHECKPOINT = "checkpoint"


def training_identity(record: TrainingRecord) -> dict[str, Any]:
    """What distinguishes one training from another of the same configuration."""
    return {"job_id": record.job_id, "ended": record.ended}


def checkpoint_hashes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """SHA-256 of a verified checkpoint's files, by name; empty if the manifest does not have them."""
    try:
        return {name: {"sha256": facts["sha256"]} for name, facts in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError):
        return {}
