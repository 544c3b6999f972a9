"""What determines a result: plain nested configurations that records hold and the plan compares.

Facts of the site (account, partition, modules, memory, paths) are not among them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from run_experiment.experiment.model import Evaluation, Generation, Model, Prompting, Training
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.inputs.model_fingerprint import model_fingerprint
from run_experiment.inputs.task_imports import local_sources
from run_experiment.inputs.task_signature import DATA_ARGUMENT, TaskSignature, read_signature, task_arguments

Config = dict[str, Any]


class Determinants:
    """Builds the configurations of one experiment; hashes are computed once a session."""

    def __init__(self, memory: HashMemory) -> None:
        self._memory = memory
        self.model = cache(_model)
        self._signature = cache(read_signature)
        self._sources = cache(local_sources)

    def training(self, training: Training) -> Config:
        """What determines a fine-tune."""
        hyperparameters = training.hyperparameters
        splits = ("train", "validation") if hyperparameters.validation_during_training else ("train",)
        return {
            "model": self.model(training.model),
            "data": {split: {"sha256": self._memory.split(training.data, split)} for split in splits},
            "prompting": _prompting(training.prompting),
            "hyperparameters": hyperparameters.model_dump(mode="json"),
        }

    def evaluation(self, evaluation: Evaluation) -> Config:
        """What determines an evaluation, except its checkpoint."""
        signature = self.signature(evaluation)
        # The content of the data file counts, not its path.
        arguments = {name: value for name, value in self.arguments(evaluation).items() if name != DATA_ARGUMENT}
        task = {
            "script": {"sha256": self._memory.file(evaluation.task.script)},
            "function": signature.function,
            "arguments": arguments,
        }
        if imports := self._imports(evaluation.task.script):
            task["imports"] = imports
        return {
            "model": self.model(evaluation.run.model),
            "task": task,
            "data": self.evaluation_data(evaluation, signature),
            "dataset_type": evaluation.prompting.dataset_type,
            "generation": _generation(evaluation.generation),
        }

    def arguments(self, evaluation: Evaluation) -> dict[str, Any]:
        """Arguments that an evaluation's task is called with."""
        return task_arguments(evaluation, self.signature(evaluation))

    def _imports(self, script: Path) -> Config:
        """Hashes of the files beside a task's script that it imports, by their path relative to it."""
        return {
            path.relative_to(script.parent).as_posix(): {"sha256": self._memory.file(path)}
            for path in self._sources(script)
        }

    def signature(self, evaluation: Evaluation) -> TaskSignature:
        """Signature of an evaluation's task."""
        return self._signature(evaluation.task.script, evaluation.task.function)

    def evaluation_data(self, evaluation: Evaluation, signature: TaskSignature) -> Config:
        """Hash of the data that a task reads: the split named by its arguments, else the whole file."""
        task = evaluation.task
        takes_data = signature.takes(DATA_ARGUMENT)
        if task.data is None or not (task.own_data or takes_data):
            return {}
        split = task.args.get("split", signature.defaults.get("split"))
        if isinstance(split, str) and (sha256 := self._memory.split(task.data, split)):
            return {"split": split, "sha256": sha256}
        return {"split": None, "sha256": self._memory.file(task.data)}


def _model(model: Model) -> Config:
    return {"weights": {"sha256": model_fingerprint(model.path)}}


def _prompting(prompting: Prompting) -> Config:
    return {
        "prompt": prompting.prompt,
        "system_prompt": prompting.system_prompt,
        "dataset_type": prompting.dataset_type,
    }


def _generation(generation: Generation) -> Config:
    """Settings that change what is generated. Batch size does not; seed and temperature only when sampling."""
    config: Config = {"do_sample": generation.do_sample, "max_tokens": generation.max_tokens}
    if generation.do_sample:
        config |= {"temperature": generation.temperature, "seed": generation.seed}
    return config
