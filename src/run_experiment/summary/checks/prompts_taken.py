"""Prompts that evaluations on a task would have, where neither its function nor a script's own config gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from run_experiment.common.yaml_lines import KeyPath
from run_experiment.experiment.evaluation_section import MatrixEntry, TaskEntry
from run_experiment.experiment.schema import RunEntry
from run_experiment.inputs.task_signature import CONFIG_ARGUMENT, TaskSignature
from run_experiment.jobscripts.foreign import cell_files
from run_experiment.summary.draft import Draft, Finding

# Prompts by their key, with the text that means none.
_NONE = {"prompt": "{input}", "system_prompt": ""}


def check_prompts_taken(
    draft: Draft, path: KeyPath, task: TaskEntry, signature: TaskSignature, folder: Path
) -> Iterator[Finding]:
    """Warn of the prompts that evaluations on a task do without."""
    if signature.is_given(CONFIG_ARGUMENT):
        return
    runs = {run.name: run for run in draft.runs.values()}
    entries = [entry for entry in draft.matrix.values() if task.name in entry.tasks and entry.run in runs]
    for key, none in _NONE.items():
        if signature.takes(key):
            continue
        lost = [
            runs[entry.run]
            for entry in entries
            if _prompt(draft, task, runs[entry.run], key) != none
            and not _in_own_configs(draft, entry, runs[entry.run], task, folder, key)
        ]
        if lost:
            trained = any(run.type == "fine-tuned" and getattr(draft.merged(run), key) != none for run in lost)
            message = f"task {signature.function} takes no {key}, so its evaluations run without it"
            yield Finding((*path, "script"), message + (", unlike the training" if trained else ""), warning=True)


def _prompt(draft: Draft, task: TaskEntry, run: RunEntry, key: str) -> str:
    """The prompt that a run is evaluated with."""
    given = (getattr(task, key), getattr(draft.evaluation, key, None), getattr(draft.merged(run), key))
    return str(next(prompt for prompt in given if prompt is not None))


def _in_own_configs(draft: Draft, entry: MatrixEntry, run: RunEntry, task: TaskEntry, folder: Path, key: str) -> bool:
    """Whether each evaluation of a run has a job script of another tool with a config that gives the prompt."""
    epochs = [None] if run.type != "fine-tuned" else list(entry.epochs or range(draft.merged(run).epochs))
    cells = [cell_files(folder, run.name, task.name, epoch) for epoch in epochs]
    return all(any(key in _values(folder / file) for file in files[1:]) for files in cells)


def _values(config: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
