"""Job scripts that another tool wrote into an experiment's folder: which they are, and how to run them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.files import regular
from run_experiment.experiment.model import Experiment
from run_experiment.jobscripts.edits import parse

CELL_SCRIPT = "cell.slurm"
# Config files beside such a script that its task reads.
_CELL_CONFIGS = ("eval.yaml", "eval_config.yaml")

_JOB_SCRIPTS = ("*/finetune.slurm", "*/eval/*.slurm", f"*/eval/*/{CELL_SCRIPT}")
_WORD = re.compile(r"[\w./-]+")


def is_scaffolded(folder: Path) -> bool:
    """Whether another tool prepared the experiment: some run has a job script that was not rendered here."""
    scripts = (path for pattern in _JOB_SCRIPTS for path in folder.glob(pattern))
    return any(_is_foreign(path) for path in scripts)


def cell_files(folder: Path, run: str, task: str, epoch: int | None) -> list[str]:
    """Job script of an evaluation in a folder of its own, and the configs beside it; empty if there is none.

    A script of the usual name is preferred. Paths are relative to the experiment's `folder`.
    """
    cell = paths.cell(task, epoch)
    if (folder / paths.eval_script(run, cell)).exists():
        return []
    # Some tools omit `_base` for untrained models.
    for name in (cell, *([task] if epoch is None else [])):
        place = f"{paths.eval_folder(run)}/{name}"
        if (folder / place / CELL_SCRIPT).is_file():
            configs = [f"{place}/{config}" for config in _CELL_CONFIGS]
            return [f"{place}/{CELL_SCRIPT}", *(config for config in configs if (folder / config).is_file())]
    return []


def foreign_cells(experiment: Experiment) -> dict[tuple[str, str], list[str]]:
    """Files of the evaluations that have a job script in a folder of their own, by run and cell; as `cell_files`.

    Raises OSError if a folder cannot be read.
    """
    # One look at a run's folder, not some for each of its evaluations: on a shared file system each takes its time.
    runs = {run.name for run in experiment.runs if _has_cells(experiment.folder / paths.eval_folder(run.name))}
    found = {}
    for one in experiment.evaluations:
        if one.run.name in runs:
            found[one.run.name, one.cell] = cell_files(experiment.folder, one.run.name, one.task.name, one.epoch)
    return {key: files for key, files in found.items() if files}


def _has_cells(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(Path(entry, CELL_SCRIPT).is_file() for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def called_function(folder: Path, files: Sequence[str], script: Path) -> str | None:
    """The function of a task's file that one of other tools' scripts calls, as `task.py@function`; None if none does.

    `files` are relative to the experiment's `folder`.
    """
    called = re.compile(rf"{re.escape(script.name)}@(\w+)")
    for file in files:
        try:
            text = regular(folder / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if found := called.search(text):
            return found[1]
    return None


def working_directory(folder: Path, script: str) -> str:
    """Working directory of a job script, relative to the experiment's folder.

    That is the experiment's folder itself, except for another tool's script that names files beside it and is meant to
    be submitted from there.
    """
    path = folder / script
    if not path.is_file() or not _is_foreign(path):
        return "."
    words = set(_words(path.read_text(encoding="utf-8", errors="replace")))
    beside = [word for word in words if (path.parent / word).is_file()]
    here = [word for word in words if (folder / word).is_file()]
    return str(Path(script).parent) if beside and not here else "."


def _words(text: str) -> Iterator[str]:
    """Words in a script's commands that may be relative paths."""
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            yield from (word for word in _WORD.findall(line) if not word.startswith("/"))


def _is_foreign(path: Path) -> bool:
    try:
        return parse(regular(path).read_text(encoding="utf-8")).rendered is None
    except (OSError, UnicodeDecodeError):
        return False
