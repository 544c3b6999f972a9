"""What to write instead, for commands that Snakemake would refuse in words that do not help."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

# Settings that are written on the command line, and are names of nothing else there.
_GIVEN_BY_HAND = ("experiment_dir", "only", "redo")
_CONFIG = {"--config", "-C"}


def command_hints(arguments: Sequence[str], config: Mapping[str, Any], cores: int | None) -> list[str]:
    """Hints on Snakemake's own arguments, each one line; `config` has the settings that it did recognize.

    `cores` is None if neither the command nor a profile says how many to use.
    """
    hints = [_needs_config(argument) for argument in arguments if _is_misplaced(argument, config)]
    hints += _given_twice(arguments) or [hint for argument in arguments if (hint := _misread(argument, config))]
    options = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
    if not hints and cores is None and options <= _CONFIG and not os.environ.get("SNAKEMAKE_PROFILE"):
        return [
            "No profile is chosen: add --profile profiles/local to run on this machine, --profile profiles/slurm to "
            "submit to a cluster, or -n to see what would run."
        ]
    return hints


def _is_misplaced(argument: str, config: Mapping[str, Any]) -> bool:
    name, equals, _ = argument.partition("=")
    return bool(equals) and name in _GIVEN_BY_HAND and name not in config


def _given_twice(arguments: Sequence[str]) -> list[str]:
    """Hints on settings that are given several times, of which Snakemake takes the last."""
    names = [name for name, equals, _ in (argument.partition("=") for argument in arguments) if equals]
    return [f"{name} is given twice: write it once" for name in _GIVEN_BY_HAND if names.count(name) > 1]


def _misread(argument: str, config: Mapping[str, Any]) -> str:
    """A hint on a folder that Snakemake, which reads it as YAML, takes for another one, such as at ` #`."""
    name, equals, value = argument.partition("=")
    if not equals or name != "experiment_dir" or str(config.get(name, value)) == value.strip("\"' "):
        return ""
    if not value.strip("\"' "):
        return f"{argument} names no folder: write experiment_dir=PATH"
    # Quotes that are not between blanks Snakemake removes before.
    quoted = shlex.quote(f"{name}= {json.dumps(value, ensure_ascii=False)} ")
    return f"{argument}: Snakemake reads it as {config[name]!r}: quote it, as in --config {quoted}"


def _needs_config(argument: str) -> str:
    return f"{argument} is a setting, not a file to make: write --config {argument}"
