"""Markdown of the results."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Where HTML would begin: `<` alone, as in `'<' not supported`, is text.
_TAG = re.compile(r"<(?=[a-zA-Z/!?])")


def inert(text: str) -> str:
    """Text that others wrote, such as an error, without HTML that a viewer of Markdown would obey."""
    return _TAG.sub(r"\<", text)


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    # At least two, for `:-`: a rule of a mere colon makes it no table.
    widths = [max(2, *(len(str(row[column])) for row in [header, *lines])) for column in range(len(header))]
    rule = [":" + "-" * (width - 1) for width in widths]
    return "\n".join(
        "| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [header, rule, *lines]
    )
