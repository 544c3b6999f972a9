"""What `config/config.yaml` and `--config` set: which experiment, what of it, and what job scripts need of the site."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from run_experiment.common.errors import InputError, Problem
from run_experiment.common.paths import SUMMARY
from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.yaml_lines import load, shown

# What may follow `#SBATCH --account=`: a name or several, and no second line.
_SITE_NAME = re.compile(r"[A-Za-z0-9._,@+-]+")
# Settings that are whole numbers, with the least and the most that they may be.
_COUNTS = {"retries": (0, 100), "evaluations_per_job": (1, 100)}
# What Snakemake leaves as text of `--config KEY=true`.
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Settings:
    """Settings of a session. Lines go into rendered job scripts as they are.

    `only` and `redo` are patterns over trainings and evaluations (see `planning.selection`). `retries` is how often a
    job is continued after an interruption, or made smaller after it ran out of memory. `gpu_hours` is the most that the
    estimate of a session may be. `time_limit_hours` are the least and the most that a time limit from the estimate may
    be (None for any); if it is None, limits do not come from it. With `early_evaluation`, epochs are evaluated while
    their training goes on. `reuse` are folders of experiments whose results may be taken. At most
    `evaluations_per_job` are one job on a cluster.
    """

    experiment_dir: Path
    account: str | None = None
    partition: str | None = None
    modules: tuple[str, ...] = ()
    environment: str | None = None
    vllm_environment: str | None = None
    only: tuple[str, ...] = ()
    redo: tuple[str, ...] = ()
    retries: int = 3
    gpu_hours: float | None = None
    time_limit_hours: tuple[float | None, float | None] | None = (0.5, 24)
    early_evaluation: bool = True
    reuse: tuple[Path, ...] = ()
    evaluations_per_job: int = 1


_NAMES = tuple(field.name for field in fields(Settings))
_PATTERNS = ("only", "redo")
_LISTS = (*_PATTERNS, "reuse")
_NAMED = "names such as r8 or r8/task/epoch0 (one that looks like a number goes in brackets, [1.5])"


def read_settings(file: Path, overrides: Mapping[str, Any], cwd: Path) -> Settings:
    """Settings of a file, with `--config` on top.

    A folder named in the file is relative to the project, one named in `--config` to `cwd`; instead of the folder its
    experiment_summary.yaml may be named. Raises InputError for unknown keys, wrong types and names that no cluster has.
    """
    source = load(file)
    if source.problems or not isinstance(source.data, dict | None):
        raise InputError(str(file), source.problems or [Problem(1, "", "expected settings, KEY: VALUE")])
    own = _checked(source.data or {}, str(file), lambda name: source.line((name,)))
    # Snakemake takes nothing after `only=` for none given.
    written = {name: "" if value is None and name in _LISTS else value for name, value in overrides.items()}
    given = _checked(written, "--config", lambda name: 0)
    folder = given.get("experiment_dir", own.get("experiment_dir"))
    if not folder:
        raise InputError("--config", [Problem(0, "experiment_dir", "name the folder of an experiment")])
    project = file.parent.parent
    folders = {
        "experiment_dir": _folder("experiment_dir", cwd if "experiment_dir" in given else project, folder),
        "reuse": _experiments(cwd if "reuse" in given else project, given.get("reuse", own.get("reuse", ()))),
    }
    return Settings(**{**own, **given, **folders})


def _folder(name: str, base: Path, written: str) -> Path:
    try:
        path = (base / Path(written).expanduser()).resolve()
    except RuntimeError:
        problem = Problem(0, name, f"there is no user of {shown(written)}; write the full path")
        raise InputError("--config", [problem]) from None
    return path.parent if path.name == SUMMARY and path.is_file() else path


def _experiments(base: Path, written: Sequence[str]) -> tuple[Path, ...]:
    """Folders of other experiments. Raises InputError."""
    folders = tuple(_folder("reuse", base, one) for one in written)
    problems = [
        Problem(0, "reuse", f"{folder} is not the folder of an experiment: there is no {SUMMARY} in it")
        for folder in folders
        if not (folder / SUMMARY).is_file()
    ]
    if problems:
        raise InputError("--config", problems)
    return folders


def _checked(values: Mapping[str, Any], origin: str, line: Callable[[str], int]) -> dict[str, Any]:
    """Values of one origin, with the modules as lines. Raises InputError."""
    problems = [
        Problem(line(name), name, problem) for name, value in values.items() if (problem := _problem(name, value))
    ]
    if problems:
        raise InputError(origin, problems)
    return {name: _meant(name, value) for name, value in values.items()}


def _meant(name: str, value: Any) -> Any:
    """What a sound setting means; nothing after `account:` or `account=` means none, or the default."""
    if name == "modules":
        return _lines(value)
    if name in _LISTS:
        texts = [part.strip() for item in _lines(value) for part in str(item).split(",")]
        return tuple(text for text in texts if text)
    if name == "time_limit_hours":
        return tuple(value) if value else None
    if name == "early_evaluation":
        return Settings.early_evaluation if value in (None, "") else _TRUTH.get(value, value)
    if name in _COUNTS:
        return getattr(Settings, name) if value in (None, "") else value
    return value or None


def _problem(name: str, value: Any) -> str | None:
    """What is wrong with a setting."""
    if name not in _NAMES:
        return f"no such setting{did_you_mean(name, _NAMES)}"
    if name in _LISTS and value is not None and not _meant(name, value):
        # Of a shell's variable that is not set, mostly: it must not start everything.
        return "names nothing: leave it out to choose nothing by hand"
    if value is None or value == "" or (name in ("modules", *_LISTS) and _is_lines(value)):
        return None
    if name == "early_evaluation":
        is_either = isinstance(value, bool) or str(value) in _TRUTH
        return None if is_either else f"expected true or false, found {shown(value)}"
    if name == "reuse":
        return f"expected folders of experiments, found {shown(value)}"
    if name in _PATTERNS:
        return None if _is_whole(value) else f"expected {_NAMED}, found {shown(value)}"
    if name in _COUNTS:
        least, most = _COUNTS[name]
        sound = _is_whole(value) and least <= value <= most
        return None if sound else f"expected a whole number from {least} to {most}, found {shown(value)}"
    if name == "gpu_hours":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if is_number and value > 0 else f"expected a number above 0, found {shown(value)}"
    if name == "time_limit_hours":
        return None if _are_limits(value) else f"expected [least, most] in hours, found {shown(value)}"
    if name == "modules":
        return f"expected lines of a job script, found {shown(value)}"
    if name == "experiment_dir" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"expected text, found {shown(value)}; a folder whose name looks like a number is ./{shown(value)}"
    if not isinstance(value, str):
        return f"expected text, found {shown(value)}"
    if name in ("account", "partition") and not _SITE_NAME.fullmatch(value):
        return f"{shown(value)} cannot be the name of one; letters, digits and . _ , @ + - can be in it"
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_limits(value: Any) -> bool:
    """Whether these are the least and the most hours, each of which may be left open."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    given = [hours for hours in value if hours is not None]
    are_numbers = all(isinstance(hours, int | float) and not isinstance(hours, bool) for hours in given)
    return are_numbers and all(hours > 0 for hours in given) and sorted(given) == given


def _lines(value: Any) -> tuple[str, ...]:
    return tuple(value or ()) if isinstance(value, list | tuple | None) else (value,)


def _is_lines(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(line, str) for line in value))
