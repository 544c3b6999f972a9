"""Decides what is fresh, stale or missing, and which target needs which other one first.

Only records decide: a target is fresh if its record's configuration is today's. File times do not count.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from run_experiment.attempts.history import History
from run_experiment.attempts.kept_trainings import KeptTraining, Sought, kept_training
from run_experiment.checkpoints.identities import CHECKPOINT, checkpoint_hashes, training_identity
from run_experiment.checkpoints.verify import checkpoint_files
from run_experiment.common import paths
from run_experiment.common.errors import CheckpointError, InputError, Problem, UnreadableError
from run_experiment.common.json_files import describe_change, read_record, same_config
from run_experiment.evaluation.dataset_cache import FACTS
from run_experiment.experiment.model import Evaluation, Experiment, Run
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.configuration import Config, Determinants
from run_experiment.inputs.data_files import DataError
from run_experiment.inputs.data_sets import DataSet, data_sets
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.inputs.task_signature import TaskScriptError
from run_experiment.jobscripts.render import JobScripts
from run_experiment.planning.plan import Plan
from run_experiment.planning.redo import Redos
from run_experiment.planning.results_state import results_outdated
from run_experiment.planning.selection import choose
from run_experiment.planning.target import State, Target


def make_plan(experiment: Experiment, settings: Settings, memory: HashMemory) -> Plan:
    """Compare every record of an experiment with what it would say today, and with what is chosen by hand.

    Raises InputError.
    """
    try:
        return _planned(experiment, settings, memory)
    except (DataError, CheckpointError, TaskScriptError, OSError) as error:
        raise UnreadableError(str(experiment.folder / paths.SUMMARY), error) from error


def _planned(experiment: Experiment, settings: Settings, memory: HashMemory) -> Plan:
    determinants = Determinants(memory)
    scripts = JobScripts(experiment, settings, determinants)
    plan = Plan(
        experiment=experiment,
        scripts=scripts,
        data_sets=data_sets(experiment, determinants),
        choice=choose(settings, experiment),
        redos=Redos(experiment.folder, settings.redo),
    )
    return _Builder(plan, determinants, memory).build()


class _Builder:
    """Fills a plan with its targets."""

    def __init__(self, plan: Plan, determinants: Determinants, memory: HashMemory) -> None:
        self._plan = plan
        self._experiment = plan.experiment
        self._scripts = plan.scripts
        self._data_sets = plan.data_sets
        self._determinants = determinants
        self._memory = memory
        self._attempts = History(self._experiment.folder)
        # Trainings that only have to be taken back, by their record's path.
        self._kept: dict[str, KeptTraining] = {}

    def build(self) -> Plan:
        for run in self._experiment.runs:
            if run.training:
                self._add(self._finetune(run))
            for epoch in run.verified:
                self._add(self._verify(run, epoch))
        for data_set in self._data_sets.by_name.values():
            self._add(self._cache(data_set))
        for evaluation in self._experiment.evaluations:
            self._add(self._evaluate(evaluation))
        self._add(self._results())
        return self._plan

    def _add(self, target: Target) -> None:
        self._plan.targets[target.path] = target

    def _record(self, path: str) -> dict[str, Any] | None:
        """Record of a target; None where there is none, or none that says what it is of."""
        record = read_record(self._experiment.folder / path)
        if record is None or not isinstance(record.get("config"), dict):
            return None
        return record if "/checkpoints/" not in path or checkpoint_hashes(record) else None

    def _finetune(self, run: Run) -> Target:
        assert run.training is not None
        path = paths.finetune_record(run.name)
        config = self._determinants.training(run.training)
        config |= self._scripts.own_commands([paths.finetune_config(run.name), paths.finetune_script(run.name)])
        if run.output_dir is None and Path(paths.finetune_script(run.name)).name not in config:
            message = f"torchtune names its checkpoints {paths.CHECKPOINT_NAME}: the pattern has to end in that"
            raise InputError(paths.SUMMARY, [Problem(0, "output.checkpoint_pattern", message)])
        target = self._redone(self._compared(path, config, run.training.data), config)
        if target.wanted and (kept := self._kept_training(run, target)):
            self._kept[path] = kept
            return replace(target, reason=f"trained already, by job {kept.record.get('job_id')}: it is taken back")
        return target

    def _kept_training(self, run: Run, target: Target) -> KeptTraining | None:
        """The training that the job of a target takes back instead of training again."""
        checkpoints = [str(run.checkpoint_dir(epoch)) for epoch in run.epochs]
        output = str(run.output_dir) if run.output_dir else None
        return kept_training(Sought(self._experiment.folder, run.name, target.config, target.redo, output, checkpoints))

    def _redone(self, target: Target, config: Config) -> Target:
        """The same, but to be made again where that was asked for and is not done yet."""
        asked = target.path in self._plan.choice.redo
        since = self._plan.redos.since(target.path, config, target.wanted, asked)
        if target.wanted:
            return replace(target, redo=since)
        if not since:
            made = asked and self._plan.redos.made_since(target.path, config)
            return replace(target, reason=f"made again since {made}") if made else target
        return replace(target, state=State.STALE, reason="asked for (redo)", redo=since)

    def _compared(
        self, path: str, config: Config, data: Path | str | None = None, script: Path | str | None = None
    ) -> Target:
        """A target whose configuration is known now; `data` and `script` are files that it has hashes of."""
        record = self._record(path)
        if record is None:
            return Target(path, self._unmade(path), self._why_unmade(path), config)
        if not same_config(record["config"], config):
            return Target(path, State.STALE, describe_change(record["config"], config, data, script), config)
        return Target(path, State.FRESH, "done", config)

    def _unmade(self, path: str) -> State:
        """State of a target without a readable record: Snakemake takes any file there for the target."""
        return State.STALE if (self._experiment.folder / path).exists() else State.MISSING

    def _why_unmade(self, path: str) -> str:
        if self._unmade(path) is State.STALE:
            return "its record cannot be read"
        left = self._attempts.newest(path)
        return left.what if left else "not done yet"

    def _verify(self, run: Run, epoch: int | None) -> Target:
        """The verification of a checkpoint: after the training, unless that is only taken back and was verified."""
        path = paths.manifest(run.name, epoch)
        config: Config = {"model": self._determinants.model(run.model)}
        if not run.training:
            return self._verified(run, epoch, path, config)
        training = self._plan[paths.finetune_record(run.name)]
        kept = self._kept.get(training.path)
        if kept or not training.wanted:
            made = kept.record if kept else self._record(training.path) or {}
            target = self._verified(run, epoch, path, config | {"training": training_identity(made)})
            if not (training.wanted and target.wanted):
                return target
        reason = "its training is taken back first" if kept else "its run is trained first"
        return Target(path, self._unmade(path), reason, config, (training.path,))

    def _verified(self, run: Run, epoch: int | None, path: str, config: Config) -> Target:
        """A checkpoint that is there, compared with what its manifest says."""
        record, target = self._record(path), self._compared(path, config)
        files = self._checkpoint_files(run, epoch)
        if files is None:
            # Removed, to save space maybe: no reason to fail unless an evaluation needs it.
            return replace(target, state=self._unmade(path), reason="the checkpoint is not there", optional=True)
        if record and not target.wanted and files != checkpoint_hashes(record):
            return replace(target, state=State.STALE, reason="the checkpoint's files changed")
        if record and not target.wanted and (reason := self._why_unloadable(run, epoch, record)):
            return replace(target, state=State.STALE, reason=reason, optional=True)
        return target

    def _why_unloadable(self, run: Run, epoch: int | None, record: dict[str, Any]) -> str | None:
        """Why evaluations cannot load a whole checkpoint from its folder, which names others by their paths."""
        if record.get("base_model") != str(run.model.path):
            return "its base model moved"
        if record.get("checkpoint") != str(self._plan.checkpoint_dir(run, epoch)):
            return "the checkpoint moved"
        if not (self._experiment.folder / paths.loadable(run.name, epoch)).is_dir():
            return "the folder to load it from is gone"
        return None

    def _checkpoint_files(self, run: Run, epoch: int | None) -> Config | None:
        """Hashes of a checkpoint's files as they lie there; None where it is not there."""
        kept, here = self._kept.get(paths.finetune_record(run.name)), self._experiment.folder
        place = kept.place(here / run.checkpoint_dir(epoch)) if kept else here / self._plan.checkpoint_dir(run, epoch)
        try:
            files = checkpoint_files(place)
            return {file.name: {"sha256": self._memory.file(file)} for file in files}
        except (CheckpointError, DataError):
            return None

    def _cache(self, data_set: DataSet) -> Target:
        path = paths.cache_record(data_set.name)
        target = replace(self._compared(path, data_set.config, data_set.data, data_set.script), optional=True)
        if not target.wanted and not (self._experiment.folder / data_set.folder / FACTS).is_file():
            return replace(target, state=State.STALE, reason="its folder is gone")
        return target

    def _evaluate(self, evaluation: Evaluation) -> Target:
        run, cell = evaluation.run, evaluation.cell
        config = self._determinants.evaluation(evaluation)
        config |= self._scripts.own_commands(self._scripts.evaluation_files(evaluation))
        target = self._compared_with_checkpoint(paths.eval_record(run.name, cell), config, evaluation)
        if not target.wanted and not (self._experiment.folder / paths.eval_log(run.name, cell)).is_file():
            target = replace(target, state=State.STALE, reason="its log is gone")
        target = self._redone(target, config)
        return replace(target, config=config, needs=self._needs(evaluation) if target.wanted else ())

    def _needs(self, evaluation: Evaluation) -> tuple[str, ...]:
        """What has to be made before an evaluation."""
        needs = [self._plan[paths.cache_record(self._data_sets.of(evaluation).name)]]
        if evaluation.needs_checkpoint:
            manifest = self._plan[paths.manifest(evaluation.run.name, evaluation.epoch)]
            # What was verified of a training that is taken back has to be in its place again.
            taken_back = evaluation.run.training and not manifest.wanted
            needs.append(self._plan[paths.finetune_record(evaluation.run.name)] if taken_back else manifest)
        return tuple(target.path for target in needs if target.wanted)

    def _results(self) -> Target:
        """The results: made again where a record is newer, or where they are of another experiment.

        They are of all that is there; what is neither there nor chosen is not waited for.
        """
        jobs = [one for one in self._plan.targets.values() if not one.optional and "/checkpoints/" not in one.path]
        needs = tuple(one.path for one in jobs if not (one.wanted and self._plan.choice.why_not(one.path)))
        path = paths.SUMMARY_PAGE
        stale = results_outdated(self._experiment, self._plan.targets)
        return Target(path, State.STALE if stale else State.FRESH, "the experiment changed", {}, needs, optional=True)

    def _compared_with_checkpoint(self, path: str, config: Config, evaluation: Evaluation) -> Target:
        """Compare an evaluation's record, which holds the hashes of the checkpoint's files too."""
        task = evaluation.task
        if not evaluation.needs_checkpoint:
            return self._compared(path, config, task.data, task.script)
        run, epoch = evaluation.run, evaluation.epoch
        manifest, record = self._plan[paths.manifest(run.name, epoch)], self._record(path)
        if manifest.needs and paths.finetune_record(run.name) not in self._kept:
            return Target(path, self._unmade(path), manifest.reason, config)
        files = self._checkpoint_files(run, epoch)
        if files is None and record:
            # What was evaluated and then removed cannot have changed since.
            files = record["config"].get(CHECKPOINT)
        return self._compared(path, {**config, CHECKPOINT: files}, task.data, task.script)
