"""Rows of other files that tasks evaluate, and that runs are trained on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from run_experiment.common.text import counted
from run_experiment.common.yaml_lines import shown
from run_experiment.inputs.data_files import DataError, Row, read_splits
from run_experiment.summary.checks.training_rows import HELD_OUT, text_of
from run_experiment.summary.draft import Draft, Finding

# Bytes; larger files would take planning too long to read.
_LARGEST = 50_000_000


def evaluated_rows(
    draft: Draft, folder: Path, training: Path, runs: Collection[str], trained: Sequence[Row], key: str
) -> Iterator[Finding]:
    """One warning for each task whose data file has inputs that these runs are trained on.

    A file that is none of our formats is left to its task.
    """
    names = {name for entry in draft.matrix.values() if entry.run in runs for name in entry.tasks}
    inputs: set[str] | None = None
    for place, task in draft.tasks.items():
        file = folder / (task.dataset or "")
        if task.name not in names or task.dataset in (None, "same") or not _is_another(file, training):
            continue
        inputs = {text_of(row, key) for row in trained} - {""} if inputs is None else inputs
        found = [part for name, rows in _splits(file, key).items() if (part := _known(name, rows, inputs, key))]
        if found:
            message = (
                f"{' and '.join(found)} of {shown(file.name)} are in split train of {shown(training.name)} as well"
            )
            advice = f"results there may show memory; remove such rows from {shown(training.name)}"
            yield Finding((*place, "dataset"), f"{message}: {advice}", warning=True)


def _is_another(file: Path, training: Path) -> bool:
    return os.path.isfile(file) and not os.path.samefile(file, training) and os.path.getsize(file) <= _LARGEST


def _splits(file: Path, key: str) -> Mapping[str, Sequence[Row]]:
    """The splits that say how well a model does on new rows, else all of them."""
    try:
        splits = read_splits(file, [key])
    except DataError:
        return {}
    return {name: splits[name] for name in HELD_OUT if name in splits} or splits


def _known(name: str, rows: Sequence[Row], inputs: set[str], key: str) -> str:
    known = [text_of(row, key) in inputs for row in rows]
    if not any(known):
        return ""
    return f"{counted(sum(known), 'input', of=len(known))} of split {name} (row {known.index(True) + 1})"
