"""What a result is made with: code, packages and machine, told by the job that makes it, on its node.

Nothing here raises, and nothing is written to a repository.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from run_experiment.gpu_metrics import visible_gpus
from run_experiment.processes import query

# Packages that make results.
PACKAGES = ("torch", "torchtune", "transformers", "peft", "datasets", "inspect-ai", "run-experiment")

# Seconds that a call of git, of nvidia-smi may take.
_GIT_TIME_OUT, _SMI_TIME_OUT = 2.0, 5.0


def provenance(task_folder: Path | None, seeds: Mapping[str, int]) -> dict[str, Any]:
    """What this process makes results with.

    `project` and `task` are the commits of this package's source and of the folder of the task's script; None where
    there is no git, no repository, or one that has nothing of the folder, as of an installed package.
    """
    return {
        "project": commit(Path(__file__).parent),
        "task": commit(task_folder) if task_folder else None,
        "python": platform.python_version(),
        "versions": versions(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "gpus": gpus(),
        "seeds": dict(seeds),
    }


def commit(folder: Path) -> dict[str, Any] | None:
    """Commit of a folder's repository, and whether it is `dirty`: whether tracked files of the folder were changed.

    Files that git does not know do not count, since experiments leave many. `dirty` is None where git did not tell.
    """
    # The folder's tree must be in the commit: a repository around it may know nothing of it.
    found = _git(folder, "rev-parse", "HEAD", "HEAD:./")
    if not found:
        return None
    status = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": found.split()[0], "dirty": None if status is None else bool(status)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Without locks it does not refresh the repository's index.
    return _output(["git", "--no-optional-locks", "-C", str(folder), *arguments], _GIT_TIME_OUT)


def gpus(environment: Mapping[str, str] = os.environ) -> list[dict[str, str]]:
    """The GPUs of this process, each with its name, memory and driver as nvidia-smi gives them; none without it."""
    visible = visible_gpus(environment, lambda *arguments: _output(["nvidia-smi", *arguments], _SMI_TIME_OUT))
    if visible == []:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    chosen = [] if visible is None else [f"--id={','.join(visible)}"]
    lines = (_output([*command, *chosen], _SMI_TIME_OUT) or "").splitlines()
    rows = [[value.strip() for value in line.split(",")] for line in lines]
    return [dict(zip(("name", "memory", "driver"), row, strict=True)) for row in rows if len(row) == 3]


def _output(command: list[str], time_out: float) -> str | None:
    return query(command, time_out, threading.Event())


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {package: _version(package) for package in packages}
    return {package: number for package, number in found.items() if number}


def _version(package: str) -> str | None:
    try:
        return version(package)
    # It is not installed, or what is there of it is damaged.
    except (ImportError, KeyError, OSError, ValueError):
        return None
