"""Files that tell each job what to do: jobs do not read the summary, which may be edited while they wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import yaml

from run_experiment.attempts.trainings import trained_epoch
from run_experiment.checkpoints.identities import CHECKPOINT, checkpoint_identity
from run_experiment.common import paths
from run_experiment.common.json_files import same_config
from run_experiment.experiment.compute import Compute
from run_experiment.experiment.model import Evaluation, Run
from run_experiment.experiment.records import read_manifest, read_training
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.configuration import Config
from run_experiment.inputs.data_files import as_named
from run_experiment.jobs.specs import EvaluationJob, FinetuneJob, Job
from run_experiment.jobscripts.edits import Rendered
from run_experiment.jobscripts.foreign import working_directory
from run_experiment.planning.plan import Plan


class PlannedJobs:
    """Jobs of a plan by their wildcards, each retried up to `retries` times if that can help.

    Their files are written while `writes` says so, else only named.
    """

    def __init__(self, plan: Plan, retries: int = Settings.retries, writes: Callable[[], bool] = lambda: True) -> None:
        self._plan = plan
        self._experiment = plan.experiment
        self._retries = retries
        self._writes = writes

    def finetune(self, run: str) -> str:
        """File of a run's training, relative to the experiment."""
        entry = self._experiment.run_by_name[run]
        if entry.training is None:
            raise ValueError(f"{run} is not trained")
        job = FinetuneJob(
            run=run,
            config=self._plan[paths.finetune_record(run)].config,
            files=self._plan.scripts.planned(self._plan.scripts.finetune(entry)) if entry.output_dir else {},
            target=paths.finetune_record(run),
            name=paths.job_name(self._experiment.name, run),
            script=paths.finetune_script(run),
            folder=working_directory(self._experiment.folder, paths.finetune_script(run)),
            data=as_named([str(file) for file in entry.training.data]),
            checkpoints=[str(entry.checkpoint_dir(epoch)) for epoch in entry.epochs],
            output_dir=str(entry.output_dir) if entry.output_dir else None,
            elsewhere=self._elsewhere(entry),
            retries=self._retries,
            keys=self._keys(paths.finetune_script(run), entry.compute or Compute(), f"of run {run}"),
        )
        return self._written(job)

    def evaluation(self, run: str, cell: str) -> str:
        """File of an evaluation, relative to the experiment."""
        entry = self._experiment.evaluation_by_key[run, cell]
        data, cache = entry.task.data, self._plan.data_sets.of(entry).folder
        script = self._plan.scripts.evaluation_files(entry)[0]
        files = self._plan.scripts.evaluation(entry, cache)
        job = EvaluationJob(
            run=run,
            config=self._plan[paths.eval_record(run, cell)].config | self._checkpoint(entry),
            files=self._plan.scripts.planned(files),
            target=paths.eval_record(run, cell),
            name=paths.job_name(self._experiment.name, run, entry.task.name, entry.epoch),
            script=script,
            folder=working_directory(self._experiment.folder, script),
            cell=cell,
            task=str(entry.task.script),
            data=str(data) if data else None,
            manifest=paths.manifest(run, entry.epoch) if entry.needs_checkpoint else None,
            cache=cache,
            epoch=entry.epoch,
            models=self._models(entry),
            base=str(entry.run.model.path),
            max_connections=entry.generation.max_connections,
            task_name=self._plan.scripts.task_name(entry),
            arguments=self._arguments(paths.task_arguments(run, cell), files),
            retries=self._retries,
            keys=self._keys(script, None, ""),
        )
        return self._written(job)

    def _arguments(self, path: str, files: Mapping[str, Rendered]) -> list[str] | None:
        """Names of the arguments in the file that a job will find; None if it gets no such file."""
        if path not in files:
            return None
        values = yaml.safe_load(self._plan.scripts.text(path, files[path]))
        return list(values) if isinstance(values, dict) else []

    def _keys(self, script: str, compute: Compute | None, whose: str) -> dict[str, str]:
        """The keys of the summary that decide what a job requests; none if its script's lines are the user's own."""
        existing = self._plan.scripts.existing(script)
        if existing and existing.own_head:
            return {}
        keys = {name: compute.key(name) if compute else f"evaluation.compute.{name}" for name in ("time", "mem")}
        return {name: " ".join(filter(None, [key, whose, "in the summary"])) for name, key in keys.items()}

    def _elsewhere(self, run: Run) -> list[str]:
        """Where another tool's script may write its checkpoints, other than the summary says."""
        usual = [paths.CHECKPOINT_PATTERN.format(run=run.name, epoch=epoch) for epoch in run.epochs]
        own_script = self._plan[paths.finetune_record(run.name)].own_script
        return usual if own_script and usual != [str(run.checkpoint_dir(epoch)) for epoch in run.epochs] else []

    def _checkpoint(self, evaluation: Evaluation) -> Config:
        """The verified checkpoint, as a part of an evaluation's configuration; empty while it is not known.

        Snakemake asks again once everything is made that an evaluation needs.
        """
        path = paths.manifest(evaluation.run.name, evaluation.epoch)
        # By now, not as planned: it may have been verified since.
        manifest = read_manifest(self._experiment.folder / path) if evaluation.needs_checkpoint else None
        if manifest is None or not same_config(self._verified(evaluation, path), manifest.config):
            return {}
        return {CHECKPOINT: manifest.hashes}

    def _verified(self, evaluation: Evaluation, manifest: str) -> Config | None:
        """What the manifest of a checkpoint as it is now says; None if its run has to be trained first."""
        config = {name: value for name, value in self._plan[manifest].config.items() if name != "training"}
        if not evaluation.run.training:
            return config
        identity = self._trained_by(evaluation.run, evaluation.epoch)
        return {**config, "training": identity} if identity else None

    def _trained_by(self, run: Run, epoch: int | None) -> Config | None:
        """What distinguishes a run's checkpoint of today's configuration; None if there is none yet."""
        path = paths.finetune_record(run.name)
        config, training = self._plan[path].config, read_training(self._experiment.folder / path)
        if training and same_config(training.config, config):
            return checkpoint_identity(training, epoch)
        return None if epoch is None else trained_epoch(self._plan.sought(run, config), epoch)

    def _models(self, evaluation: Evaluation) -> list[str]:
        """Folders that an evaluation's script may read its model from."""
        run, epoch = evaluation.run, evaluation.epoch
        if not evaluation.needs_checkpoint:
            return [str(run.model.path)]
        return [str(self._plan.checkpoint_dir(run, epoch)), paths.loadable(run.name, epoch)]

    def _written(self, job: Job) -> str:
        if self._writes():
            job.write(self._experiment.folder / paths.JOBS)
        return f"{paths.JOBS}/{job.file_name}"

    def verification(self, run: str, epoch: str) -> dict[str, Any]:
        """The verification of a checkpoint; `epoch` as in the manifest's name."""
        entry = self._experiment.run_by_name[run]
        number = None if entry.checkpoint else int(epoch.removeprefix("epoch_"))
        path = paths.manifest(run, number)
        training = paths.finetune_record(run) if entry.training else None
        return {
            "checkpoint": str(self._plan.checkpoint_dir(entry, number)),
            "model": {"name": entry.model.name, "path": str(entry.model.path)},
            "loadable": paths.loadable(run, number),
            "manifest": path,
            "config": self._plan[path].config,
            "training": training,
            "epoch": number,
            "kept": str(entry.output_dir / paths.KEPT_RECORD) if entry.training and entry.output_dir else None,
        }

    def check(self, name: str) -> dict[str, Any]:
        """The check of a model with its prompts and data."""
        return asdict(self._plan.model_checks.by_name[name])

    def cache(self, data_set: str) -> dict[str, Any]:
        """The prebuilding of a data set's cache."""
        return asdict(self._plan.data_sets.by_name[data_set])
