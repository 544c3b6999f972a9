"""Whether a session can write to its places in an experiment's folder."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from run_experiment.common.errors import InputError, Problem

_FOLDERS = (".snakemake", ".snakemake/run-experiment", "cache", "logs", "results")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOGS = ("run-torchtune.log", "run-inspect.log")


def unusable_places(folder: Path, runs: Iterable[str] = ()) -> list[InputError]:
    """What keeps this user from running the experiment in `folder`, one error a place.

    None if the folder does not exist.
    """
    if not os.path.isdir(folder):
        return []
    if why := _of_folder(folder):
        hint = "; `run-experiment status` needs only to read it" if os.access(folder, os.R_OK | os.X_OK) else ""
        return [_error(folder, why + hint)]
    if full := no_space(folder):
        return [full]
    found = {folder / name: _of_folder(folder / name) for name in (*_FOLDERS, *runs)}
    found |= {folder / name: _of_file(folder / name) for name in _LOGS}
    return [_error(place, why) for place, why in found.items() if why]


def no_space(folder: Path) -> InputError | None:
    """Why not even a small file can be written to a folder: a full disk, a quota, a limit; None if one can.

    Only a write shows a quota.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in _FULL:
            return _error(folder.absolute(), f"cannot take a file ({error.strerror}): make room")
    return None


def _of_folder(place: Path) -> str:
    """Why a folder cannot be used; empty if it can, or can be made."""
    if os.path.isdir(place):
        return "" if os.access(place, os.R_OK | os.W_OK | os.X_OK) else "you have no right to read and write in it"
    return _dangling(place) or ("has to be a folder: rename or remove what is there" if os.path.lexists(place) else "")


def _of_file(place: Path) -> str:
    """The same of a file that lines are appended to."""
    if os.path.isfile(place):
        return "" if os.access(place, os.R_OK | os.W_OK) else "you have no right to read and write it"
    if os.path.islink(place) and not os.path.exists(place):
        # What it leads to is made, but for the folder of that.
        where = os.path.dirname(os.path.realpath(place))
        return "" if os.path.isdir(where) else f"is a link into {where}, which is not there: make that folder"
    return "has to be a file: rename or remove what is there" if os.path.lexists(place) else ""


def _dangling(place: Path) -> str:
    if os.path.islink(place) and not os.path.exists(place):
        return f"is a link to {os.readlink(place)}, which is not there: make that folder, or remove the link"
    return ""


def _error(place: Path, why: str) -> InputError:
    return InputError(str(place), [Problem(0, "", why)])
