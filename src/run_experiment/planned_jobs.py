"""What the plan tells each job, in files: jobs read no summary, which may be edited while they wait."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from run_experiment import layout
from run_experiment.evaluation_job import EvaluationJob
from run_experiment.finetune_job import FinetuneJob
from run_experiment.jobs import Job
from run_experiment.plan import Plan


class PlannedJobs:
    """Jobs of a plan by their wildcards."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._experiment = plan.experiment

    def finetune(self, run: str) -> str:
        """File that tells the fine-tune of a run, relative to the experiment."""
        entry = self._experiment.run_by_name[run]
        if entry.training is None:
            raise ValueError(f"{run} is not trained")
        job = FinetuneJob(
            run=run,
            config=self._plan[layout.finetune_record(run)].config,
            files=self._plan.scripts.planned(self._plan.scripts.finetune(entry)) if entry.output_dir else {},
            data=str(entry.training.data),
            checkpoints=[str(entry.checkpoint_dir(epoch)) for epoch in entry.epochs],
            output_dir=str(entry.output_dir) if entry.output_dir else None,
        )
        return self._written(job)

    def evaluation(self, run: str, cell: str) -> str:
        """File that tells an evaluation, relative to the experiment."""
        entry = self._experiment.evaluation_by_key[run, cell]
        data, cache = entry.task.data, self._plan.data_sets.of(entry).folder
        job = EvaluationJob(
            run=run,
            config=self._plan[layout.eval_record(run, cell)].config,
            files=self._plan.scripts.planned(self._plan.scripts.evaluation(entry, cache)),
            cell=cell,
            task=str(entry.task.script),
            data=str(data) if data else None,
            manifest=layout.manifest(run, entry.epoch) if entry.needs_checkpoint else None,
            cache=cache,
        )
        return self._written(job)

    def _written(self, job: Job) -> str:
        folder = self._experiment.folder
        return str(job.write(folder / layout.JOBS).relative_to(folder))

    def verification(self, run: str, epoch: str) -> dict[str, Any]:
        """The verification of a checkpoint; `epoch` as in the manifest's name."""
        entry = self._experiment.run_by_name[run]
        number = None if entry.checkpoint else int(epoch.removeprefix("epoch_"))
        path = layout.manifest(run, number)
        training = layout.finetune_record(run) if entry.training else None
        return {
            "checkpoint": str(entry.checkpoint_dir(number)),
            "model": {"name": entry.model.name, "path": str(entry.model.path)},
            "loadable": layout.loadable(run, number),
            "manifest": path,
            "config": self._plan[path].config,
            "training": training,
            "kept": str(entry.output_dir / layout.KEPT_RECORD) if entry.training and entry.output_dir else None,
        }

    def cache(self, data_set: str) -> dict[str, Any]:
        """The prebuilding of a data set's cache."""
        return asdict(self._plan.data_sets.by_name[data_set])
