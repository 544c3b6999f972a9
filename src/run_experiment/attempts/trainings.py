"""Trainings on disk, complete or unfinished, in their output folder or set aside for another configuration.

A complete one has a copy of its record beside its checkpoints: Snakemake removes a target before making it again.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_experiment.attempts.files import is_since
from run_experiment.common import paths
from run_experiment.common.json_files import Config, read_record, same_config


@dataclass(frozen=True)
class Sought:
    """The training that is asked for: its run and configuration, not made before `redo` (ISO, or empty).

    `checkpoints` are the folders of its epochs, `output_dir` is the one that holds them all, None if the script of
    another tool decides; relative to the `experiment` or absolute.
    """

    experiment: Path
    run: str
    config: Config
    redo: str
    output_dir: str | None
    checkpoints: list[str]

    @property
    def folder(self) -> Path:
        """Folder of the record's copy."""
        return self.experiment / (self.output_dir or self.checkpoints[-1])


@dataclass(frozen=True)
class KeptTraining:
    """A complete training: its record, and the folder of its checkpoints; `home` is its output folder."""

    record: dict[str, Any]
    folder: Path
    home: Path

    def place(self, checkpoint: Path) -> Path:
        """Current path of a checkpoint, given its path in `home`."""
        return checkpoint if self.folder == self.home else self.folder / checkpoint.relative_to(self.home)


def kept_training(sought: Sought) -> KeptTraining | None:
    """The complete training in the output folder, else the newest one that was set aside."""
    if found := _whole(sought, sought.folder):
        return found
    found_aside = [kept for folder in _aside(sought) if (kept := _whole(sought, folder))]
    # A repeated training is newer than the one it replaced.
    return max(found_aside, key=lambda kept: str(kept.record.get("ended")), default=None)


def is_unfinished(sought: Sought, folder: Path) -> bool:
    """Whether a folder holds the training that is asked for, begun but not finished."""
    return _is_of(sought, read_record(folder / paths.UNFINISHED))


def unfinished_aside(sought: Sought) -> Path | None:
    """Folder of the newest unfinished training that was set aside."""
    found = [folder for folder in _aside(sought) if is_unfinished(sought, folder)]
    return max(found, key=lambda folder: (folder / paths.UNFINISHED).stat().st_mtime, default=None)


def made_in(folder: Path) -> dict[str, Any]:
    """Record of the training in a folder, finished or not."""
    return read_record(folder / paths.KEPT_RECORD) or read_record(folder / paths.UNFINISHED) or {}


def other_owner(sought: Sought, made: Mapping[str, Any]) -> str | None:
    """The other experiment that made the training in a shared output folder, by its record."""
    owner, here = made.get("experiment"), sought.experiment.absolute()
    if not owner or Path(owner) == here or (here / str(sought.output_dir)).resolve().is_relative_to(here):
        return None
    return str(owner) if (Path(owner) / paths.SUMMARY).exists() else None


def files_in(checkpoint: Path) -> list[Path]:
    """Files of a checkpoint; none if it was not written."""
    return [path for path in checkpoint.glob("*") if path.is_file()]


def _aside(sought: Sought) -> list[Path]:
    """Folders of earlier trainings of the run, set aside for others."""
    if sought.output_dir is None:
        return []
    output = sought.folder
    beside = [(folder, made_in(folder)) for folder in output.parent.glob(f"{glob.escape(output.name)}.*")]
    # The output folder of another run may have such a name too.
    own = [folder for folder, made in beside if made.get("run") == sought.run and not other_owner(sought, made)]
    return [*(sought.experiment / paths.attempts(sought.run)).glob("*.artifacts*"), *own]


def _whole(sought: Sought, folder: Path) -> KeptTraining | None:
    """The training in a folder, if it is the one that is asked for and has all of its checkpoints."""
    record = read_record(folder / paths.KEPT_RECORD)
    if not record or not _is_of(sought, record):
        return None
    kept = KeptTraining(record, folder, sought.folder)
    whole = all(files_in(kept.place(sought.experiment / checkpoint)) for checkpoint in sought.checkpoints)
    return kept if whole else None


def _is_of(sought: Sought, record: Mapping[str, Any] | None) -> bool:
    if record is None:
        return False
    return same_config(record.get("config"), sought.config) and is_since(record.get("redo"), sought.redo)
