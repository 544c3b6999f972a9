"""The verification of a checkpoint, as a step of the workflow: its manifest, and a folder to load it from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from run_experiment.checkpoints.identities import checkpoint_identity, training_identity
from run_experiment.checkpoints.publish import publish_checkpoint
from run_experiment.checkpoints.verify import verify_checkpoint
from run_experiment.common.clock import now
from run_experiment.common.errors import CheckpointError, VerificationError
from run_experiment.common.json_files import read_record, write_record
from run_experiment.common.paths import TRAINED
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
    epoch: int | None,
) -> None:
    """Verify a checkpoint, make it loadable, write its manifest. Raises VerificationError.

    Paths are relative to the experiment folder; `training` is the record of the training that made the checkpoint of
    this `epoch`, `kept` its copy beside the checkpoint. While the training goes on there is no record yet.
    """
    base = Model(model["name"], Path(model["path"]))
    try:
        if training:
            config = {**config, "training": _identity(Path(training), Path(checkpoint), epoch)}
            _require_own(Path(training), kept)
        facts = verify_checkpoint(Path(checkpoint), base, is_trained_here=training is not None)
        publish_checkpoint(Path(checkpoint), base, Path(loadable))
    except CheckpointError as error:
        raise VerificationError(error, config) from error
    verified = {"verified": now().isoformat(timespec="seconds"), "checkpoint": checkpoint, "base_model": model["path"]}
    write_record(Path(manifest), {**verified, **asdict(facts), "config": config})


def _identity(training: Path, checkpoint: Path, epoch: int | None) -> dict[str, Any]:
    """Which training made the checkpoint. Raises CheckpointError if none has."""
    # Before the record, which takes its place when the training ends.
    trained = read_record(checkpoint / TRAINED)
    record = read_training(training)
    if record is None:
        if trained is None:
            raise CheckpointError(f"{training} is missing: the run is not trained")
        return trained
    return checkpoint_identity(record, epoch)


def _require_own(training: Path, kept: str | None) -> None:
    """Raise CheckpointError if the record beside a checkpoint says that it is of another training."""
    record, beside = read_training(training), read_training(Path(kept)) if kept else None
    if record and beside and training_identity(beside) != training_identity(record):
        raise CheckpointError(f"{kept} says that the checkpoint is of another training, job {beside.job_id}")
