"""Hashes of files, remembered while a file's stat stays the same, so that planning does not read big files again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from run_experiment.data import file_hash, read_splits, rows_hash
from run_experiment.records import canonical, write_atomically

WHOLE_FILE = "*"


class HashMemory:
    """Hashes by file and by split of a data file; kept in `store` between sessions, and only a memory:
    without it everything is computed anew.

    The change time is part of the key: it cannot be set back, unlike the modification time.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[str, dict[str, str]] = self._load()
        self._used: dict[str, dict[str, str]] = {}
        self._changed = False

    def file(self, path: Path) -> str:
        """SHA-256 of a file's bytes. Raises OSError where it cannot be read."""
        return self._remembered(path, lambda: {WHOLE_FILE: file_hash(path)}, WHOLE_FILE)

    def split(self, path: Path, split: str) -> str:
        """SHA-256 of one split's rows, of no rows where there is no such split. Raises DataError."""
        return self._remembered(path, lambda: _split_hashes(path), f"split {split}")

    def save(self) -> None:
        """Keep what was used; a folder that cannot be written costs only time."""
        if self._changed:
            try:
                write_atomically(self._store, canonical(self._used))
            except OSError:
                return

    def _remembered(self, path: Path, compute: Callable[[], dict[str, str]], name: str) -> str:
        key = _key(path)
        hashes = self._used.setdefault(key, self._known.get(key, {}))
        if name not in hashes:
            hashes.update(compute())
            hashes.setdefault(name, rows_hash([]))
            self._changed = True
        return hashes[name]

    def _load(self) -> dict[str, dict[str, str]]:
        try:
            known = json.loads(self._store.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {key: hashes for key, hashes in known.items() if isinstance(hashes, dict)}


def _key(path: Path) -> str:
    stat = path.stat()
    return canonical([str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])


def _split_hashes(path: Path) -> dict[str, str]:
    return {f"split {name}": rows_hash(rows) for name, rows in read_splits(path).items()}
