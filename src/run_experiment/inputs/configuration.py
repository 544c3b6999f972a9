"""What determines a result: plain nested configurations that records hold and the plan compares.

Facts of the site (account, partition, modules, memory, paths) are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.experiment.model import Evaluation, Generation, Model, Prompting, Training
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.inputs.model_fingerprint import model_fingerprint
from run_experiment.inputs.named_files import content_hash, files_in_source, named_files
from run_experiment.inputs.task_imports import local_sources
from run_experiment.inputs.task_signature import (
    DATA_ARGUMENT,
    LABEL_ARGUMENT,
    TaskCall,
    TaskSignature,
    read_signature,
    task_call,
)

Config = dict[str, Any]

# Arguments that are not compared by their value: of files the content counts, and a label changes no answer.
_NOT_COMPARED = frozenset({DATA_ARGUMENT, LABEL_ARGUMENT})
# Names in a task's configuration that change no answer.
_NAMES = frozenset({LABEL_ARGUMENT, "source_model"})


class Determinants:
    """Builds the configurations of one experiment; hashes are computed once a session.

    `foreign_configs` are of the evaluations whose job scripts another tool wrote, by run and cell: the file that the
    script gives to the task, if there is one.
    """

    def __init__(
        self, memory: HashMemory, foreign_configs: Mapping[tuple[str, str], Path | None] | None = None
    ) -> None:
        self._memory = memory
        self._foreign_configs = foreign_configs or {}
        self.model = cache(_model)
        self._signature = cache(read_signature)
        self._sources = cache(local_sources)
        self._in_source = cache(lambda script: files_in_source([script, *self._sources(script)], script))

    def training(self, training: Training) -> Config:
        """What determines a fine-tune."""
        hyperparameters = training.hyperparameters
        data = {"train": self._memory.split(training.data, "train", hyperparameters.training_samples)}
        if hyperparameters.validation_during_training:
            data["validation"] = self._memory.split(training.data, "validation")
        return {
            "model": self.model(training.model),
            "data": {split: {"sha256": sha256} for split, sha256 in data.items()},
            "prompting": _prompting(training.prompting),
            "hyperparameters": hyperparameters.recorded(),
        }

    def evaluation(self, evaluation: Evaluation) -> Config:
        """What determines an evaluation, except its checkpoint."""
        call, script = self.call(evaluation), evaluation.task.script
        arguments = {name: value for name, value in call.arguments.items() if name not in _NOT_COMPARED}
        task = {
            "script": {"sha256": self._memory.file(script)},
            "function": call.signature.function,
            "arguments": arguments,
        }
        if imports := self._imports(script):
            task["imports"] = imports
        if call.config:
            task["config"] = {name: value for name, value in call.config.items() if name not in _NAMES}
        read = {**call.signature.defaults, **arguments, "config": task.get("config")}
        if files := self._files(evaluation, read, call.data):
            task["files"] = files
        return {
            "model": self.model(evaluation.run.model),
            "task": task,
            "data": self._data(call.data, call.split) if call.data else {},
            "dataset_type": evaluation.prompting.dataset_type,
            "generation": _generation(evaluation.generation),
        }

    def call(self, evaluation: Evaluation) -> TaskCall:
        """What an evaluation's task is called with."""
        key = (evaluation.run.name, evaluation.cell)
        file = self._foreign_configs.get(key, evaluation.config_file)
        return task_call(evaluation, self.signature(evaluation), file, is_ours=key not in self._foreign_configs)

    def _imports(self, script: Path) -> Config:
        """Hashes of the files beside a task's script that it imports, by their path relative to it."""
        return {
            path.relative_to(script.parent).as_posix(): {"sha256": self._memory.file(path)}
            for path in self._sources(script)
        }

    def _files(self, evaluation: Evaluation, values: Config, data: Path | None) -> Config:
        """Hashes of the files that a task's arguments or source name, but for what is known as another part of it."""
        script, experiment = evaluation.task.script, evaluation.config_file.parents[2]
        found = {**self._in_source(script), **named_files(script, values)}
        known = {path.resolve() for path in (*self._sources(script), *([data] if data else []))}
        return {
            text: {"sha256": content_hash(path, self._memory.file)}
            for text, path in sorted(found.items())
            if path.resolve() not in known and not _is_made_here(path.resolve(), experiment.resolve())
        }

    def signature(self, evaluation: Evaluation) -> TaskSignature:
        """Signature of an evaluation's task."""
        return self._signature(evaluation.task.script, evaluation.task.function)

    def _data(self, data: Path, split: str | None) -> Config:
        """Hash of the split that a task reads, else of the whole file."""
        if split and (sha256 := self._memory.split(data, split)):
            return {"split": split, "sha256": sha256}
        return {"split": None, "sha256": self._memory.file(data)}


def _is_made_here(path: Path, experiment: Path) -> bool:
    """Whether a path is the summary or something that runs make, by its place in the experiment's folder."""
    if not path.is_relative_to(experiment):
        return False
    first = (*path.relative_to(experiment).parts, "")[0]
    return first in {paths.SUMMARY, ".snakemake", *paths.RESERVED_RUN_NAMES} or first.endswith(".log")


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
    if generation.logprobs:
        config |= {"logprobs": True, "top_logprobs": generation.top_logprobs}
    return config
