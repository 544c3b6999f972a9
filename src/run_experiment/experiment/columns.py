"""Columns of the data that are trained on; jobs, which start without pydantic, know them too."""

from __future__ import annotations

from typing import NamedTuple


class Columns(NamedTuple):
    """Columns of the data with the inputs and the answers."""

    input: str
    output: str


DEFAULT_COLUMNS = Columns("input", "output")
