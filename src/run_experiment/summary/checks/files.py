"""The files that a summary names: models, data, task scripts, checkpoints."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from pathlib import Path

from run_experiment.common.errors import CheckpointError
from run_experiment.common.paths import ADAPTER_CONFIG
from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.experiment.model import Prompting, generation_of, split_script
from run_experiment.experiment.schema import TaskEntry
from run_experiment.finetuning.architecture import ModelError, lora_builder
from run_experiment.finetuning.model_files import folder_problem, training_problem
from run_experiment.inputs.task_signature import (
    DATA_ARGUMENT,
    TaskScriptError,
    TaskSignature,
    offered_arguments,
    read_signature,
)
from run_experiment.summary.checks.checkpoints import check_checkpoints
from run_experiment.summary.checks.data import check_training_data, missing_file
from run_experiment.summary.checks.scorers import check_scorers
from run_experiment.summary.draft import Draft, Finding


def check_files(draft: Draft, folder: Path) -> list[Finding]:
    """What is missing or wrong in the files that a summary names; paths are relative to `folder`."""
    return [
        *_models(draft, folder),
        *_run_folders(draft, folder),
        *check_checkpoints(draft, folder),
        *check_training_data(draft, folder),
        *_tasks(draft, folder),
    ]


def _models(draft: Draft, folder: Path) -> Iterator[Finding]:
    for path, model in draft.models.items():
        place, where = (*path, "path"), folder / model.path
        if not os.path.isdir(where):
            hint = "; models are not downloaded: give the folder" if _is_hub_name(model.path, folder) else ""
            yield Finding(place, f"there is no folder {shown(str(where), 200)}{hint}")
        elif not os.path.isfile(where / "config.json"):
            yield Finding(place, f"{shown(str(where), 200)} has no config.json")
        elif not any(where.glob("*.safetensors")):
            yield Finding(place, f"{shown(str(where), 200)} has no weights (*.safetensors)")
        elif os.path.isfile(where / ADAPTER_CONFIG):
            message = f"holds {ADAPTER_CONFIG}, so transformers would load an adapter in place of the model"
            yield Finding(place, f"{shown(str(where), 200)} {message}; move the adapter's files to another folder")
        elif problem := _model_problem(where, _is_trained(draft, model.name)):
            yield Finding(place, problem)


def _model_problem(folder: Path, trained: bool) -> str | None:
    """What a job would find wrong with the files of a model."""
    try:
        if trained:
            lora_builder(folder)
        return folder_problem(folder) or (training_problem(folder) if trained else None)
    except (ModelError, CheckpointError, OSError) as error:
        return str(error)


def _is_hub_name(path: str, folder: Path) -> bool:
    """Whether a path is rather an `organisation/model`: its first part is no folder either."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path)) and not os.path.isdir(folder / path.split("/")[0])


def _is_trained(draft: Draft, model: str) -> bool:
    return any(run.type == "fine-tuned" and run.model in (None, model) for run in draft.runs.values())


def _run_folders(draft: Draft, folder: Path) -> Iterator[Finding]:
    models = {os.path.normpath(folder / model.path): model.name for model in draft.models.values()}
    for path, run in draft.runs.items():
        own = os.path.normpath(folder / run.name)
        if os.path.isfile(own):
            yield Finding((*path, "name"), f"{run.name} would be the run's folder, but a file has that name")
        elif own in models:
            yield Finding((*path, "name"), f"{run.name} would be the run's folder, but model {models[own]} is there")


def _tasks(draft: Draft, folder: Path) -> Iterator[Finding]:
    for path, task in draft.tasks.items():
        if task.dataset not in (None, "same"):
            yield from missing_file((*path, "dataset"), folder / str(task.dataset))
        yield from _task_script(draft, path, task, folder)


def _task_script(draft: Draft, path: KeyPath, task: TaskEntry, folder: Path) -> Iterator[Finding]:
    file, function = split_script(task.script)
    missing = list(missing_file((*path, "script"), folder / file))
    if missing:
        yield from missing
        return
    try:
        signature = read_signature(folder / file, function)
    except TaskScriptError as error:
        yield Finding((*path, "script"), shown(str(error), 500)[1:-1])
        return
    yield from _arguments(draft, path, task, signature)
    yield from check_scorers(draft, path, signature, folder / file)
    yield from _doubled_braces(draft, path, task, folder / file)


def _arguments(draft: Draft, path: KeyPath, task: TaskEntry, signature: TaskSignature) -> Iterator[Finding]:
    for name in task.args:
        if name == DATA_ARGUMENT:
            yield Finding((*path, "args", name), "name the data file in dataset, so that changes to it are noticed")
        elif not signature.takes(name):
            hint = did_you_mean(name, signature.parameters)
            yield Finding((*path, "args", name), f"task {signature.function} has no such parameter{hint}")
    offered = {*_offered(draft, task), *task.args}
    for name in signature.required:
        if name not in offered:
            message = f"task {signature.function} needs {name}, which nothing provides; set it in args"
            yield Finding((*path, "args"), message)
    yield from _prompts_not_taken(draft, path, task, signature)
    if signature.takes(DATA_ARGUMENT) and task.dataset in (None, "same"):
        yield from _data_of_several(draft, path, task)


def _data_of_several(draft: Draft, path: KeyPath, task: TaskEntry) -> Iterator[Finding]:
    """A task that would read the training data, where runs have data of their own."""
    own = {run.name for run in draft.runs.values() if run.data and run.type == "fine-tuned"}
    evaluated = [entry.run for entry in draft.matrix.values() if task.name in entry.tasks and entry.run in own]
    if evaluated:
        message = f"is required: run {evaluated[0]} has data of its own; name the file that all runs are evaluated on"
        yield Finding((*path, "dataset"), message)


def _prompts_not_taken(draft: Draft, path: KeyPath, task: TaskEntry, signature: TaskSignature) -> Iterator[Finding]:
    """Prompts that evaluations on a task would have, where its function cannot be given them."""
    runs = {entry.run for entry in draft.matrix.values() if task.name in entry.tasks}
    evaluated = [run for run in draft.runs.values() if run.name in runs]
    shared = {"prompt": None, "system_prompt": draft.evaluation.system_prompt}
    for name, plain in (("prompt", "{input}"), ("system_prompt", "")):
        own = getattr(task, name)
        given = shared[name] if own is None else own
        lost = [run for run in evaluated if (getattr(draft.merged(run), name) if given is None else given) != plain]
        if lost and not signature.takes(name):
            trained = any(run.type == "fine-tuned" and getattr(draft.merged(run), name) != plain for run in lost)
            message = f"task {signature.function} takes no {name}, so its evaluations run without it"
            yield Finding((*path, "script"), message + (", unlike the training" if trained else ""), warning=True)


def _doubled_braces(draft: Draft, path: KeyPath, task: TaskEntry, script: Path) -> Iterator[Finding]:
    """A prompt with `{{`, which training fills as `str.format` does, and a task that seems to fill it otherwise."""
    runs = {entry.run for entry in draft.matrix.values() if task.name in entry.tasks}
    prompts = [draft.merged(run).prompt for run in draft.runs.values() if run.name in runs]
    doubled = any("{{" in text or "}}" in text for text in (prompts if task.prompt is None else [task.prompt]))
    if doubled and ".format(" not in script.read_text(encoding="utf-8", errors="replace"):
        message = "the prompt has {{ or }}, which mean { and }; a task that does not fill it with"
        yield Finding((*path, "script"), f"{message} prompt.format(input=…) keeps them doubled", warning=True)


def _offered(draft: Draft, task: TaskEntry) -> set[str]:
    """Names of the arguments that every evaluation on a task has for it."""
    types = {draft.merged(run).dataset_type for run in draft.runs.values()}
    settings = draft.evaluation
    generation = generation_of(settings)
    data = Path(task.dataset or "same") if draft.has_training or task.dataset else None
    scorers = [scorer.model_dump() for scorer in settings.scorers]
    # Only where no run uses a chat template do all evaluations offer to go without one.
    kind = "text_completion" if types == {"text_completion"} else "chat_completion"
    return set(offered_arguments(Prompting("", "", kind), generation, scorers, data))
