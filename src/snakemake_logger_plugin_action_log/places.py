"""What keeps Snakemake from starting at all, with a word on what to do: places, a locale, words on its command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from run_experiment.common.places import no_space


def why_no_start() -> str:
    """What keeps Snakemake from starting here; empty if nothing does."""
    if why := _no_cache() or _no_setting(sys.argv):
        return why
    odd = [argument for argument in sys.argv if not argument.isascii()]
    if odd and sys.getfilesystemencoding() != "utf-8":
        return (
            f"Python takes the names of files for {sys.getfilesystemencoding()} here, not for UTF-8, so some cannot be "
            "written: set LC_ALL=C.UTF-8, and unset PYTHONUTF8"
        )
    return ""


def _no_setting(arguments: Sequence[str]) -> str:
    """Which word after --config is no setting: Snakemake takes all words up to the next option, targets too."""
    in_config = False
    for argument in arguments:
        if argument.startswith("-"):
            in_config = argument in ("--config", "-C")
        elif in_config and "=" not in argument:
            way_out = "write lists without blanks, and targets before --config"
            return f"--config: {argument!r} is no setting (KEY=VALUE): {way_out}"
    return ""


def _no_cache() -> str:
    """Why Snakemake's cache of sources cannot be made."""
    try:
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snakemake"
        place.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        return f"Snakemake needs a folder for its cache ({error}): set XDG_CACHE_HOME to one that can be written"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{place} cannot be written, where Snakemake has its cache: set XDG_CACHE_HOME to another folder"
    if why := no_space(place):
        return f"{place}, where Snakemake has its cache, {why}, or set XDG_CACHE_HOME to another folder"
    return ""
