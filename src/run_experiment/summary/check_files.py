"""The files that a summary names: models, data, task scripts, checkpoints."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from run_experiment.checkpoints.verify import checkpoint_files
from run_experiment.common.errors import CheckpointError
from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.experiment.model import Prompting, generation_of, split_script
from run_experiment.experiment.schema import TaskEntry, TrainingData
from run_experiment.finetuning.architecture import ModelError, lora_builder
from run_experiment.inputs.data_files import DataError, Row, read_splits
from run_experiment.inputs.task_signature import (
    DATA_ARGUMENT,
    TaskScriptError,
    TaskSignature,
    offered_arguments,
    read_signature,
)
from run_experiment.summary.draft import Draft, Finding

_FORMATS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def check_files(draft: Draft, folder: Path) -> list[Finding]:
    """What is missing or wrong in the files that a summary names; paths are relative to `folder`."""
    return [
        *_models(draft, folder),
        *_run_folders(draft, folder),
        *_checkpoints(draft, folder),
        *_training_data(draft, folder),
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
        elif _is_trained(draft, model.name):
            try:
                lora_builder(where)
            except ModelError as error:
                yield Finding(place, str(error))


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


def _checkpoints(draft: Draft, folder: Path) -> Iterator[Finding]:
    for path, run in draft.runs.items():
        written = [((*path, "checkpoint_path"), run.checkpoint_path)]
        written += [((*path, "parameters", "checkpoint_path"), run.parameters.checkpoint_path)]
        for place, text in written:
            if run.type == "eval-only" and text:
                yield from _checkpoint(place, folder / text)


def _checkpoint(path: KeyPath, where: Path) -> Iterator[Finding]:
    if not os.path.isdir(where):
        yield Finding(path, f"there is no folder {shown(str(where), 200)}")
        return
    try:
        checkpoint_files(where)
    except (CheckpointError, OSError) as error:
        expected = f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}, or config.json and *.safetensors"
        yield Finding(path, f"{shown(str(error), 500)[1:-1]}; expected {expected}")


def _missing_file(path: KeyPath, file: Path) -> Iterator[Finding]:
    if os.path.isdir(file):
        yield Finding(path, f"{shown(str(file), 200)} is a folder; expected a file")
    elif not os.path.isfile(file):
        yield Finding(path, f"there is no file {shown(str(file), 200)}")
    elif os.path.getsize(file) == 0:
        yield Finding(path, f"{shown(str(file), 200)} is empty")


def _training_data(draft: Draft, folder: Path) -> Iterator[Finding]:
    training, path = draft.training, ("data", "training", "path")
    if training is None:
        return
    file = folder / training.path
    missing = list(_missing_file(path, file))
    if missing:
        yield from missing
        return
    written = _FORMATS.get(file.suffix.lower())
    if training.format and written and training.format != written:
        yield Finding(("data", "training", "format"), f"is {training.format}, but {file.name} ends in {file.suffix}")
    try:
        splits = read_splits(file)
    except DataError as error:
        yield Finding(path, shown(str(error), 500)[1:-1])
        return
    yield from _split_counts(training, splits)
    if any(run.type == "fine-tuned" for run in draft.runs.values()):
        yield from list(_used_splits(draft, splits)) or _steps(draft, len(splits["train"]))


def _split_counts(training: TrainingData, splits: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    for name, count in (training.splits or {}).items():
        path = ("data", "training", "splits", name)
        if name not in splits:
            yield Finding(path, f"the data file has no such split{did_you_mean(name, splits)}", warning=True)
        elif len(splits[name]) != count:
            yield Finding(path, f"says {count}, but the data file has {len(splits[name])}", warning=True)


def _used_splits(draft: Draft, splits: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    """The splits that training reads: there, and each row with the text it needs."""
    needed = ["train"]
    if any(run.type == "fine-tuned" and draft.merged(run).validation_during_training for run in draft.runs.values()):
        needed.append("validation")
    for name in needed:
        problem = _split_problem(name, splits)
        if problem:
            reason = " (validation_during_training)" if name == "validation" else ""
            yield Finding(("data", "training", "path"), problem + reason)


def _steps(draft: Draft, rows: int) -> Iterator[Finding]:
    """Runs of which the train split does not fill one optimizer step: nothing would be trained."""
    for path, run in draft.runs.items():
        merged = draft.merged(run)
        batch, steps = merged.batch_size, merged.gradient_accumulation_steps
        if run.type != "fine-tuned" or rows >= batch * steps:
            continue
        own = [
            name for name in ("batch_size", "gradient_accumulation_steps") if name in run.parameters.model_fields_set
        ]
        place = (*path, "parameters", own[0]) if own else ("data", "training", "path")
        product = f"batch_size {batch} × gradient_accumulation_steps {steps} = {batch * steps}"
        yield Finding(place, f"split train has {rows} rows, fewer than one optimizer step takes ({product})")


def _split_problem(name: str, splits: Mapping[str, Sequence[Row]]) -> str | None:
    rows = splits.get(name)
    if not rows:
        there = "is empty" if name in splits else f"is missing; there is {', '.join(map(shown, splits))}"
        return f"split {name} {there}"
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            return f"row {number} of split {name} is not an object with input and output"
        for key in ("input", "output"):
            if not isinstance(row.get(key), str):
                found = f"is {shown(row[key])}, not text" if key in row else "is missing"
                return f"row {number} of split {name}: {key} {found}"
    return None


def _tasks(draft: Draft, folder: Path) -> Iterator[Finding]:
    for path, task in draft.tasks.items():
        if task.dataset not in (None, "same"):
            yield from _missing_file((*path, "dataset"), folder / str(task.dataset))
        yield from _task_script(draft, path, task, folder)


def _task_script(draft: Draft, path: KeyPath, task: TaskEntry, folder: Path) -> Iterator[Finding]:
    file, function = split_script(task.script)
    missing = list(_missing_file((*path, "script"), folder / file))
    if missing:
        yield from missing
        return
    try:
        signature = read_signature(folder / file, function)
    except TaskScriptError as error:
        yield Finding((*path, "script"), shown(str(error), 500)[1:-1])
        return
    yield from _arguments(draft, path, task, signature)


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
