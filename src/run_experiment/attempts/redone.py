"""Folders `{run}/attempts/redo-{time}/{target}` of what `redo=` moved away, so that it is made again.

A target is `finetune` or an evaluation's cell. They keep its record, and that by which it would be restored or
continued, which is never used again; their names say what was asked for, and when. `before.json` lists the attempts
that there were: times, which are of several machines' clocks, would not tell which are from before.
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.json_files import read_record, write_record

_BEFORE = "before.json"
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"redo-(\d{8}T\d{6}Z)(\.\d+)?")


@dataclass(frozen=True)
class Redone:
    """What `redo=` asked for of a target: when it last did, and the attempts `before`, by the names of their folders.

    A job is among them by its id, whether it left a folder or not.
    """

    moment: datetime
    before: frozenset[str]


def move_away(folder: Path, target: str, moment: datetime, files: Iterable[Path], before: Iterable[str]) -> None:
    """Move files and folders of a record's target in the experiment `folder` away, in this order. Raises OSError.

    `before` are the names of the attempts at it, and ids of its jobs, that there are.
    """
    run, name = paths.target_of(target)
    place: Path | None = None
    for path in files:
        if place is None:
            place = _new(folder / paths.attempts(run), moment, name)
            write_record(place / _BEFORE, {"attempts": sorted(before)})
        # A job that ends just now may remove it.
        with suppress(FileNotFoundError):
            # Output folders may be on another file system.
            shutil.move(path, _free(place / _name_of(path)))


def last_redo(folder: Path, target: str) -> Redone | None:
    """What `redo=` moved away of a record's target; None if it never did."""
    run, name = paths.target_of(target)
    places = (folder / paths.attempts(run)).glob(f"redo-*/{glob.escape(name)}")
    found = {place: moment for place in places if (moment := _moment(place.parent.name))}
    return Redone(max(found.values()), frozenset().union(*map(_before, found))) if found else None


def _before(place: Path) -> list[str]:
    """What its list has; nothing if an older version moved it away, which kept none."""
    listed = (read_record(place / _BEFORE) or {}).get("attempts")
    return [str(name) for name in listed] if isinstance(listed, list) else []


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
