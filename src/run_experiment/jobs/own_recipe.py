"""What a training's script runs: our recipe, and what that is given."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.evaluation.find_log import commands, expanded_commands

# What scripts that read the changes run.
_RECIPE = "run_experiment.finetuning.recipe"
_REDIRECTION = re.compile(r"\d*[<>]+(.*)", re.DOTALL)


def runs_our_recipe(script: Path) -> bool:
    """Whether a script runs the recipe that can be told from where to go on."""
    return any(_RECIPE in words for words in commands(_text(script)))


def given_config(script: Path, folder: Path, run: str) -> dict[str, Any]:
    """What the recipe is given in the training's config; empty where the script may give it something else.

    The script of a run is started in `folder`.
    """
    if not _takes_its_config(script, folder, run):
        return {}
    # Here, since a job holds its GPU while it imports.
    import yaml

    try:
        config = yaml.safe_load(Path(paths.finetune_config(run)).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _text(script: Path) -> str:
    return script.read_text(encoding="utf-8", errors="replace")


def _takes_its_config(script: Path, folder: Path, run: str) -> bool:
    """Whether the recipe surely takes all that it is told from the training's config: no other one, nor its command."""
    config, place = os.path.realpath(paths.finetune_config(run)), str(Path.cwd() / folder)
    environment = {**os.environ, "PWD": place, "SLURM_SUBMIT_DIR": place}
    runs_it = False
    for words, values in expanded_commands(_text(script), environment):
        if _RECIPE in words:
            option, *value = _arguments(words) or [""]
            same = os.path.realpath(os.path.join(values["PWD"], *value)) == config
            if option != "--config" or len(value) != 1 or not same:
                return False
            runs_it = True
    return runs_it


def _arguments(words: list[str]) -> list[str]:
    """What a command gives to the recipe, without redirections; `--config=x` as two words."""
    rest = iter(words[words.index(_RECIPE) + 1 :])
    found = []
    for word in rest:
        if redirection := _REDIRECTION.fullmatch(word):
            if not redirection[1]:
                next(rest, None)
        else:
            found += ["--config", word.removeprefix("--config=")] if word.startswith("--config=") else [word]
    return found
