"""Which process of this machine is which: process ids are reused, start times within a boot are not."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path


def boot_id() -> str:
    """Identifier of this machine's current boot; empty if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if unknown."""
    return _state_and_start(pid)[1]


def started_at(pid: int) -> datetime | None:
    """When a process started, local time; None if unknown."""
    ticks = start_ticks(pid)
    try:
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    if ticks is None or boot is None:
        return None
    return datetime.fromtimestamp(int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK")).astimezone()


def is_alive(pid: int, started: int | None) -> bool:
    """Whether the process that had this id and start (clock ticks; None if unknown) is still running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It belongs to another user.
        pass
    state, ticks = _state_and_start(pid)
    return state != "Z" and (ticks is None or started is None or ticks == started)


def _state_and_start(pid: int) -> tuple[str, int | None]:
    """State and start (clock ticks since boot) of a process; unknown if the system has no /proc."""
    try:
        # The program's name, in brackets, may contain spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", None
