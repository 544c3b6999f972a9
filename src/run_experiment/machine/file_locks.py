"""Who holds locks on files, as the system says: to try a lock would make a job fail that starts at that moment."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path


class FileLocks:
    """Files that processes of this machine hold locks to write on, at one moment; none if the system does not say."""

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
