"""How much a training goes through, as known before it begins: from the check of its model, which encodes all rows."""

from __future__ import annotations

from dataclasses import dataclass

from run_experiment.experiment.model import Run
from run_experiment.planning.plan import Plan


@dataclass(frozen=True)
class TrainingSize:
    """One epoch: its optimizer steps, tokens, and those of them that the loss is of."""

    epochs: int
    steps: int
    tokens: int
    loss_tokens: int


def training_size(plan: Plan, run: Run) -> TrainingSize | None:
    """How much the training of a run goes through; None if its model was not checked yet, or by an older version."""
    check = plan.model_checks.by_run.get(run.name)
    known = plan.snapshot.check(check.name) if check else None
    if run.training is None or not known or not known.samples:
        return None
    given = run.training.hyperparameters
    per_step = given.batch_size * given.gradient_accumulation_steps
    steps = known.samples // per_step
    steps = min(steps, given.max_steps_per_epoch or steps)
    part = steps * per_step / known.samples
    loss_tokens = known.tokens if given.train_on_input else known.answer_tokens
    return TrainingSize(given.epochs, steps, round(known.tokens * part), round(loss_tokens * part))
