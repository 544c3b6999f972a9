"""Files of several processes: locks that end with their process, links that are replaced in one step."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


def try_lock(file: IO[bytes] | int, *, shared: bool = False) -> bool:
    """Lock a file until it is closed; False if another process holds it.

    Raises OSError if the file system has no locks, as some shared ones.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def replace_link(link: Path, folder: Path) -> None:
    """Make `link` lead to a folder; relative, so that it survives a move of both. Raises OSError."""
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.unlink(missing_ok=True)
    beside.symlink_to(_relative(folder.absolute(), link.parent.absolute()))
    beside.replace(link)


def _relative(folder: Path, start: Path) -> str:
    """Path of a folder from another one; `..` leads out of where a link leads, so links above it are followed."""
    if folder.is_relative_to(start):
        return str(folder.relative_to(start))
    return os.path.relpath(folder.parent.resolve() / folder.name, start.resolve())
