"""The losses of trainings, step by step, as their recipe wrote them."""

from __future__ import annotations

from pathlib import Path

from run_experiment.experiment.model import Run
from run_experiment.finetuning.metrics import METRICS_FILE, Losses, read_losses
from run_experiment.planning.results_state import Records


def losses_of(records: Records, run: Run) -> Losses | None:
    """The losses of a run's training; None if it was not trained, or by a trainer that leaves no such file."""
    record = records.training(run)
    if record is None:
        return None
    folder = Path(record.checkpoints[0]).parent if record.checkpoints else Path(run.name, "artifacts")
    try:
        return read_losses(records.experiment.folder / folder / METRICS_FILE)
    except (OSError, ValueError):
        return None


def validation_by_epoch(losses: Losses) -> dict[int, float]:
    """The validation loss after each epoch: the last one that was computed in it."""
    return {epoch: loss for epoch, _, loss in losses.validation}
