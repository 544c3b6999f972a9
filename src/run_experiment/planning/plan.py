"""The plan of an experiment: all of its targets, which of them are selected, and their job scripts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from run_experiment.attempts.reuse import OfferedEvaluation, take_evaluation, take_training
from run_experiment.attempts.trainings import KeptTraining, Sought
from run_experiment.common import paths
from run_experiment.common.text import shortened
from run_experiment.experiment.model import Experiment, Run
from run_experiment.experiment.records import TrainingRecord, read_training
from run_experiment.inputs.configuration import Config, DataSets
from run_experiment.jobscripts.edits import Rendered
from run_experiment.jobscripts.render import JobScripts
from run_experiment.planning.model_checks import ModelChecks
from run_experiment.planning.selection import Choice
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.target import State, Target


@dataclass(frozen=True)
class Row:
    """A run or an evaluation in the plan's table; `path` is None if there is nothing to make (no training).

    With `is_step` it is a step before them, of which nothing needs to be said if it is not made. `taken` is why no job
    makes it, although it is wanted.
    """

    subject: str
    path: str | None
    wanted: bool
    why: str
    is_step: bool = False
    taken: str = ""


@dataclass
class Plan:
    """All targets of an experiment by their path; `snapshot` is the state of the folder that they rest on.

    `redone` are those planned as if their records had been moved away, which `redo.move_records` does. `offered` are
    trainings, and `offered_evaluations` evaluations, of other experiments by the record that they become once
    `take_offered` has put them in place; no job makes such an evaluation.
    """

    experiment: Experiment
    snapshot: Snapshot
    scripts: JobScripts
    data_sets: DataSets
    model_checks: ModelChecks
    choice: Choice
    redone: set[str] = field(default_factory=set)
    offered: dict[str, KeptTraining] = field(default_factory=dict)
    offered_evaluations: dict[str, OfferedEvaluation] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Target:
        """The target of a path."""
        return self.targets[path]

    def finals(self) -> list[str]:
        """Paths of the selected targets that are goals themselves: trainings, checkpoints, evaluations."""
        return [target.path for target in self.targets.values() if self._is_final(target)]

    def checkpoint_dir(self, run: Run, epoch: int | None) -> Path:
        """Folder of a checkpoint, according to the training's record on disk now, else according to the summary."""
        return written_to(run, epoch, read_training(self.experiment.folder / paths.finetune_record(run.name)))

    def sought(self, run: Run, config: Config) -> Sought:
        """How a run's training of a configuration is found among those on disk."""
        checkpoints = [str(run.checkpoint_dir(epoch)) for epoch in run.epochs]
        output = str(run.output_dir) if run.output_dir else None
        return Sought(self.experiment.folder, run.name, config, output, checkpoints)

    def taken(self) -> list[str]:
        """Paths of the selected evaluations that are taken from other experiments instead of being made."""
        return [path for path in self.offered_evaluations if not self.choice.why_not(self[path])]

    def take_offered(self, outputs: Collection[str]) -> None:
        """Put what is taken from other experiments in its place. Raises OSError.

        That is the trainings among the `outputs` of this session, and if it makes the results, the evaluations in them.
        """
        evaluations = self.taken() if paths.SUMMARY_PAGE in outputs else []
        # Without the training that it is of, also if that was not asked for, an evaluation would be outdated.
        trainings = {*outputs, *(paths.finetune_record(paths.target_of(path)[0]) for path in evaluations)}
        for path in self.offered.keys() & trainings:
            run, _ = paths.target_of(path)
            take_training(self.sought(self.experiment.run_by_name[run], self[path].config), self.offered[path])
        for path in evaluations:
            offered = self.offered_evaluations[path]
            take_evaluation(self.experiment.folder, *paths.target_of(path), offered)
            self.targets[path] = replace(self[path], state=State.FRESH, why=offered.why, needs=())

    def write_scripts(self) -> list[str]:
        """Write job scripts and configs that are missing or outdated; returns messages on edited ones that are kept."""
        self.scripts.write_dated_tokenizers()
        by_kind: dict[str, list[str]] = {}
        for files in self._rendered(self.targets):
            for path, kind in self.scripts.write(files).items():
                by_kind.setdefault(kind, []).append(path)
        return [f"{kind}: {shortened(paths)}" for kind, paths in by_kind.items()]

    def left_behind(self) -> list[str]:
        """Messages on edited scripts and configs of wanted targets that are out of date with the summary.

        Raises InputError for a model whose path no script can name.
        """
        edited = {path for path, target in self.targets.items() if target.wanted and target.edited}
        rendered = self._rendered(edited | self._one_of_each_model())
        return [said for files in rendered for said in self.scripts.left_behind(files)]

    def _one_of_each_model(self) -> set[str]:
        """A training and an evaluation of each model that have to be made, if any."""
        made = [(run, paths.finetune_record(run.name)) for run in self.experiment.fine_tuned]
        made += [(item.run, paths.eval_record(item.run.name, item.cell)) for item in self.experiment.evaluations]
        found = {(run.model, run.checkpoint, self[path].kind): path for run, path in made if self[path].wanted}
        return set(found.values())

    def _rendered(self, targets: Collection[str]) -> Iterator[dict[str, Rendered]]:
        """Job scripts and configs of these targets, as rendered today."""
        for run in self.experiment.fine_tuned:
            if run.output_dir is not None and paths.finetune_record(run.name) in targets:
                yield self.scripts.finetune(run)
        for evaluation in self.experiment.evaluations:
            if paths.eval_record(evaluation.run.name, evaluation.cell) in targets:
                yield self.scripts.evaluation(evaluation, self.data_sets.of(evaluation).folder)

    def rows(self) -> list[Row]:
        """A row for each run and evaluation: its name, whether it has to be made, and why."""
        rows = []
        for run in self.experiment.runs:
            target = self.targets.get(paths.finetune_record(run.name))
            rows.append(self._row(run.name, target) if target else Row(run.name, None, False, run.why_untrained))
        for evaluation in self.experiment.evaluations:
            rows.append(self._row(evaluation.subject, self[paths.eval_record(evaluation.run.name, evaluation.cell)]))
        return rows

    def check_rows(self) -> list[Row]:
        """A row for each check of a model that was not passed before."""
        checks = {paths.model_check(check.name): check for check in self.model_checks.by_name.values()}
        needed_by = self._needed_by(checks)
        return [
            Row(f"check {check.model}", path, True, f"{check.what}, for {shortened(needed_by[path])}", is_step=True)
            for path, check in checks.items()
            if path in self.targets and self[path].wanted
        ]

    def _needed_by(self, paths_of_steps: Collection[str]) -> dict[str, list[str]]:
        """Names of the trainings and evaluations that need each of these steps."""
        found: dict[str, list[str]] = {path: [] for path in paths_of_steps}
        for row in self.rows():
            for path in found.keys() & (self[row.path].needs if row.path and not row.taken else ()):
                found[path].append(row.subject)
        return found

    def _is_final(self, target: Target) -> bool:
        return not (target.optional or self.choice.why_not(target) or target.path in self.offered_evaluations)

    def _row(self, subject: str, target: Target) -> Row:
        left_out = self.choice.why_not(target) if target.wanted else ""
        offered = None if left_out else self.offered_evaluations.get(target.path)
        return Row(subject, target.path, target.wanted, left_out or target.why, taken=offered.why if offered else "")


def written_to(run: Run, epoch: int | None, record: TrainingRecord | None) -> Path:
    """Folder of a checkpoint: according to the training's record, else according to the summary."""
    elsewhere = paths.CHECKPOINT_PATTERN.format(run=run.name, epoch=epoch)
    return Path(elsewhere) if record and elsewhere in record.checkpoints else run.checkpoint_dir(epoch)
