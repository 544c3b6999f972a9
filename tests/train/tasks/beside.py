"""A module beside the tasks: it is imported as under `inspect eval`, which starts in their folder."""

from __future__ import annotations

FIELD = "output"
