"""Data sets of an experiment's evaluations. Tasks that read the same data in the same way share a prebuilt cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from run_experiment.common.json_files import config_hash, short_hash
from run_experiment.experiment.model import Evaluation, Experiment
from run_experiment.inputs.configuration import Config, Determinants


@dataclass(frozen=True)
class DataSet:
    """A data set to build a cache of, by calling its task once. `folder` is named by the content of the `data` file."""

    name: str
    folder: str
    config: Config
    script: str
    data: str | None
    function: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class DataSets:
    """Data sets by name, and which one an evaluation reads."""

    by_name: dict[str, DataSet]
    name_by_task: dict[str, str]

    def of(self, evaluation: Evaluation) -> DataSet:
        """The data set that an evaluation reads."""
        return self.by_name[self.name_by_task[evaluation.task.name]]


def data_sets(experiment: Experiment, determinants: Determinants) -> DataSets:
    """The distinct data sets of the matrix, each named after the first task that reads it."""
    by_hash: dict[str, DataSet] = {}
    name_by_task: dict[str, str] = {}
    for evaluation in experiment.evaluations:
        if evaluation.task.name not in name_by_task:
            data_set = _data_set(evaluation, determinants)
            found = by_hash.setdefault(config_hash(data_set.config), data_set)
            name_by_task[evaluation.task.name] = found.name
    return DataSets({item.name: item for item in by_hash.values()}, name_by_task)


def _data_set(evaluation: Evaluation, determinants: Determinants) -> DataSet:
    """Without prompt and run, which do not change what data is read."""
    task = evaluation.task
    arguments = determinants.call(evaluation).all_arguments
    given = determinants.evaluation(evaluation)
    config = {
        "script": given["task"]["script"],
        "imports": given["task"].get("imports", {}),
        "function": given["task"]["function"],
        "arguments": dict(task.args),
        "data": given["data"],
    }
    if "files" in given["task"]:
        config["files"] = given["task"]["files"]
    return DataSet(
        name=task.name,
        folder=f"cache/{task.name}-{short_hash(config)}",
        config=config,
        script=str(task.script),
        data=str(task.data) if task.data else None,
        function=given["task"]["function"],
        arguments=arguments,
    )
