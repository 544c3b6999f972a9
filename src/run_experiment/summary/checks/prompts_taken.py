"""Prompts that evaluations on a task would have, where neither its function nor a script's own config gives them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import get_args

import yaml

from run_experiment.common.yaml_lines import KeyPath
from run_experiment.experiment.evaluation_section import MatrixEntry, TaskEntry
from run_experiment.experiment.schema import DatasetType, RunEntry
from run_experiment.inputs.task_signature import CONFIG_ARGUMENT, TEMPLATE_ARGUMENT, TaskSignature
from run_experiment.jobscripts.foreign import cell_files
from run_experiment.summary.draft import Draft, Finding

_SYSTEM = "system_prompt"
# Prompts by their key, with the text that means none.
_NONE = {"prompt": "{input}", _SYSTEM: ""}


def check_prompts_taken(
    draft: Draft, path: KeyPath, task: TaskEntry, signature: TaskSignature, folder: Path
) -> Iterator[Finding]:
    """Warn of the prompts that evaluations on a task do without, or may do without."""
    given = signature.is_given(CONFIG_ARGUMENT)
    for key in _NONE:
        if not (given or signature.takes(key)):
            message = f"task {signature.function} takes no {key}, so its evaluations run without it"
            yield from _warned(draft, path, _without(draft, task, folder, key), key, message)
    if (given or signature.takes(_SYSTEM)) and TEMPLATE_ARGUMENT in signature.parameters:
        # Tasks that take it have a system message only where there is a template for it.
        message = f"task {signature.function} is given {TEMPLATE_ARGUMENT}: false, so it may leave out the {_SYSTEM}"
        lost = _without(draft, task, folder, _SYSTEM, {"text_completion"})
        yield from _warned(draft, path, lost, _SYSTEM, message)


def _without(
    draft: Draft, task: TaskEntry, folder: Path, key: str, kinds: Container[str] = get_args(DatasetType)
) -> list[RunEntry]:
    """Runs of these kinds of data that are evaluated on a task with a prompt which no config of another tool gives."""
    runs = {run.name: run for run in draft.runs.values()}
    entries = [entry for entry in draft.matrix.values() if task.name in entry.tasks and entry.run in runs]
    return [
        runs[entry.run]
        for entry in entries
        if draft.merged(runs[entry.run]).dataset_type in kinds
        and _prompt(draft, task, runs[entry.run], key) != _NONE[key]
        and not _in_own_configs(draft, entry, runs[entry.run], task, folder, key)
    ]


def _warned(draft: Draft, path: KeyPath, lost: list[RunEntry], key: str, message: str) -> Iterator[Finding]:
    if lost:
        trained = any(run.type == "fine-tuned" and getattr(draft.merged(run), key) != _NONE[key] for run in lost)
        yield Finding((*path, "script"), message + (", unlike the training" if trained else ""), warning=True)


def _prompt(draft: Draft, task: TaskEntry, run: RunEntry, key: str) -> str:
    """The prompt that a run is evaluated with."""
    given = (getattr(task, key), getattr(draft.evaluation, key, None), getattr(draft.merged(run), key))
    return str(next(prompt for prompt in given if prompt is not None))


def own_cells(draft: Draft, task: TaskEntry, folder: Path) -> Iterator[list[str]]:
    """The files of each evaluation on a task as another tool left them; empty ones where it left none."""
    runs = {run.name: run for run in draft.runs.values()}
    for entry in draft.matrix.values():
        if task.name in entry.tasks and entry.run in runs:
            yield from _cells_of(draft, entry, runs[entry.run], task, folder)


def _cells_of(draft: Draft, entry: MatrixEntry, run: RunEntry, task: TaskEntry, folder: Path) -> list[list[str]]:
    epochs = [None] if run.type != "fine-tuned" else list(entry.epochs or range(draft.merged(run).epochs))
    return [cell_files(folder, run.name, task.name, epoch) for epoch in epochs]


def _in_own_configs(draft: Draft, entry: MatrixEntry, run: RunEntry, task: TaskEntry, folder: Path, key: str) -> bool:
    """Whether each evaluation of a run has a job script of another tool with a config that gives the prompt."""
    cells = _cells_of(draft, entry, run, task, folder)
    return all(any(key in _values(folder / file) for file in files[1:]) for files in cells)


def _values(config: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
