"""Locks on open files. They end with the process, so a crash leaves none behind."""

from __future__ import annotations

import fcntl
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
