"""What determines a result: plain nested configurations that records hold and the plan compares.

Facts of the site (account, partition, modules, memory, paths) are not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from run_experiment.common.json_files import canonical, config_hash, mapping, short_hash
from run_experiment.experiment.model import (
    DEFAULT_TRAINER,
    Evaluation,
    Experiment,
    Generation,
    Model,
    Prompting,
    Training,
)
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.inputs.fingerprints import model_fingerprint
from run_experiment.inputs.named_files import files_in_config, files_in_source, hashes_of, named_files
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


@dataclass(frozen=True)
class EvaluationInputs:
    """What an evaluation's task is called with, and the configuration that determines its result."""

    call: TaskCall
    config: Config


class Determinants:
    """Builds the configurations of one experiment; hashes are computed once a session.

    `foreign_configs` are of the evaluations whose job scripts another tool wrote, by run and cell: the file that the
    script gives to the task, if there is one. `foreign_function` is the function that such scripts call of a task's
    file, by that and the name of the task.
    """

    def __init__(
        self,
        memory: HashMemory,
        foreign_configs: Mapping[tuple[str, str], Path | None] | None = None,
        foreign_function: Callable[[Path, str], str | None] = lambda script, task: None,
    ) -> None:
        self._memory = memory
        self._foreign_configs = foreign_configs or {}
        self.model = cache(_model)
        self._foreign_function = foreign_function
        self._signature = cache(self._read_signature)
        self._sources = cache(local_sources)
        self._part = cache(memory.part)
        self._tasks: dict[tuple[str, str], Config] = {}
        self._in_source = cache(lambda script: files_in_source([script, *self._sources(script)], script))

    def training(self, training: Training, recorded: Mapping[str, Any] | None = None) -> Config:
        """What determines a fine-tune; what makes no difference is as in the configuration that is recorded of it."""
        hyperparameters = training.hyperparameters
        data = {"train": self._memory.split(training.data, "train", hyperparameters.training_samples)}
        if hyperparameters.validation_during_training:
            data["validation"] = self._memory.split(training.data, "validation")
        return {
            "model": self.model(training.model),
            "data": {split: {"sha256": sha256} for split, sha256 in data.items()},
            "prompting": _prompting(training.prompting),
            "hyperparameters": self._hyperparameters(training, data.keys(), mapping(recorded)),
            # Records are older than the choice.
            **({"trainer": training.trainer} if training.trainer != DEFAULT_TRAINER else {}),
        }

    def _hyperparameters(self, training: Training, splits: Set[str], recorded: Mapping[str, Any]) -> Config:
        """Those of a training; without conversations in its splits `mask_history` makes no difference."""
        given, before = training.hyperparameters.recorded(), mapping(recorded.get("hyperparameters"))
        if "mask_history" not in {*given, *before} or self._memory.conversations(training.data) & splits:
            return given
        without = {name: value for name, value in given.items() if name != "mask_history"}
        other = {**without, "mask_history": False}
        # Records of earlier versions have it.
        return other if before == other else without

    def evaluation(self, evaluation: Evaluation) -> EvaluationInputs:
        """What determines an evaluation, except its checkpoint."""
        call = self.call(evaluation)
        config = {
            "model": self.model(evaluation.run.model),
            "task": self._task(evaluation, call),
            "data": self._part(call.data, call.split) if call.data else {},
            "dataset_type": evaluation.prompting.dataset_type,
            "generation": _generation(evaluation.generation),
        }
        return EvaluationInputs(call, config)

    def _task(self, evaluation: Evaluation, call: TaskCall) -> Config:
        """What determines the task of an evaluation; evaluations that call it alike share it."""
        arguments = {name: value for name, value in call.arguments.items() if name not in _NOT_COMPARED}
        foreign = self._foreign_configs.get((evaluation.run.name, evaluation.cell))
        told = files_in_config(foreign) if foreign else {}
        key = evaluation.task.name, canonical([arguments, call.config, sorted(told)])
        if key not in self._tasks:
            self._tasks[key] = self._read_task(evaluation, call, arguments, told)
        return self._tasks[key]

    def _read_task(self, evaluation: Evaluation, call: TaskCall, arguments: Config, told: Mapping[str, Path]) -> Config:
        """The task with its arguments, and hashes of the files that it reads, also those that it is `told` to."""
        script = evaluation.task.script
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
        named = {**self._in_source(script), **named_files(script, read), **told}
        known = (script, *self._sources(script), *([call.data] if call.data else []))
        if files := hashes_of(named, known, evaluation.config_file.parents[2], self._memory.file):
            task["files"] = files
        return task

    def named_by(self, config: Path, training: Training) -> Config:
        """Hashes of the files, by their path, that a trainer's config names beside those of data and model."""
        named = {
            text: path for text, path in files_in_config(config).items() if training.model.path not in path.parents
        }
        return hashes_of(named, training.data, config.parents[1], self._memory.file)

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

    def signature(self, evaluation: Evaluation) -> TaskSignature:
        """Signature of an evaluation's task."""
        task = evaluation.task
        return self._signature(task.script, task.function, task.name)

    def _read_signature(self, script: Path, function: str | None, task: str) -> TaskSignature:
        return read_signature(script, function, task, partial(self._foreign_function, script, task))


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
    task, inputs = evaluation.task, determinants.evaluation(evaluation)
    given = inputs.config
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
        function=inputs.call.signature.name,
        arguments=inputs.call.all_arguments,
    )


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
    # Records of hf are older than other backends.
    if generation.backend != "hf":
        config |= {"backend": generation.backend, "vllm_options": dict(generation.vllm_options)}
    return config
