"""The tasks of a summary: their files, the arguments that they take, and what their evaluations would do without."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.evaluation.dataset_cache import LONG_PATH, is_too_long
from run_experiment.experiment.columns import DEFAULT_COLUMNS
from run_experiment.experiment.evaluation_section import TaskEntry
from run_experiment.experiment.model import Prompting
from run_experiment.experiment.resolve import generation_of, split_script
from run_experiment.inputs.task_signature import (
    CONFIG_ARGUMENT,
    DATA_ARGUMENT,
    INPUT_ARGUMENT,
    TaskScriptError,
    TaskSignature,
    offered_arguments,
    read_signature,
)
from run_experiment.jobscripts.foreign import called_function
from run_experiment.summary.checks.data import missing_file
from run_experiment.summary.checks.prompts_taken import check_prompts_taken, own_cells
from run_experiment.summary.checks.scorers import check_scorers
from run_experiment.summary.draft import Draft, Finding
from run_experiment.summary.path_hints import task_hint

PREFIX = "assistant_prefix"


def check_tasks(draft: Draft, folder: Path) -> Iterator[Finding]:
    """What is missing or wrong in the tasks' files, and what evaluations would do without."""
    for path, task in draft.tasks.items():
        if task.dataset not in (None, "same"):
            yield from missing_file((*path, "dataset"), folder / str(task.dataset), str(task.dataset))
        yield from _task_script(draft, path, task, folder)


def _task_script(draft: Draft, path: KeyPath, task: TaskEntry, folder: Path) -> Iterator[Finding]:
    file, function = split_script(task.script)
    missing = list(missing_file((*path, "script"), folder / file, file, task_hint))
    if missing:
        yield from missing
        return
    if not file.endswith(".py"):
        yield Finding((*path, "script"), f"{file} is not a Python file (.py): put the task into one")
        return
    try:
        by_scripts = partial(_called_by_scripts, draft, task, folder, folder / file)
        signature = read_signature(folder / file, function, task.name, by_scripts)
    except TaskScriptError as error:
        yield Finding((*path, "script"), shown(str(error), 500)[1:-1])
        return
    yield from _arguments(draft, path, task, signature, folder / file)
    yield from check_scorers(draft, path, signature, folder / file)
    yield from check_prompts_taken(draft, path, task, signature, folder)
    yield from _doubled_braces(draft, path, task, folder / file)
    yield from _long_path(path, task, folder, folder / file)


def _called_by_scripts(draft: Draft, task: TaskEntry, folder: Path, script: Path) -> str | None:
    """The function of a task's file that other tools' scripts of its evaluations call; None if there are none."""
    cells = [files[:1] for files in own_cells(draft, task, folder)]
    return called_function(folder, [file for files in cells for file in files], script)


def _arguments(
    draft: Draft, path: KeyPath, task: TaskEntry, signature: TaskSignature, script: Path
) -> Iterator[Finding]:
    for name in task.args:
        if name == DATA_ARGUMENT:
            yield Finding((*path, "args", name), "name the data file in dataset, so that changes to it are noticed")
        elif not signature.takes(name):
            hint = did_you_mean(name, signature.parameters)
            yield Finding((*path, "args", name), f"task {signature.function} has no such parameter{hint}")
    offered = {*_offered(draft, task), *task.args}
    for name in signature.required:
        if name in offered:
            continue
        if name == DATA_ARGUMENT:
            message = f"is required: task {signature.function} needs {name}, and there is no data.training"
            yield Finding((*path, "dataset"), message)
        else:
            message = f"task {signature.function} needs {name}, which nothing provides; set it in args"
            yield Finding((*path, "args"), message)
    yield from _prefix_not_taken(draft, path, task, signature)
    yield from _column_not_taken(draft, path, task, signature, script)
    if signature.takes(DATA_ARGUMENT) and task.dataset in (None, "same"):
        yield from _data_of_several(draft, path, task)


def _prefix_not_taken(draft: Draft, path: KeyPath, task: TaskEntry, signature: TaskSignature) -> Iterator[Finding]:
    own = task.assistant_prefix is not None
    if (task.assistant_prefix if own else draft.evaluation.assistant_prefix) and not signature.is_given(PREFIX):
        place = (*path, PREFIX) if own else ("evaluation", PREFIX)
        message = f"task {signature.function} takes no {PREFIX}, so its evaluations run without it"
        yield Finding(place, message, warning=True)


def _column_not_taken(
    draft: Draft, path: KeyPath, task: TaskEntry, signature: TaskSignature, script: Path
) -> Iterator[Finding]:
    """A task that seems to read another column than the training."""
    runs = {entry.run for entry in draft.matrix.values() if task.name in entry.tasks}
    columns = {draft.merged(run).columns.input for run in draft.runs.values() if run.name in runs}
    if INPUT_ARGUMENT in {*signature.parameters, *task.args}:
        return
    text = script.read_text(encoding="utf-8", errors="replace")
    for name in sorted(columns - {DEFAULT_COLUMNS.input}):
        if f'"{name}"' not in text and f"'{name}'" not in text:
            message = f"task {signature.function} takes no {INPUT_ARGUMENT} and does not name the column {shown(name)}"
            yield Finding((*path, "script"), f"{message}, which training reads", warning=True)


def _data_of_several(draft: Draft, path: KeyPath, task: TaskEntry) -> Iterator[Finding]:
    """A task that would read the training data, which is several files, or not that of all runs."""
    if draft.training and len(draft.training.path) > 1:
        message = "is required: data.training.path has several files; name the file that runs are evaluated on"
        yield Finding((*path, "dataset"), message)
        return
    own = {run.name for run in draft.runs.values() if run.data and run.type == "fine-tuned"}
    evaluated = [entry.run for entry in draft.matrix.values() if task.name in entry.tasks and entry.run in own]
    if evaluated:
        message = f"is required: run {evaluated[0]} has data of its own; name the file that all runs are evaluated on"
        yield Finding((*path, "dataset"), message)


def _doubled_braces(draft: Draft, path: KeyPath, task: TaskEntry, script: Path) -> Iterator[Finding]:
    """A prompt with `{{`, which training fills as `str.format` does, and a task that seems to fill it otherwise."""
    runs = {entry.run for entry in draft.matrix.values() if task.name in entry.tasks}
    prompts = [draft.merged(run).prompt for run in draft.runs.values() if run.name in runs]
    doubled = any("{{" in text or "}}" in text for text in (prompts if task.prompt is None else [task.prompt]))
    if doubled and ".format(" not in script.read_text(encoding="utf-8", errors="replace"):
        message = "the prompt has {{ or }}, which mean { and }; a task that does not fill it with"
        yield Finding((*path, "script"), f"{message} prompt.format(input=…) keeps them doubled", warning=True)


def _long_path(path: KeyPath, task: TaskEntry, folder: Path, script: Path) -> Iterator[Finding]:
    """A task that reads its data with Hugging Face `datasets`, in a folder where that cannot work."""
    # As long as the folder that a cache is made in.
    cache = folder / f"cache/.{task.name}-{12 * '0'}.{7 * '0'}"
    if is_too_long(cache) and "hf_dataset(" in script.read_text(encoding="utf-8", errors="replace"):
        yield Finding((*path, "script"), LONG_PATH)


def _offered(draft: Draft, task: TaskEntry) -> set[str]:
    """Names of the arguments that every evaluation on a task has for it."""
    types = {draft.merged(run).dataset_type for run in draft.runs.values()}
    settings = draft.evaluation
    generation = generation_of(settings)
    data = Path(task.dataset or "same") if draft.has_training or task.dataset else None
    scorers = [scorer.model_dump() for scorer in settings.scorers]
    # Only where no run uses a chat template do all evaluations offer to go without one.
    kind = "text_completion" if types == {"text_completion"} else "chat_completion"
    prefix = task.assistant_prefix or settings.assistant_prefix or ""
    offered = offered_arguments(
        Prompting("", "", kind), generation, scorers, data, assistant_prefix=prefix, columns=draft.controls.columns
    )
    return {CONFIG_ARGUMENT, *offered}
