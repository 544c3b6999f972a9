"""CPU time and peak memory of this process and all that it started, where no cluster counts them."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Seconds between looks at the memory of all processes together.
_EVERY = 5.0
# What `ru_maxrss` counts in.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Usage:
    """CPU seconds, and the cores that could be used; memory is MiB, of all processes at a time."""

    cpus: int
    cpu_seconds: float
    peak_memory_mib: float


def usage_from(record: Any) -> Usage | None:
    """The usage in a record, None if it has none."""
    with suppress(KeyError, TypeError, ValueError):
        found = record["usage"]
        return Usage(int(found["cpus"]), float(found["cpu_seconds"]), float(found["peak_memory_mib"]))
    return None


@contextmanager
def counted_usage() -> Iterator[ProcessUsage]:
    """Count while this lasts."""
    usage, done = ProcessUsage(), threading.Event()

    def look() -> None:
        while not done.wait(_EVERY):
            usage.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield usage
    finally:
        done.set()
        thread.join()


class ProcessUsage:
    """CPU time of this process and of all descendants that were waited for, and the most memory of all of them.

    The kernel knows only the largest descendant's peak of memory, so the memory of all together is looked at every few
    seconds, as SLURM does it: pages that processes share count for each of them.
    """

    def __init__(self) -> None:
        self._together = 0

    def look(self) -> None:
        """See how much memory all have now."""
        self._together = max(self._together, memory_of_tree(os.getpid()))

    def figures(self) -> dict[str, Any]:
        """What was used so far, for a record."""
        own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
        peak = max(self._together, _own_peak(), others.ru_maxrss * _RSS_UNIT)
        return asdict(Usage(_cores(), round(seconds, 1), round(peak / _MIB, 1)))


def memory_of_tree(pid: int) -> int:
    """Bytes in memory of a process and its descendants; 0 on systems without /proc."""
    return sum(map(_memory, _tree(pid)))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    # Each thread has the children that it started. Any of them may end meanwhile.
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from _tree(int(child))


def _memory(pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _own_peak() -> int:
    """Most bytes that this process had in memory; `ru_maxrss` would count what ran before in its place."""
    with suppress(OSError, IndexError, ValueError):
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return 0


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
