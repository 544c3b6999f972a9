"""Hashes of files, cached while a file's stat stays the same, so that planning does not read big files again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.common.json_files import canonical, write_atomically
from run_experiment.experiment.records import Manifest
from run_experiment.inputs.data_files import DataError, file_hash, read_splits, rows_hash

FILE, SPLITS = "file", "splits"


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

    def split(self, path: Path, split: str, first: int | None = None) -> str | None:
        """SHA-256 of a split's rows, or of the `first` ones; None if the file has no such split or no splits.

        Raises OSError or DataError if it cannot be read.
        """
        entry = self._entry(path)
        key = SPLITS if first is None else f"{SPLITS}[:{first}]"
        if key not in entry:
            entry[key] = _split_hashes(path, first)
            self._changed = True
        found = entry[key].get(split)
        return None if found is None else str(found)

    def save(self) -> None:
        """Save what was used; if the folder is not writable, that costs only time."""
        if self._changed:
            with suppress(OSError):
                write_atomically(self._store, canonical(self._used))

    def _entry(self, path: Path) -> dict[str, Any]:
        key = _key(path)
        return self._used.setdefault(key, self._known.get(key, {}))

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            known = json.loads(self._store.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: entry for key, entry in known.items() if _is_entry(entry)} if isinstance(known, dict) else {}


class StatusMemory(HashMemory):
    """For commands that only look: nothing is saved, and no file of a verified checkpoint is read again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / paths.MEMORY / "hashes.json")
        self._verified: dict[Path, tuple[Mapping[str, Any], int]] = {}

    def learn(self, folder: Path, manifests: Mapping[str, Manifest]) -> None:
        """Take the hashes of the manifests in an experiment's folder, by their paths in it."""
        self._verified = {}
        for path, manifest in manifests.items():
            checkpoint, written = folder / str(manifest.checkpoint), (folder / path).stat().st_mtime_ns
            self._verified |= {checkpoint / name: (facts, written) for name, facts in manifest.files.items()}

    def file(self, path: Path) -> str:
        """SHA-256 of a file's bytes. A file that has changed since its manifest was written has a later change time."""
        facts, written = self._verified.get(path, ({}, 0))
        stat = path.stat()
        as_verified = (stat.st_size, stat.st_mtime_ns) == (facts.get("size"), facts.get("mtime_ns"))
        return str(facts["sha256"]) if as_verified and stat.st_ctime_ns <= written else super().file(path)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry[key], dict) for key in entry if key.startswith(SPLITS))


def _key(path: Path) -> str:
    stat = path.stat()
    return canonical([str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino])


def _split_hashes(path: Path, first: int | None) -> dict[str, str]:
    try:
        return {name: rows_hash(rows[:first]) for name, rows in read_splits(path).items()}
    except DataError as error:
        # An error of the disk or server now says nothing about the file.
        if isinstance(error.__cause__, OSError):
            raise
        return {}
