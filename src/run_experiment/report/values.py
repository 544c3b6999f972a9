"""Values as the page can show them: numbers that JSON has, texts that are not too long."""

from __future__ import annotations

import math
from typing import Any

# What of a text is kept: nobody reads more of it on a page, and a model may write without end.
_LONGEST = 600
# Of numbers; a hyphen is too short for it.
MINUS = "\N{MINUS SIGN}"

# The verdict of a check that found nothing to look at.
FINE = "ok"


def check_row(subject: str, check: str, found: str, verdict: str = FINE) -> dict[str, str]:
    """A row of the page's checks: what was found, with its numbers, and what that means."""
    return {"subject": subject, "check": check, "found": found, "verdict": verdict}


def cut(value: Any, most: int = _LONGEST) -> Any:
    """A value as the page shows it: long text is cut, and says so."""
    if isinstance(value, str) and len(value) > most:
        return f"{value[:most]}… ({len(value):,} characters)"
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, list | tuple):
        return cut(", ".join(map(str, value)), most)
    return value if value is None or isinstance(value, str | int | bool) else cut(str(value), most)


def signed(difference: float) -> str:
    """A difference as the page's tables have it."""
    return f"{difference:+.3f}".replace("-", MINUS)


def finite(value: Any) -> Any:
    """A number that JSON has, to six digits; None for NaN and the infinite."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """The same as JSON has it, whatever is in it: numbers finite, texts cut, times and all else as texts."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else cut(value)
