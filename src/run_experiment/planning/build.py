"""Decides what is fresh, stale or missing, and which target needs which other one first.

Only records decide: a target is fresh if its record's configuration is today's. File times do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from run_experiment.attempts.reuse import OtherExperiments
from run_experiment.attempts.trainings import KeptTraining, kept_training, trained_epoch
from run_experiment.checkpoints.identities import CHECKPOINT, checkpoint_identity
from run_experiment.checkpoints.verify import checkpoint_files, tokenizer_folder
from run_experiment.common import paths
from run_experiment.common.errors import CheckpointError, InputError, Problem, UnreadableError
from run_experiment.evaluation.dataset_cache import FACTS
from run_experiment.experiment.model import Evaluation, Experiment, Run, Training
from run_experiment.experiment.records import Manifest, training_record
from run_experiment.experiment.settings import Settings
from run_experiment.finetuning.model_check import ModelCheck
from run_experiment.inputs.configuration import Config, DataSet, Determinants, data_sets
from run_experiment.inputs.data_files import DataError
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.inputs.task_signature import TaskScriptError
from run_experiment.jobscripts.foreign import called_function, foreign_cells
from run_experiment.jobscripts.render import JobScripts
from run_experiment.planning.failed_steps import FailedStep, failed_cache, failed_check, failed_verification
from run_experiment.planning.model_checks import ModelChecks
from run_experiment.planning.plan import Plan, written_to
from run_experiment.planning.results_state import results_outdated
from run_experiment.planning.selection import choose
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.target import (
    NO_CHECKPOINT,
    REDONE,
    Kind,
    State,
    Target,
    after_training,
    after_verification,
)

# Keys of a configuration.
TEMPLATE_DATE = "template_date"
_NAMED = "named"


def make_plan(experiment: Experiment, settings: Settings, memory: HashMemory, snapshot: Snapshot) -> Plan:
    """Compare every record of an experiment with today's configuration, and apply `only=` and `redo=`.

    `snapshot` is what this command reads from the folder. Raises InputError.
    """
    try:
        return _Builder(experiment, settings, memory, snapshot).build()
    except (DataError, CheckpointError, TaskScriptError, OSError) as error:
        raise UnreadableError(str(experiment.folder / paths.SUMMARY), error) from error


class _Builder:
    """Fills a plan with its targets."""

    def __init__(self, experiment: Experiment, settings: Settings, memory: HashMemory, snapshot: Snapshot) -> None:
        self._experiment = experiment
        self._memory = memory
        self._others = OtherExperiments(settings.reuse)
        self._snapshot = snapshot
        # Earlier trainings that only have to be restored, by their record's path.
        self._kept: dict[str, KeptTraining] = {}
        # Hashes of checkpoints' files, by run and epoch.
        self._hashes: dict[tuple[str, int | None], Config | None] = {}
        # Why data sets could not be cached, by their name.
        self._uncached: dict[str, FailedStep | None] = {}
        foreign = foreign_cells(experiment)
        configs = {key: experiment.folder / files[1] if files[1:] else None for key, files in foreign.items()}
        self._determinants = Determinants(memory, configs, partial(_called_function, experiment, foreign))
        self._data_sets = data_sets(experiment, self._determinants)
        self._scripts = JobScripts(experiment, settings, self._determinants, foreign)
        self._plan = Plan(
            experiment=experiment,
            snapshot=snapshot,
            scripts=self._scripts,
            data_sets=self._data_sets,
            model_checks=ModelChecks(experiment, self._determinants, memory),
            choice=choose(settings, experiment),
        )

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

    def _finetune(self, run: Run) -> Target:
        assert run.training is not None
        path = paths.finetune_record(run.name)
        own = self._scripts.own_commands([paths.finetune_config(run.name), paths.finetune_script(run.name)])
        own_script = Path(paths.finetune_script(run.name)).name in own
        record = self._snapshot.training(run.name)
        config = self._determinants.training(run.training, record.config if record else None)
        config |= own | self._named(run, run.training, own) | self._template_date(Kind.TRAINING, path, run, own)
        if run.output_dir is None and not own_script:
            message = f"trainers name checkpoints {paths.CHECKPOINT_NAME}, so the pattern must end with that"
            raise InputError(paths.SUMMARY, [Problem(0, "output.checkpoint_pattern", message)])
        target = self._snapshot.compared(Kind.TRAINING, path, config, run.training.data)
        target = self._redone(replace(target, own_script=own_script, edited=bool(own)))
        sought = self._plan.sought(run, config)
        kept = kept_training(sought) if target.wanted else None
        if kept and path not in self._plan.redone:
            why = f"already trained by job {kept.record.get('job_id')}; its checkpoints will be restored"
            return self._restored(target, kept, why)
        if self._may_be_taken(target) and (offered := self._others.training(sought)):
            self._plan.offered[path] = offered
            by = f"job {offered.record.get('job_id')} of {offered.record.get('experiment')}"
            return self._restored(target, offered, f"trained by {by}, from where it is taken")
        if kept:
            target = replace(target, why=REDONE, redone=True)
        # What a script of the user's own encodes, and how, is not known.
        return self._checked(target, self._plan.model_checks.of_training(run, run.training)) if not own else target

    def _named(self, run: Run, training: Training, own: Config) -> Config:
        """Files that a trainer's config names which is not ours. Records of earlier versions have none."""
        config, record = Path(paths.finetune_config(run.name)), self._snapshot.training(run.name)
        if config.name not in own or (record and _NAMED not in record.config):
            return {}
        named = self._determinants.named_by(self._experiment.folder / config, training)
        return {_NAMED: named} if named else {}

    def _restored(self, target: Target, kept: KeptTraining, why: str) -> Target:
        self._kept[target.path] = kept
        return replace(target, why=why, attempt=None, restored=True)

    def _checked(self, target: Target, check: ModelCheck | None) -> Target:
        """A target with the check of its model among its needs, unless it is made or the check was passed before."""
        if not target.wanted or check is None:
            return target
        path = paths.model_check(check.name)
        if path not in self._plan.targets:
            self._add(replace(self._snapshot.compared(Kind.CHECK, path, check.config), optional=True))
        if not self._plan[path].wanted:
            return target
        target, failed = replace(target, needs=(*target.needs, path)), failed_check(self._experiment.folder, check.name)
        return _stopped(target, "its model failed the check", failed) if failed else target

    def _redone(self, target: Target) -> Target:
        """The target as if its record had been moved away already, if `redo=` names it.

        A target that a job is making now is left to that job.
        """
        is_named = target.path in self._plan.choice.redo and not self._snapshot.is_being_made(target.path)
        if not is_named and not self._snapshot.older_redos.ask_for(target.path, target.config):
            return target
        self._plan.redone.add(target.path)
        return target if target.wanted else replace(target, state=State.STALE, why=REDONE, redone=True)

    def _may_be_taken(self, target: Target) -> bool:
        """Whether a target may come from another experiment: one that `redo=` asked for, now or earlier, is made."""
        return target.wanted and not target.redone and target.path not in self._plan.redone

    def _template_date(self, kind: Kind, path: str, run: Run, own: Config) -> Config:
        """The date that the run's chat template shows, if it does; scripts of others see to that themselves.

        Records of earlier versions have none, and what they are of is not made again for it.
        """
        dates, record = self._scripts.dates, self._snapshot.record(kind, path)
        if own or not dates.is_shown(tokenizer_folder(run)) or (record and TEMPLATE_DATE not in record.config):
            return {}
        return {TEMPLATE_DATE: dates.date.isoformat()}

    def _verify(self, run: Run, epoch: int | None) -> Target:
        """The verification of a checkpoint: waits for the training, unless a restored one was verified before."""
        path = paths.manifest(run.name, epoch)
        config: Config = {"model": self._determinants.model(run.model)}
        if not run.training:
            return self._verified(run, epoch, path, config)
        training = self._plan[paths.finetune_record(run.name)]
        kept = self._kept.get(training.path)
        made = training_record(kept.record) if kept else self._snapshot.training(run.name)
        if made and (kept or not training.wanted):
            target = self._verified(run, epoch, path, config | {"training": checkpoint_identity(made, epoch)})
            if not (training.wanted and target.wanted):
                return target
        if (early := self._verified_early(run, epoch, path, config, training)) and not early.wanted:
            return early
        why = "its training will be restored first" if kept else after_training(training)
        needs = (training.path,)
        return Target(Kind.VERIFICATION, path, self._snapshot.unmade(path), why, config, needs, failed=training.failed)

    def _verified_early(
        self, run: Run, epoch: int | None, path: str, config: Config, training: Target
    ) -> Target | None:
        """The verification of an epoch of today's training while that is unfinished; None if there is no such epoch."""
        if epoch is None or not training.wanted or training.path in {*self._kept, *self._plan.redone}:
            return None
        trained = trained_epoch(self._plan.sought(run, training.config), epoch)
        return self._verified(run, epoch, path, config | {"training": trained}) if trained else None

    def _verified(self, run: Run, epoch: int | None, path: str, config: Config) -> Target:
        """The verification of a checkpoint, decided by comparing its files with its manifest."""
        record = self._snapshot.manifest(run.name, epoch)
        target = self._snapshot.compared(Kind.VERIFICATION, path, config)
        failed = failed_verification(self._experiment.folder, run.name, Path(path).stem, config)
        target = replace(target, failed=failed if target.wanted else None)
        files = self._checkpoint_files(run, epoch)
        if files is None:
            # Perhaps removed to save space: that is an error only if an evaluation needs it.
            return replace(target, state=self._snapshot.unmade(path), why=NO_CHECKPOINT, optional=True)
        if record and not target.wanted and files != record.hashes:
            return replace(target, state=State.STALE, why="the checkpoint's files changed")
        if record and not target.wanted and (why := self._why_unloadable(run, epoch, record)):
            return replace(target, state=State.STALE, why=why, optional=True)
        return target

    def _why_unloadable(self, run: Run, epoch: int | None, manifest: Manifest) -> str | None:
        """Why evaluations cannot load a complete checkpoint: its loadable folder refers to others by path."""
        if manifest.base_model != str(run.model.path):
            return "its base model moved"
        if manifest.checkpoint != str(self._checkpoint_dir(run, epoch)):
            return "the checkpoint moved"
        if not (self._experiment.folder / paths.loadable(run.name, epoch)).is_dir():
            return "the folder to load it from is gone"
        return None

    def _checkpoint_files(self, run: Run, epoch: int | None) -> Config | None:
        """Hashes of a checkpoint's files on disk; None if there is no checkpoint. Every evaluation of it asks."""
        if (run.name, epoch) not in self._hashes:
            self._hashes[run.name, epoch] = self._hashes_on_disk(run, epoch)
        return self._hashes[run.name, epoch]

    def _hashes_on_disk(self, run: Run, epoch: int | None) -> Config | None:
        kept, here = self._kept.get(paths.finetune_record(run.name)), self._experiment.folder
        place = kept.place(here / run.checkpoint_dir(epoch)) if kept else here / self._checkpoint_dir(run, epoch)
        manifest, path = self._snapshot.manifest(run.name, epoch), here / paths.manifest(run.name, epoch)
        try:
            known, written = (manifest.files, path.stat().st_mtime_ns) if manifest else ({}, 0)
            files = {file: known.get(file.name, {}) for file in checkpoint_files(place)}
            return {file.name: {"sha256": self._memory.recorded(file, was, written)} for file, was in files.items()}
        except (CheckpointError, DataError):
            return None

    def _checkpoint_dir(self, run: Run, epoch: int | None) -> Path:
        return written_to(run, epoch, self._snapshot.training(run.name))

    def _cache(self, data_set: DataSet) -> Target:
        path = paths.cache_record(data_set.name)
        data = [Path(data_set.data)] if data_set.data else []
        target = self._snapshot.compared(Kind.CACHE, path, data_set.config, data, data_set.script)
        target = replace(target, optional=True)
        if not target.wanted and not (self._experiment.folder / data_set.folder / FACTS).is_file():
            return replace(target, state=State.STALE, why="its folder is gone")
        return target

    def _evaluate(self, evaluation: Evaluation) -> Target:
        run, cell = evaluation.run, evaluation.cell
        config = self._determinants.evaluation(evaluation).config
        own = self._scripts.own_commands(self._scripts.evaluation_files(evaluation))
        path = paths.eval_record(run.name, cell)
        config |= own | self._template_date(Kind.EVALUATION, path, run, own)
        target = self._compared_with_checkpoint(path, config, evaluation)
        if not target.wanted and (why := self._why_other_log(evaluation)):
            target = replace(target, state=State.STALE, why=why)
        target = self._redone(replace(target, config=config, edited=bool(own)))
        self._offer(target, evaluation)
        target = self._with_data(replace(target, needs=self._needs(evaluation) if target.wanted else ()), evaluation)
        return self._checked(target, None if own else self._plan.model_checks.of_evaluation(evaluation))

    def _why_other_log(self, evaluation: Evaluation) -> str | None:
        """Why the log of an evaluation is not the one that its record is of; None if it is, or if that is not known."""
        run, cell, folder = evaluation.run.name, evaluation.cell, self._experiment.folder
        log = folder / paths.eval_log(run, cell)
        if not log.is_file():
            return "its log is gone"
        record = self._snapshot.evaluation(run, cell)
        if record is None or not record.log:
            return None
        written = (folder / paths.eval_record(run, cell)).stat().st_mtime_ns
        return "its log changed" if self._memory.recorded(log, record.log, written) != record.log["sha256"] else None

    def _offer(self, target: Target, evaluation: Evaluation) -> None:
        """Note the evaluation of another experiment that is taken instead; one that a job makes now is left to that."""
        if not self._others.folders or not self._may_be_taken(target) or self._snapshot.is_being_made(target.path):
            return
        config = self._whole_config(target.config, evaluation)
        if config and (offered := self._others.evaluation(config)):
            self._plan.offered_evaluations[target.path] = offered

    def _whole_config(self, config: Config, evaluation: Evaluation) -> Config | None:
        """The configuration of an evaluation with that of its checkpoint; None while there is no checkpoint."""
        if not evaluation.needs_checkpoint:
            return config
        files = None if self._awaits_training(evaluation) else self._checkpoint_files(evaluation.run, evaluation.epoch)
        return {**config, CHECKPOINT: files} if files else None

    def _awaits_training(self, evaluation: Evaluation) -> bool:
        """Whether the checkpoint of an evaluation has to be trained first."""
        manifest = self._plan[paths.manifest(evaluation.run.name, evaluation.epoch)]
        return bool(manifest.needs) and paths.finetune_record(evaluation.run.name) not in self._kept

    def _with_data(self, target: Target, evaluation: Evaluation) -> Target:
        """The target of an evaluation, with the reason if its data set could not be cached."""
        data_set = self._data_sets.of(evaluation)
        if target.attempt or target.failed or paths.cache_record(data_set.name) not in target.needs:
            return target
        if data_set.name not in self._uncached:
            folder = self._experiment.folder
            self._uncached[data_set.name] = failed_cache(folder, data_set.name, data_set.config)
        if not (failed := self._uncached[data_set.name]):
            return target
        return _stopped(target, f"its data set {data_set.name} is not cached", failed)

    def _needs(self, evaluation: Evaluation) -> tuple[str, ...]:
        """Paths of the targets that must be made before an evaluation."""
        needs = [self._plan[paths.cache_record(self._data_sets.of(evaluation).name)]]
        if evaluation.needs_checkpoint:
            manifest = self._plan[paths.manifest(evaluation.run.name, evaluation.epoch)]
            # A verified checkpoint of a training that will be restored is not in its place until then.
            training = paths.finetune_record(evaluation.run.name)
            is_restored = training in self._kept and not manifest.wanted
            needs.append(self._plan[training] if is_restored else manifest)
        return tuple(target.path for target in needs if target.wanted)

    def _results(self) -> Target:
        """The results: made again after any job, and if the experiment has changed.

        They cover what is done; jobs that `only=` leaves out are not waited for, nor is what is taken from elsewhere.
        """
        jobs = [one for one in self._plan.targets.values() if one.kind in (Kind.TRAINING, Kind.EVALUATION)]
        left_out = {one.path for one in jobs if one.wanted and self._plan.choice.why_not(one)}
        needs = tuple(one.path for one in jobs if one.path not in {*left_out, *self._plan.offered_evaluations})
        path = paths.SUMMARY_PAGE
        stale = bool(self._plan.taken()) or results_outdated(self._plan)
        state = State.STALE if stale else State.FRESH
        return Target(Kind.RESULTS, path, state, "the experiment changed", {}, needs, optional=True)

    def _compared_with_checkpoint(self, path: str, config: Config, evaluation: Evaluation) -> Target:
        """Compare an evaluation's record, which also contains the hashes of the checkpoint's files."""
        task, kind = evaluation.task, Kind.EVALUATION
        data = [task.data] if task.data else []
        if not evaluation.needs_checkpoint:
            return self._snapshot.compared(kind, path, config, data, task.script)
        run, epoch = evaluation.run, evaluation.epoch
        manifest, record = self._plan[paths.manifest(run.name, epoch)], self._snapshot.record(kind, path)
        if self._awaits_training(evaluation):
            return Target(kind, path, self._snapshot.unmade(path), manifest.why, config, failed=manifest.failed)
        files = self._checkpoint_files(run, epoch)
        if files is None and record:
            # A checkpoint that was evaluated and then removed cannot have changed since.
            files = record.config.get(CHECKPOINT)
        target = self._snapshot.compared(kind, path, {**config, CHECKPOINT: files}, data, task.script)
        if target.state is State.MISSING and manifest.wanted:
            return replace(target, why=after_verification(manifest), attempt=None, failed=manifest.failed)
        return target


def _called_function(
    experiment: Experiment, foreign: Mapping[tuple[str, str], Sequence[str]], script: Path, task: str
) -> str | None:
    """The function of a task's file that other tools' scripts of its evaluations call."""
    cells = [foreign.get((one.run.name, one.cell), ()) for one in experiment.evaluations if one.task.name == task]
    return called_function(experiment.folder, [files[0] for files in cells if files], script)


def _stopped(target: Target, why: str, failed: FailedStep) -> Target:
    """The target with the reason that a step that it needs failed."""
    return replace(target, why=f"{why}: {failed.error}", failed=failed)
