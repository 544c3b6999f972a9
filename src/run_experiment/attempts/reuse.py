"""Trainings of other experiments that a run takes instead of training: of the same configuration, and complete.

What is taken is a folder of links beside the run's own trainings, with a record that says where it is from. It is
restored from there like an earlier training of the run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from run_experiment.attempts.trainings import KeptTraining, Sought, complete_in, new_folder
from run_experiment.common import paths
from run_experiment.common.json_files import short_hash, write_record


def offered_training(sought: Sought, experiments: Sequence[Path]) -> KeptTraining | None:
    """The newest complete training of this configuration in other experiments' folders."""
    if sought.output_dir is None:
        return None
    found = (complete_in(sought, folder) for one in experiments for folder in _candidates(sought, one))
    return max((kept for kept in found if kept), key=lambda kept: str(kept.record.get("ended")), default=None)


def take(sought: Sought, offered: KeptTraining) -> Path:
    """Link a training of another experiment into a folder of this one's trainings; returns the folder. Raises OSError.

    An interruption leaves nothing that counts.
    """
    folder = new_folder(sought)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(offered.folder, beside, copy_function=_link)
        record = beside / paths.KEPT_RECORD
        # Else writing would go through the link.
        record.unlink()
        write_record(record, _of_this_experiment(sought, offered))
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _candidates(sought: Sought, experiment: Path) -> Iterator[Path]:
    """Folders in an experiment that may hold the training, by the name that its configuration gives them."""
    name = short_hash(sought.config)
    for pattern in (f"*/{paths.TRAININGS}/*{name}*", f"*/*/{paths.TRAININGS}/*{name}*"):
        yield from experiment.glob(pattern)


def _link(source: str, target: str) -> None:
    """A hard link, so that removing the other experiment takes nothing; to another file system a symbolic one."""
    try:
        os.link(source, target)
    except OSError:
        os.symlink(os.path.abspath(source), target)


def _of_this_experiment(sought: Sought, offered: KeptTraining) -> dict[str, Any]:
    """The record of a training that was taken."""
    record = offered.record
    source = {"experiment": record.get("experiment"), "run": record.get("run")}
    # It may have been taken itself.
    made = record.get("provenance", {}).get("taken_from", source)
    return {
        **record,
        "experiment": str(sought.experiment.absolute()),
        "run": sought.run,
        "provenance": {**record.get("provenance", {}), "taken_from": made},
    }
