"""The environment in which the script of an evaluation's job runs.

A variable or a `.env` file that inspect-ai reads would change an evaluation unseen.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

# Folder in which `inspect eval-set` continues what is there.
EVAL_SET_FOLDER = "RUN_EXPERIMENT_EVAL_SET"
# How many samples to compute at once; inspect-ai's own variable for its option.
MAX_CONNECTIONS = "INSPECT_EVAL_MAX_CONNECTIONS"
# Metadata that repeat the tag: a script's own `--tags` replaces tags, its own `--metadata` replaces metadata.
METADATA = "run_experiment_job"
_NAME = re.compile(r"\bINSPECT_EVAL_\w+")


def job_environment(folder: Path, cache: Path, logs: Path, unfinished: Path, tag: str) -> dict[str, str]:
    """Variables of a script that runs in `folder`, with the cache of its data set.

    Its logs carry the tag, and go to `logs`, or those of `inspect eval-set` to `unfinished`. Options in `.env` files
    are not used, which is reported.
    """
    settings = dotenv_settings(folder)
    for file, names in settings.items():
        print(f"{file} is not used for {', '.join(names)}: the summary decides", file=sys.stderr)
    return {
        **cache_environment(cache.absolute()),
        **overridden(settings),
        **log_environment(logs.absolute(), tag),
        # A task that makes its samples from a set has them in the same order every time.
        "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),
        # inspect-ai breaks its messages into lines of 80 characters, and of an error the last line is told.
        "COLUMNS": os.environ.get("COLUMNS", "200"),
        EVAL_SET_FOLDER: str(unfinished.absolute()),
    }


def log_environment(folder: Path, tag: str) -> dict[str, str]:
    """Environment of a script whose logs go to `folder`, unless it names another one, and carry the tag."""
    return {
        "INSPECT_LOG_DIR": str(folder),
        "INSPECT_LOG_FORMAT": "eval",
        "INSPECT_EVAL_TAGS": tag,
        "INSPECT_EVAL_METADATA": f"{METADATA}={tag}",
    }


def cache_environment(folder: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that put the data-set caches under `folder` and leave all else where `environment` (ours) has it."""
    environment = os.environ if environment is None else environment
    home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {
        # inspect-ai's cache of data sets can only be moved with all that follows the XDG rules.
        "XDG_CACHE_HOME": str(folder.absolute()),
        "HF_DATASETS_CACHE": str(folder.absolute() / "huggingface" / "datasets"),
        "HF_HOME": environment.get("HF_HOME") or str(home / "huggingface"),
        "INSPECT_CACHE_DIR": environment.get("INSPECT_CACHE_DIR") or str(home / "inspect_ai"),
        "TORCH_HOME": environment.get("TORCH_HOME") or str(home / "torch"),
    }


def cache_exports(folder: str) -> list[str]:
    """Lines of a job script that do what `cache_environment` does; `folder` is relative to where the script runs."""
    return [
        'export HF_HOME="${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}"',
        f'export XDG_CACHE_HOME="$PWD"/{shlex.quote(folder)}',
        'export HF_DATASETS_CACHE="$XDG_CACHE_HOME/huggingface/datasets"',
    ]


def dotenv_settings(folder: Path) -> dict[str, list[str]]:
    """Names of inspect-ai's options in `.env` files of a folder and those above it, by file.

    inspect-ai reads the nearest one of the folder where it is started.
    """
    found = {}
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            text = (place / ".env").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if names := sorted(set(_NAME.findall(text))):
            found[str(place / ".env")] = names
    return found


def overridden(settings: dict[str, list[str]]) -> dict[str, str]:
    """Environment in which inspect-ai does not take these options: a variable that is there, even empty, stays."""
    return {name: "" for names in settings.values() for name in names}
