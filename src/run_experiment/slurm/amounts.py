"""Values as SLURM's accounting writes them: times, durations, memory, counted resources (TRES)."""

from __future__ import annotations

import re
from datetime import datetime

_DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]?)([nc]?)")
# MiB in one of each.
_UNITS = {unit: 1024.0**power for power, unit in enumerate("KMGTPE", start=-1)}
_MIB_OF_BYTE = 1024.0**-2


def moment(text: str) -> datetime | None:
    """A local time such as 2026-01-31T12:00:00; None for `Unknown` and `None`."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return None


def count(text: str) -> int:
    """A whole number; 0 if there is none."""
    return int(text) if text.isdecimal() else 0


def cpu_seconds(text: str) -> int | None:
    """Seconds of `[days-][hours:]minutes:seconds[.milliseconds]`, rounded as seff does; None if there are none."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, rest = found.groups(default="0")
    seconds = (int(days) * 24 + int(hours)) * 3600 + int(minutes) * 60 + float(rest)
    return int(seconds + 0.5) if seconds else None


def limit_seconds(text: str) -> int | None:
    """Seconds of a limit in minutes; None for `UNLIMITED` and `Partition_Limit`."""
    return int(text) * 60 if text.isdecimal() else None


def requested_mib(text: str, cpus: int, nodes: int) -> float | None:
    """MiB that a job asked for, from ReqMem: `4G` in all; before SLURM 21.08 `4Gn` per node or `4000Mc` per CPU.

    None where nothing is said, and for 0, which means all that a node has.
    """
    found = _MEMORY.fullmatch(text)
    if found is None:
        return None
    number, unit, share = found.groups()
    times = {"": 1, "n": nodes, "c": cpus}[share]
    return float(number) * _UNITS[unit or "M"] * times or None


def tres(text: str) -> dict[str, str]:
    """Amounts by resource, of `cpu=4,mem=24G,gres/gpu=1`."""
    return {name: amount for name, _, amount in (part.rpartition("=") for part in text.split(",")) if name}


def tres_mib(text: str) -> float | None:
    """MiB of `mem` among counted resources, which are bytes without a unit; None if missing or 0."""
    found = _MEMORY.fullmatch(tres(text).get("mem", ""))
    if found is None:
        return None
    return float(found[1]) * (_UNITS[found[2]] if found[2] else _MIB_OF_BYTE) or None


def tres_gpus(text: str) -> int:
    """GPUs among counted resources, whether a site counts all or each type; 0 if it counts none."""
    amounts = tres(text)
    typed = [count(amount) for name, amount in amounts.items() if name.startswith("gres/gpu:")]
    return count(amounts.get("gres/gpu", "")) or sum(typed)
