"""What the plan tells each job, as text: jobs read no summary, which may be edited while they wait."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from run_experiment import layout
from run_experiment.evaluation_job import EvaluationJob
from run_experiment.finetune_job import FinetuneJob
from run_experiment.plan import Plan


class PlannedJobs:
    """Jobs of a plan by their wildcards."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._experiment = plan.experiment

    def finetune(self, run: str) -> str:
        """The fine-tune of a run, as JSON."""
        entry = self._experiment.run_by_name[run]
        if entry.training is None:
            raise ValueError(f"{run} is not trained")
        return FinetuneJob(
            run=run,
            config=self._plan[layout.finetune_record(run)].config,
            data=str(entry.training.data),
            checkpoints=[str(entry.checkpoint_dir(epoch)) for epoch in entry.epochs],
            output_dir=str(entry.output_dir) if entry.output_dir else None,
        ).to_json()

    def evaluation(self, run: str, cell: str) -> str:
        """An evaluation, as JSON."""
        entry = self._experiment.evaluation_by_key[run, cell]
        data = entry.task.data
        return EvaluationJob(
            run=run,
            config=self._plan[layout.eval_record(run, cell)].config,
            cell=cell,
            task=str(entry.task.script),
            data=str(data) if data else None,
            manifest=layout.manifest(run, entry.epoch) if entry.needs_checkpoint else None,
            cache=self._plan.data_sets.of(entry).folder,
        ).to_json()

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
        }

    def cache(self, data_set: str) -> dict[str, Any]:
        """The prebuilding of a data set's cache."""
        return asdict(self._plan.data_sets.by_name[data_set])
