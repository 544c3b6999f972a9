"""What distinguishes trainings, read from their records."""

from __future__ import annotations

from typing import Any

from run_experiment.experiment.records import TrainingRecord

# The cell of a configuration that only the job can fill in: the checkpoint it evaluates.
CHECKPOINT = "checkpoint"


def training_identity(record: TrainingRecord) -> dict[str, Any]:
    """What distinguishes one training from another of the same configuration."""
    return {"job_id": record.job_id, "ended": record.ended}


def checkpoint_identity(record: TrainingRecord, epoch: int | None) -> dict[str, Any]:
    """What distinguishes a training's checkpoint from that of another training: its own end, if that is known."""
    known = record.epochs[epoch] if epoch is not None and epoch < len(record.epochs) else {}
    return dict(known) or training_identity(record)
