"""Hashes for who only looks at an experiment: nothing is saved, and no verified checkpoint is read again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.common.json_files import read_record
from run_experiment.experiment.model import Experiment
from run_experiment.inputs.file_hashes import HashMemory


class StatusMemory(HashMemory):
    """Hashes that nobody saves; of verified checkpoints those of their manifests, so that none is read again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / paths.MEMORY / "hashes.json")
        self._verified: dict[Path, tuple[Mapping[str, Any], int]] = {}

    def learn(self, experiment: Experiment) -> None:
        """Take the hashes of an experiment's manifests."""
        self._verified = {}
        for run in experiment.runs:
            for epoch in run.verified:
                path = experiment.folder / paths.manifest(run.name, epoch)
                manifest = read_record(path)
                if manifest and isinstance(files := manifest.get("files"), dict):
                    folder, written = experiment.folder / str(manifest.get("checkpoint")), path.stat().st_mtime_ns
                    self._verified |= {folder / name: (facts, written) for name, facts in files.items()}

    def file(self, path: Path) -> str:
        """SHA-256 of a file's bytes. A file that has changed since its manifest was written has a later change time."""
        facts, written = self._verified.get(path, ({}, 0))
        stat = path.stat()
        as_verified = (stat.st_size, stat.st_mtime_ns) == (facts.get("size"), facts.get("mtime_ns"))
        return str(facts["sha256"]) if as_verified and stat.st_ctime_ns <= written else super().file(path)
