"""Text for people to read."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Control characters but tabs and line ends, line separators, direction marks, surrogates.
_HARMFUL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def shortened(names: Sequence[str], most: int = 6) -> str:
    """Names in one line; `a, b and 3 more` if there are more than `most`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str, of: int | None = None) -> str:
    """`1 sample`, `5 samples`; `5 of 6 samples` if they are some `of` more."""
    some = str(number) if of is None else f"{number} of {of}"
    return f"{some} {noun}{'' if (number if of is None else of) == 1 else 's'}"


def clipped(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis if it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def harmless(text: str) -> str:
    """The text with visible escapes for what could move a terminal's cursor or turn the direction of text."""
    return _HARMFUL.sub(lambda match: _escaped(ord(match[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
