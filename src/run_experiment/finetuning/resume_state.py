"""How far an interrupted training got, how the next attempt resumes it, and how an epoch's folder is published.

Every `epoch_N` holds its adapter; only the newest one holds the state of the recipe, until the training is done.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from run_experiment.common.clock import now, stamp
from run_experiment.common.files import give_usual_rights
from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CHECKPOINT_NAME, TRAINED

# Environment variable with the path of a YAML file of changes to a training's config.
CHANGES = "RUN_EXPERIMENT_CHANGES"
# Environment variable with the id of the job that trains.
JOB = "RUN_EXPERIMENT_JOB"
# torchtune's names: the adapter in its own layout, and optimizer, counts and random numbers.
TUNE_ADAPTER = "adapter_model.pt"
RECIPE_STATE = "recipe_state.pt"
_ADAPTER = (ADAPTER_WEIGHTS, ADAPTER_CONFIG, TUNE_ADAPTER)
# An epoch's folder while it is being written.
PARTIAL = f".{CHECKPOINT_NAME}.partial"


@contextmanager
def published_epoch(output_dir: Path, epoch: int) -> Iterator[Path]:
    """A folder for the files of an epoch, which appears as `epoch_N` when it is whole, and survives a dying node.

    It gets the mark of the job that trains. Raises OSError.
    """
    partial = output_dir / PARTIAL.format(epoch=epoch)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if job_id := os.environ.get(JOB):
        (partial / TRAINED).write_text(json.dumps({"job_id": job_id, "ended": stamp(now())}) + "\n")
    for path in partial.iterdir():
        give_usual_rights(path)
    sync_files(partial)
    _replace_folder(partial, _folder(output_dir, epoch))
    sync_folder(output_dir)


def _replace_folder(new: Path, target: Path) -> None:
    """Put a folder in place of one that an earlier training may have left."""
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)


def sync_files(folder: Path) -> None:
    """Have a folder and its files on disk for good. Raises OSError, also for what was written before."""
    for path in folder.iterdir():
        _sync(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk for good, as far as its file system knows how to."""
    with suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_whole_epoch(output_dir: Path) -> int | None:
    """The epoch (from 0) to resume after: the newest with a complete state and no earlier epoch missing.

    None if the training has to start from the beginning.
    """
    epochs = takewhile(lambda epoch: _has_adapter(_folder(output_dir, epoch)), count())
    return next((epoch for epoch in reversed(list(epochs)) if _has_state(_folder(output_dir, epoch))), None)


def what_is_missing(output_dir: Path) -> str | None:
    """Why a training cannot resume from the epochs on disk; None if there are none."""
    names = (path.name.rpartition("_")[2] for path in output_dir.glob(CHECKPOINT_NAME.format(epoch="*")))
    there = [int(name) for name in names if name.isdecimal()]
    if not there:
        return None
    broken = next((epoch for epoch in range(max(there)) if not _has_adapter(_folder(output_dir, epoch))), max(there))
    if not (folder := _folder(output_dir, broken)).is_dir():
        return f"{folder.name} is missing"
    paths = [folder / name for name in (*_ADAPTER, RECIPE_STATE)]
    missing = next((path.name for path in paths if not path.is_file()), None)
    damaged = next((path.name for path in paths[2:] if not _is_whole(path)), None)
    return f"{folder.name}/{missing} is missing" if missing else f"{folder.name}/{damaged} is damaged"


def resume_changes(epoch: int) -> dict[str, Any]:
    """Config changes of a training that resumes after an epoch."""
    folder = CHECKPOINT_NAME.format(epoch=epoch)
    files = {"adapter_checkpoint": f"{folder}/{TUNE_ADAPTER}", "recipe_checkpoint": f"{folder}/{RECIPE_STATE}"}
    return {"resume_from_checkpoint": True, "checkpointer": files}


def drop_state(output_dir: Path, keep: int | None = None) -> None:
    """Remove the files that only resuming needs, except the state of the epoch `keep`. Raises OSError."""
    for path in output_dir.glob(f"{CHECKPOINT_NAME.format(epoch='*')}/{RECIPE_STATE}"):
        if keep is None or path.parent != _folder(output_dir, keep):
            path.unlink(missing_ok=True)
    for folder in output_dir.glob(PARTIAL.format(epoch="*")):
        shutil.rmtree(folder, ignore_errors=True)


def _folder(output_dir: Path, epoch: int) -> Path:
    return output_dir / CHECKPOINT_NAME.format(epoch=epoch)


def _has_adapter(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _ADAPTER)


def _has_state(folder: Path) -> bool:
    return _is_whole(folder / RECIPE_STATE) and _is_whole(folder / TUNE_ADAPTER)


def _is_whole(path: Path) -> bool:
    """Whether a file of torch's (a zip archive with checksums) is intact: a node that dies may leave garbage."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    # Garbage that looks like an archive makes zipfile raise errors of many kinds.
    except Exception:
        return False
