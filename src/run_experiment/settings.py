"""What `config/config.yaml` and `--config` set: which experiment, and what job scripts need to know of the site."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from run_experiment.problems import InputError, Problem
from run_experiment.suggestions import did_you_mean
from run_experiment.yaml_source import load, shown

# What may follow `#SBATCH --account=`: a name or several, and no second line.
_SITE_NAME = re.compile(r"[A-Za-z0-9._,@+-]+")


@dataclass(frozen=True)
class Settings:
    """Settings of a session. Lines go into rendered job scripts as they are."""

    experiment_dir: Path
    account: str | None = None
    partition: str | None = None
    modules: tuple[str, ...] = ()
    environment: str | None = None


_NAMES = tuple(field.name for field in fields(Settings))


def read_settings(file: Path, overrides: Mapping[str, Any], cwd: Path) -> Settings:
    """Settings of a file, with `--config` on top.

    A folder named in the file is relative to the project, one named in `--config` to `cwd`.
    Raises InputError for unknown keys, wrong types and names that no cluster has.
    """
    source = load(file)
    if source.problems or not isinstance(source.data, dict | None):
        raise InputError(str(file), source.problems or [Problem(1, "", "expected settings, KEY: VALUE")])
    own = _checked(source.data or {}, str(file), lambda name: source.line((name,)))
    given = _checked(overrides, "--config", lambda name: 0)
    folder = given.get("experiment_dir", own.get("experiment_dir"))
    if not folder:
        raise InputError("--config", [Problem(0, "experiment_dir", "name the folder of an experiment")])
    base = cwd if "experiment_dir" in given else file.parent.parent
    return Settings(**{**own, **given, "experiment_dir": (base / Path(folder).expanduser()).resolve()})


def _checked(values: Mapping[str, Any], origin: str, line: Callable[[str], int]) -> dict[str, Any]:
    """Values of one origin, with the modules as lines. Raises InputError."""
    problems = [
        Problem(line(name), name, problem) for name, value in values.items() if (problem := _problem(name, value))
    ]
    if problems:
        raise InputError(origin, problems)
    # Nothing after `account:` or `account=` means none.
    return {name: _lines(value) if name == "modules" else value or None for name, value in values.items()}


def _problem(name: str, value: Any) -> str | None:
    """What is wrong with a setting."""
    if name not in _NAMES:
        return f"no such setting{did_you_mean(name, _NAMES)}"
    if value is None or value == "" or (name == "modules" and _is_lines(value)):
        return None
    if name == "modules":
        return f"expected lines of a job script, found {shown(value)}"
    if not isinstance(value, str):
        return f"expected text, found {shown(value)}"
    if name in ("account", "partition") and not _SITE_NAME.fullmatch(value):
        return f"{shown(value)} cannot be the name of one; letters, digits and . _ , @ + - can be in it"
    return None


def _lines(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _is_lines(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(line, str) for line in value))
