"""Time: local, with its offset; as records, the ledger and the logs have it."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def now() -> datetime:
    """Local time, with its offset."""
    return datetime.now().astimezone()


def stamp(moment: datetime) -> str:
    """A time as records have it: ISO 8601, to the second."""
    return moment.isoformat(timespec="seconds")


def moment_of(text: Any) -> datetime | None:
    """The time that a text tells; None if it tells none."""
    try:
        return datetime.fromisoformat(str(text)).astimezone()
    except (ValueError, OverflowError, OSError):
        return None
