"""Folders `{run}/attempts/redo-{time}/{target}` of what `redo=` moved away, so that it is made again.

A target is `finetune` or an evaluation's cell. They keep its record, and that by which it would be restored or
continued. Nothing in them is ever used again; their names say what was asked for, and when.
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from run_experiment.common import paths

_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"redo-(\d{8}T\d{6}Z)(\.\d+)?")


def move_away(folder: Path, target: str, moment: datetime, files: Iterable[Path]) -> None:
    """Move files and folders of a record's target in the experiment `folder` away, in this order. Raises OSError."""
    run, name = paths.target_of(target)
    place: Path | None = None
    for path in files:
        place = place or _new(folder / paths.attempts(run), moment, name)
        # A job that ends just now may remove it.
        with suppress(FileNotFoundError):
            # Output folders may be on another file system.
            shutil.move(path, _free(place / _name_of(path)))


def redone_at(folder: Path, target: str) -> datetime | None:
    """When `redo=` last moved something of a record's target away; None if it never did."""
    run, name = paths.target_of(target)
    found = (folder / paths.attempts(run)).glob(f"redo-*/{glob.escape(name)}")
    return max(filter(None, (_moment(path.parent.name) for path in found)), default=None)


def _new(attempts: Path, moment: datetime, name: str) -> Path:
    """The folder of a target; a further one if there is one of this second."""
    folder = _free(attempts / f"redo-{moment.astimezone(UTC).strftime(_TIME)}", name)
    folder.mkdir(parents=True)
    return folder


def _free(path: Path, inside: str = "") -> Path:
    """The path (of `inside` in it), or the first with a number added that does not exist."""
    for number in count(1):
        free = (path if number == 1 else path.with_name(f"{path.name}.{number}")) / inside
        if not free.exists():
            return free
    raise AssertionError("numbers do not end")


def _name_of(path: Path) -> str:
    """Copies of a training's record have the same name in every training's folder."""
    is_copy = path.name in (paths.KEPT_RECORD, paths.UNFINISHED)
    return f"{path.parent.name}.{path.name}" if is_copy else path.name


def _moment(name: str) -> datetime | None:
    matched = _NAME.fullmatch(name)
    try:
        return datetime.strptime(matched[1], _TIME).replace(tzinfo=UTC) if matched else None
    # Renamed by hand.
    except ValueError:
        return None
