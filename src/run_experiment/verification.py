"""The verification of a checkpoint, as a step of the workflow: its manifest, and a folder to load it from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from run_experiment.checkpoints import publish_checkpoint, verify_checkpoint
from run_experiment.determinants import training_identity
from run_experiment.experiment import Model
from run_experiment.jobs import now
from run_experiment.records import read_record, write_record


def verify(
    *,
    checkpoint: str,
    model: dict[str, str],
    loadable: str,
    manifest: str,
    config: dict[str, Any],
    training: str | None,
) -> None:
    """Verify a checkpoint, make it loadable, write its manifest. Raises CheckpointError.

    Paths are relative to the experiment folder; `training` is the record of the training that made the checkpoint.
    """
    base = Model(model["name"], Path(model["path"]))
    facts = verify_checkpoint(Path(checkpoint), base)
    publish_checkpoint(Path(checkpoint), base, Path(loadable))
    if training:
        config = {**config, "training": training_identity(read_record(Path(training)) or {})}
    verified = {"verified": now().isoformat(timespec="seconds"), "checkpoint": checkpoint, "base_model": model["path"]}
    write_record(Path(manifest), {**verified, **asdict(facts), "config": config})
