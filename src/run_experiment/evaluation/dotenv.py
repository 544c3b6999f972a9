"""Variables that inspect-ai would read from a `.env` file, and that would change every evaluation unseen."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"\bINSPECT_EVAL_\w+")


def dotenv_settings(folder: Path) -> dict[str, list[str]]:
    """Names of inspect-ai's options in `.env` files of a folder and those above it, by file.

    inspect-ai reads the nearest one of the folder where it is started.
    """
    found = {}
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            text = (place / ".env").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if names := sorted(set(_NAME.findall(text))):
            found[str(place / ".env")] = names
    return found


def overridden(settings: dict[str, list[str]]) -> dict[str, str]:
    """Environment in which inspect-ai does not take these options: a variable that is there, even empty, stays."""
    return {name: "" for names in settings.values() for name in names}
