"""Hashes for commands that only look at an experiment: nothing is saved, no verified checkpoint is read again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.experiment.records import Manifest
from run_experiment.inputs.file_hashes import HashMemory


class StatusMemory(HashMemory):
    """Hashes that nobody saves; of verified checkpoints those of their manifests, so that none is read again."""

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
