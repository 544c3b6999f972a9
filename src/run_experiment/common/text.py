"""Text for people to read."""

from __future__ import annotations

from collections.abc import Sequence


def shortened(names: Sequence[str], most: int = 6) -> str:
    """Names in one line; `a, b and 3 more` if there are more than `most`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
