"""What `config/config.yaml` and `--config` set: which experiment, and what job scripts need to know of the site."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from run_experiment.problems import InputError, Problem


@dataclass(frozen=True)
class Settings:
    """Settings of a session. Lines go into rendered job scripts as they are."""

    experiment_dir: Path
    account: str | None = None
    partition: str | None = None
    modules: tuple[str, ...] = ()
    environment: str | None = None


def read_settings(file: Path, overrides: Mapping[str, Any], cwd: Path) -> Settings:
    """Settings of a file, with `--config` on top.

    A folder named in the file is relative to the project, one named in `--config` to `cwd`.
    Raises InputError for unknown keys and wrong types.
    """
    own = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    settings = _settings(own, str(file), file.parent.parent)
    return _settings({**_plain(settings), **overrides}, "--config", cwd)


def _plain(settings: Settings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(Settings)}


def _settings(values: Mapping[str, Any], source: str, base: Path) -> Settings:
    problems = [Problem(0, str(key), _unknown(str(key))) for key in values if key not in _NAMES]
    problems += [
        Problem(0, name, f"expected text, found {values[name]!r}")
        for name in ("experiment_dir", "account", "partition", "environment")
        if not isinstance(values.get(name), (str, Path, type(None)))
    ]
    if not values.get("experiment_dir"):
        problems.append(Problem(0, "experiment_dir", "name the folder of an experiment"))
    modules = values.get("modules") or ()
    if isinstance(modules, str):
        modules = (modules,)
    if not (isinstance(modules, (list, tuple)) and all(isinstance(line, str) for line in modules)):
        problems.append(Problem(0, "modules", f"expected lines of a job script, found {modules!r}"))
    if problems:
        raise InputError(source, problems)
    known = {name: value for name, value in values.items() if name in _NAMES}
    settings = Settings(**{**known, "experiment_dir": base / values["experiment_dir"], "modules": tuple(modules)})
    return replace(settings, experiment_dir=settings.experiment_dir.resolve())


_NAMES = tuple(field.name for field in fields(Settings))


def _unknown(key: str) -> str:
    close = difflib.get_close_matches(key, _NAMES, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_NAMES)}"
    return f"no such setting; {hint}"
