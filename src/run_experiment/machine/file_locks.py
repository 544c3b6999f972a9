"""Which processes hold locks on files, from /proc/locks: trying a lock could make a job fail that starts just then."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path


class FileLocks:
    """Write locks of processes on this machine at one moment; empty if the system does not list them."""

    def __init__(self) -> None:
        self._holders = _holders()

    def holder(self, path: Path) -> int | None:
        """Number of the process that holds the lock of a file."""
        try:
            stat = path.stat()
        except OSError:
            return None
        return self._holders.get((os.major(stat.st_dev), os.minor(stat.st_dev), stat.st_ino))


def _holders() -> dict[tuple[int, int, int], int]:
    """Processes by device and inode of what they lock."""
    with suppress(OSError):
        text = Path("/proc/locks").read_text(encoding="ascii")
        found = re.finditer(r"^\d+: \w+ +\w+ +WRITE (-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ", text, re.MULTILINE)
        return {(int(lock[2], 16), int(lock[3], 16), int(lock[4])): int(lock[1]) for lock in found}
    return {}
