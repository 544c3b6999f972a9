"""What a training's script runs: which trainer, and with which config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.jobscripts.commands import commands
from run_experiment.jobscripts.edits import parse
from run_experiment.trainers.known import TRAINERS
from run_experiment.trainers.trainer import Trainer

_MODULES = {trainer.module: trainer for trainer in TRAINERS.values()}


def trainer_in(script: Path) -> Trainer | None:
    """The trainer that a script runs; None if it runs none of ours, which alone publish epochs and resume."""
    return next((_MODULES[word] for words in _commands(script) for word in words if word in _MODULES), None)


def given_config(script: Path, folder: Path, run: str) -> dict[str, Any]:
    """The run's config, as its trainer reads it; empty if the script may give it another one.

    That is known of commands as rendered, and of a trainer's `--config CONFIG`.

    The script of a run is started in `folder`.
    """
    if not _passes_config(script, folder, run):
        return {}
    # Imported late: a job holds its GPU meanwhile.
    import yaml

    try:
        config = yaml.safe_load(Path(paths.finetune_config(run)).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _passes_config(script: Path, folder: Path, run: str) -> bool:
    """Whether every call of a trainer has the run's config as its only argument, by a literal path or as rendered."""
    calls = _commands(script)
    arguments = _trainer_arguments(calls)
    if len(arguments) == 1 and not parse(_text(script)).own_commands:
        return True
    changes_folder = any({"cd", "pushd"} & set(words) for words in calls)
    expected = os.path.realpath(paths.finetune_config(run))
    for option, path in (words if len(words) == 2 else ("", "") for words in arguments):
        same = os.path.realpath(folder / path) == expected
        if option != "--config" or not same or (changes_folder and not os.path.isabs(path)):
            return False
    return bool(arguments)


def _trainer_arguments(calls: list[list[str]]) -> list[list[str]]:
    """Arguments of each call of a trainer."""
    return [words[number + 1 :] for words in calls for number, word in enumerate(words) if word in _MODULES]


def _commands(script: Path) -> list[list[str]]:
    return list(commands(_text(script)))


def _text(script: Path) -> str:
    return script.read_text(encoding="utf-8", errors="replace")
