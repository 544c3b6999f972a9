"""What another tool left in an experiment's folder: which job scripts are its own, and how they mean to be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from run_experiment.common import paths
from run_experiment.jobscripts.edits import parse

CELL_SCRIPT = "cell.slurm"
# What the task of such a script reads, beside it.
_CELL_CONFIGS = ("eval.yaml", "eval_config.yaml")

_JOB_SCRIPTS = ("*/finetune.slurm", "*/eval/*.slurm", f"*/eval/*/{CELL_SCRIPT}")
_WORD = re.compile(r"[\w./-]+")


def is_scaffolded(folder: Path) -> bool:
    """Whether another tool made the experiment: some run has a job script that was not rendered here."""
    scripts = (path for pattern in _JOB_SCRIPTS for path in folder.glob(pattern))
    return any(_is_foreign(path) for path in scripts)


def cell_files(folder: Path, run: str, task: str, epoch: int | None) -> list[str]:
    """Job script of an evaluation in a folder of its own, and the configs beside it; empty where there is none.

    A script of the usual name comes first. Paths are relative to the experiment's `folder`.
    """
    cell = paths.cell(task, epoch)
    if (folder / paths.eval_script(run, cell)).exists():
        return []
    # Without training some tools leave `_base` out.
    for name in (cell, *([task] if epoch is None else [])):
        place = f"{paths.eval_folder(run)}/{name}"
        if (folder / place / CELL_SCRIPT).is_file():
            configs = [f"{place}/{config}" for config in _CELL_CONFIGS]
            return [f"{place}/{CELL_SCRIPT}", *(config for config in configs if (folder / config).is_file())]
    return []


def working_directory(folder: Path, script: str) -> str:
    """Folder that a job script has to run in, relative to the experiment's: where the files lie that it names.

    That is the experiment's folder, but for another tool's script that names files only found beside it, because it
    is meant to be submitted there.
    """
    path = folder / script
    if not path.is_file() or not _is_foreign(path):
        return "."
    words = set(_words(path.read_text(encoding="utf-8", errors="replace")))
    beside = [word for word in words if (path.parent / word).is_file()]
    here = [word for word in words if (folder / word).is_file()]
    return str(Path(script).parent) if beside and not here else "."


def _words(text: str) -> Iterator[str]:
    """Words of a script's commands that may be relative paths of files."""
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            yield from (word for word in _WORD.findall(line) if not word.startswith("/"))


def _is_foreign(path: Path) -> bool:
    try:
        return parse(path.read_text(encoding="utf-8")).rendered is None
    except (OSError, UnicodeDecodeError):
        return False
