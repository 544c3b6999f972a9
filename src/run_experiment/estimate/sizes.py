"""How much jobs are of, as known before they begin: tokens of trainings, samples of evaluations."""

from __future__ import annotations

from dataclasses import dataclass

from run_experiment.common import paths
from run_experiment.common.json_files import read_record
from run_experiment.evaluation.dataset_cache import FACTS
from run_experiment.experiment.model import Run
from run_experiment.experiment.records import CheckRecord, EvaluationRecord, JobRecord, TrainingRecord, read_check
from run_experiment.planning.plan import Plan
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.target import Kind, Target


@dataclass(frozen=True)
class TrainingSize:
    """One epoch: its optimizer steps, tokens, and those of them that the loss is of."""

    epochs: int
    steps: int
    tokens: int
    loss_tokens: int


def training_size(plan: Plan, run: Run, snapshot: Snapshot | None = None) -> TrainingSize | None:
    """How much the training of a run goes through; None if its model was not checked yet, or by an older version.

    The check, which encodes all rows, knows; `snapshot` is what was read last, if not the plan's.
    """
    check = plan.model_checks.by_run.get(run.name)
    return _size_by(run, (snapshot or plan.snapshot).check(check.name)) if check else None


def training_size_now(plan: Plan, run: Run) -> TrainingSize | None:
    """The same by what is on the disk now: a model may have been checked since the plan was made."""
    check = plan.model_checks.by_run.get(run.name)
    return _size_by(run, read_check(plan.experiment.folder / paths.model_check(check.name))) if check else None


def _size_by(run: Run, known: CheckRecord | None) -> TrainingSize | None:
    if run.training is None or not known or not known.samples:
        return None
    given = run.training.hyperparameters
    per_step = given.batch_size * given.gradient_accumulation_steps
    steps = known.samples // per_step
    steps = min(steps, given.max_steps_per_epoch or steps)
    part = steps * per_step / known.samples
    loss_tokens = known.tokens if given.train_on_input else known.answer_tokens
    return TrainingSize(given.epochs, steps, round(known.tokens * part), round(loss_tokens * part))


class Sizes:
    """How much the jobs of a plan are of: tokens of an epoch of a training, samples of an evaluation; 0 if unknown."""

    def __init__(self, plan: Plan, snapshot: Snapshot | None = None) -> None:
        self.plan = plan
        self._snapshot = snapshot or plan.snapshot
        self._samples: dict[str, int] = {}

    def planned(self, target: Target) -> int:
        """How much a job is of that makes a target."""
        run, cell = paths.target_of(target.path)
        if target.kind is Kind.TRAINING:
            size = self._training(run)
            return size.tokens if size else 0
        evaluation = self.plan.experiment.evaluation_by_key[run, cell]
        folder = self.plan.data_sets.of(evaluation).folder
        if folder not in self._samples:
            found = (read_record(self.plan.experiment.folder / folder / FACTS) or {}).get("samples")
            self._samples[folder] = found if isinstance(found, int) and found > 0 else 0
        return self._samples[folder]

    def measured(self, target: Target, record: JobRecord) -> int:
        """How much the job of a record was of."""
        if isinstance(record, EvaluationRecord):
            return record.total or 0
        # Of another data set or model nothing is known any more.
        return self.planned(target) if record.config == target.config else 0

    def tokens_per_second(self, target: Target, record: JobRecord) -> float | None:
        """Tokens per second of a training's last steps, prompts included; None if not known."""
        if not isinstance(record, TrainingRecord) or not record.tokens_per_second or record.config != target.config:
            return None
        size = self._training(paths.target_of(target.path)[0])
        return record.tokens_per_second * size.tokens / size.loss_tokens if size else None

    def _training(self, run: str) -> TrainingSize | None:
        return training_size(self.plan, self.plan.experiment.run_by_name[run], self._snapshot)
