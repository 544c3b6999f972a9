"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that resembles a word most, None where none does."""
    by_lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?`, or the known names where none resembles the word and they are few."""
    names = list(known)
    match = closest(word, names)
    if match:
        return f"; did you mean {match}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 12 else ""
