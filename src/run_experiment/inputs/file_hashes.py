"""Hashes of files, cached while a file's stat stays the same, so that planning does not read big files again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.common.json_files import canonical, write_atomically
from run_experiment.inputs.conversations import has_messages
from run_experiment.inputs.data_files import DataError, Row, read_splits, rows_hash

FILE, SPLITS, CONVERSATIONS = "file", "splits", "splits of conversations"


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises DataError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def file_facts(path: Path) -> dict[str, int | str]:
    """What a record says of a file: size, modification time (ns) and SHA-256. Raises OSError or DataError."""
    # First: a change meanwhile shows.
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file_hash(path)}


class HashMemory:
    """Hashes of files, and of the splits of data files; kept in `store` between sessions, and only a memory:
    without it everything is computed anew.

    The change time is part of the key: it cannot be set back, unlike the modification time.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[str, dict[str, Any]] = self._load()
        self._used: dict[str, dict[str, Any]] = {}
        self._changed = False

    def file(self, path: Path) -> str:
        """SHA-256 of a file's bytes. Raises OSError or DataError if it cannot be read."""
        entry = self._entry(path)
        if FILE not in entry:
            entry[FILE] = file_hash(path)
            self._changed = True
        return str(entry[FILE])

    def recorded(self, path: Path, facts: Mapping[str, Any], written: int) -> str:
        """SHA-256 of a file's bytes, from a record's facts of it unless it may have changed since `written` (ns).

        Raises OSError or DataError if it cannot be read.
        """
        stat = path.stat()
        as_recorded = (stat.st_size, stat.st_mtime_ns) == (facts.get("size"), facts.get("mtime_ns"))
        # The change time cannot be set back.
        return str(facts["sha256"]) if as_recorded and stat.st_ctime_ns <= written else self.file(path)

    def split(self, files: Sequence[Path], split: str, first: int | None = None) -> str | None:
        """SHA-256 of a split's rows in joined data files, or of the `first` ones; None if there is no such split.

        There is none either if a file has no splits. Raises OSError or DataError if one cannot be read.
        """
        entry = self._entry(*files)
        key = SPLITS if first is None else f"{SPLITS}[:{first}]"
        if key not in entry:
            entry[key] = _split_hashes(files, first)
            self._changed = True
        found = entry[key].get(split)
        return None if found is None else str(found)

    def conversations(self, files: Sequence[Path]) -> frozenset[str]:
        """Splits with rows of `messages`; none of a file that cannot be parsed. Raises OSError or DataError."""
        return frozenset(name for file in files for name in self._conversations(file))

    def _conversations(self, path: Path) -> Iterable[str]:
        entry = self._entry(path)
        if CONVERSATIONS not in entry:
            entry[CONVERSATIONS] = {name: True for name, rows in _splits(path).items() if any(map(has_messages, rows))}
            self._changed = True
        return map(str, entry[CONVERSATIONS])

    def part(self, path: Path, split: str | None) -> dict[str, Any]:
        """A split of a data file with its hash; the whole file if there is no such split.

        Raises OSError or DataError if it cannot be read.
        """
        if split and (sha256 := self.split([path], split)):
            return {"split": split, "sha256": sha256}
        return {"split": None, "sha256": self.file(path)}

    def save(self) -> None:
        """Save what was used; if the folder is not writable, that costs only time."""
        if self._changed:
            with suppress(OSError):
                write_atomically(self._store, canonical(self._used))

    def _entry(self, *files: Path) -> dict[str, Any]:
        key = "\n".join(map(_key, files))
        return self._used.setdefault(key, self._known.get(key, {}))

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            known = json.loads(self._store.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: entry for key, entry in known.items() if _is_entry(entry)} if isinstance(known, dict) else {}


def hash_memory(folder: Path) -> HashMemory:
    """The hashes remembered of the files of an experiment in `folder`."""
    return HashMemory(folder / paths.MEMORY / "hashes.json")


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry[key], dict) for key in entry if key.startswith(SPLITS))


def _key(path: Path) -> str:
    stat = path.stat()
    return canonical([str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])


def _split_hashes(files: Sequence[Path], first: int | None) -> dict[str, str]:
    parts = [_splits(file) for file in files]
    names = {name for splits in parts for name in splits} if all(parts) else ()
    return {name: rows_hash([row for splits in parts for row in splits.get(name, ())][:first]) for name in names}


def _splits(path: Path) -> Mapping[str, Sequence[Row]]:
    """Splits of a data file; none if it has none."""
    try:
        return read_splits(path)
    except DataError as error:
        # An error of the disk or server now says nothing about the file.
        if isinstance(error.__cause__, OSError):
            raise
        return {}
