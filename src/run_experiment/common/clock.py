"""Local times with their UTC offset, in the format that records, the ledger and the logs use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

# How far the clocks of two machines may be apart.
CLOCK_SKEW = timedelta(seconds=2)
# The most for a login node and a node of a cluster without time synchronization: munge refuses what is further apart.
NODE_CLOCK_SKEW = timedelta(minutes=5)


def now() -> datetime:
    """The local time with its UTC offset."""
    return datetime.now().astimezone()


def stamp(moment: datetime) -> str:
    """A time as written in records: ISO 8601, to the second."""
    return moment.isoformat(timespec="seconds")


def moment_of(text: Any) -> datetime | None:
    """Parse an ISO time; None if the text is not one."""
    try:
        return datetime.fromisoformat(str(text)).astimezone()
    except (ValueError, OverflowError, OSError):
        return None
