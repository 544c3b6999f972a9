"""Text for people to read."""

from __future__ import annotations

from collections.abc import Sequence


def shortened(names: Sequence[str], most: int = 6) -> str:
    """Names in one line; `a, b and 3 more` if there are more than `most`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str, of: int | None = None) -> str:
    """`1 sample`, `5 samples`; `5 of 6 samples` if they are some `of` more."""
    some = str(number) if of is None else f"{number} of {of}"
    return f"{some} {noun}{'' if (number if of is None else of) == 1 else 's'}"
