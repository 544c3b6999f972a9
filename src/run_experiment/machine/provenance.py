"""Provenance of a result: code, packages and machine, as the job that makes it finds them on its node.

Nothing here raises, and nothing is written to a repository.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from run_experiment.common.json_files import read_record, write_record
from run_experiment.machine.gpu_samples import visible_gpus
from run_experiment.machine.processes import query

# Packages whose versions may change results.
PACKAGES = ("torch", "torchtune", "transformers", "peft", "datasets", "inspect-ai", "run-experiment")

# File beside an unfinished training: what is installed in the environments in which it was trained.
INSTALLED, _ENVIRONMENTS = "installed.json", "environments"

# Folder of the project if it is not installed as a package, with rules and scripts.
_PROJECT = Path(__file__).parents[3]
# Git's patterns of this project's code.
_CODE = ("Snakefile", ":(glob)rules/*.smk", ":(glob)scripts/*.py", ":(glob)src/**/*.py")

# Seconds to wait for git and nvidia-smi.
_GIT_TIME_OUT, _SMI_TIME_OUT = 2.0, 5.0


def provenance(task: Sequence[Path], seeds: Mapping[str, int]) -> dict[str, Any]:
    """Facts about this process that may change results.

    `task` are the files of the user's code: the task's script first, then its imports; empty for a training. In the
    result, `project` and `task` are the commits of this project's folder and of the task script's folder; None without
    git or a repository that contains the folder.
    """
    return {
        "project": commit(_PROJECT, _CODE),
        "task": commit(task[0].parent, [_literal(path, task[0].parent) for path in task]) if task else None,
        **installed(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "gpus": gpus(),
        "seeds": dict(seeds),
    }


def installed() -> dict[str, Any]:
    """Python and packages of this process."""
    return {"python": platform.python_version(), "versions": versions()}


def tell_installed(folder: Path, *more: str) -> None:
    """Record in a folder what is installed here, for the job: its script may have activated another environment.
    `more` are packages to record besides the usual.

    Environments of earlier attempts that this one resumes are kept before it, unless they are the same.
    """
    earlier, here = told_installed(folder), installed()
    here["versions"] |= versions(more) if more else {}
    # A failure to write this must not fail the training.
    with suppress(OSError):
        write_record(folder / INSTALLED, {_ENVIRONMENTS: earlier if earlier[-1:] == [here] else [*earlier, here]})


def told_installed(folder: Path) -> list[dict[str, Any]]:
    """What was installed where a training ran, in order; empty if its script did not record it."""
    found = (read_record(folder / INSTALLED) or {}).get(_ENVIRONMENTS)
    return found if isinstance(found, list) else []


def with_installed(facts: Mapping[str, Any], recorded: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A job's facts with the Python and packages that its script recorded last, or none if it recorded none.

    `earlier` in the result are the environments before that, in which the training began.
    """
    *earlier, last = recorded or [{}]
    known = {**facts, "python": last.get("python"), "versions": last.get("versions", {})}
    return {**known, "earlier": earlier} if earlier else known


def with_inspect(
    facts: Mapping[str, Any], version: str, seed: int | None = None, *, elsewhere: bool = False, vllm: str = ""
) -> dict[str, Any]:
    """A job's facts, with what its log says of the inspect-ai that wrote it, and the seed of its generation.

    `vllm` is the version of the server that answered, empty without one.
    Packages are left out if the log is of another inspect-ai than the installed one, or if the job's script may run
    `elsewhere`, in an environment of its own.
    """
    if elsewhere or not version or facts.get("versions", {}).get("inspect-ai") != version:
        facts = with_installed(facts, [{"versions": {"inspect-ai": version} if version else {}}])
    if vllm:
        facts = {**facts, "versions": {**facts.get("versions", {}), "vllm": vllm}}
    return dict(facts) if seed is None else {**facts, "seeds": {"generation": seed}}


def commit(folder: Path, code: Sequence[str] = ()) -> dict[str, Any] | None:
    """Commit of a folder's repository, and whether it is `dirty`: whether tracked files of the folder have changed.

    Untracked files do not count, since experiments leave many, except those that match `code`, git's patterns of code
    that is run, relative to the folder. `dirty` is None if git did not answer.
    """
    # The folder's tree must be in the commit: a repository around it may know nothing of it.
    found = _git(folder, "rev-parse", "HEAD", "HEAD:./")
    if not found:
        return None
    status = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    unknown = _git(folder, "ls-files", "--others", "--", *code) if code else ""
    dirty = None if status is None or unknown is None else bool(status or unknown)
    return {"commit": found.split()[0], "dirty": dirty}


def _literal(path: Path, folder: Path) -> str:
    return f":(literal){path.relative_to(folder)}"


def _git(folder: Path, *arguments: str) -> str | None:
    # Without locks it does not refresh the repository's index.
    return _output(["git", "--no-optional-locks", "-C", str(folder), *arguments], _GIT_TIME_OUT)


def gpus(environment: Mapping[str, str] = os.environ) -> list[dict[str, str]]:
    """GPUs of this process with name, memory and driver, as nvidia-smi gives them; none without nvidia-smi."""
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
    """Versions of the packages that are installed."""
    found = {package: _version(package) for package in packages}
    return {package: number for package, number in found.items() if number}


def _version(package: str) -> str | None:
    # Here, since a job starts faster without it.
    from importlib.metadata import version

    try:
        return version(package)
    # Not installed, or the installation is damaged.
    except (ImportError, KeyError, OSError, ValueError):
        return None
