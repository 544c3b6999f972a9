"""The verification of a checkpoint, as a step of the workflow: its manifest, and a folder to load it from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from run_experiment.checkpoints.identities import training_identity
from run_experiment.checkpoints.publish import publish_checkpoint
from run_experiment.checkpoints.verify import verify_checkpoint
from run_experiment.common.clock import now
from run_experiment.common.errors import CheckpointError
from run_experiment.common.json_files import write_record
from run_experiment.experiment.model import Model
from run_experiment.experiment.records import read_training


def verify(
    *,
    checkpoint: str,
    model: dict[str, str],
    loadable: str,
    manifest: str,
    config: dict[str, Any],
    training: str | None,
    kept: str | None,
) -> None:
    """Verify a checkpoint, make it loadable, write its manifest. Raises CheckpointError.

    Paths are relative to the experiment folder; `training` is the record of the training that made the checkpoint,
    `kept` its copy beside the checkpoint.
    """
    base = Model(model["name"], Path(model["path"]))
    facts = verify_checkpoint(Path(checkpoint), base)
    publish_checkpoint(Path(checkpoint), base, Path(loadable))
    if training:
        config = {**config, "training": _identity(training, kept)}
    verified = {"verified": now().isoformat(timespec="seconds"), "checkpoint": checkpoint, "base_model": model["path"]}
    write_record(Path(manifest), {**verified, **asdict(facts), "config": config})


def _identity(training: str, kept: str | None) -> dict[str, Any]:
    """Which training made the checkpoint. Raises CheckpointError where the checkpoint is another one's."""
    record = read_training(Path(training))
    if record is None:
        raise CheckpointError(f"{training} is missing: the run is not trained")
    beside = read_training(Path(kept)) if kept else None
    if beside and training_identity(beside) != training_identity(record):
        raise CheckpointError(f"{kept} says that the checkpoint is of another training, job {beside.job_id}")
    return training_identity(record)
