"""Trainings on disk: each has a folder `trainings/{hash of its configuration}` beside the output folder.

The output folder (`{run}/artifacts`) is a link to the training of today's configuration. A complete training has a copy
of its record beside its checkpoints: Snakemake removes a target before making it again.
Older versions trained into the output folder itself, and moved it away for another configuration; such trainings are
found here too, and renamed by the next job (`carry_over`). What was trained is never moved or copied later.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.common.files import replace_link
from run_experiment.common.json_files import Config, read_record, same_config, short_hash

# Name of what does not say of which configuration it is.
_UNKNOWN = "unfinished"


@dataclass(frozen=True)
class Sought:
    """The training that is asked for: its run and configuration.

    `checkpoints` are the folders of its epochs, `output_dir` is the one that holds them all, None if the script of
    another tool decides; relative to the `experiment` or absolute.
    """

    experiment: Path
    run: str
    config: Config
    output_dir: str | None
    checkpoints: list[str]

    @property
    def output(self) -> Path:
        """Its output folder; without one, the folder of the record's copy."""
        return self.experiment / (self.output_dir or self.checkpoints[-1])

    @property
    def current(self) -> Path:
        """The folder that its output folder links to, or that it is."""
        return self.output.parent / os.readlink(self.output) if self.output.is_symlink() else self.output

    @property
    def beside(self) -> Path:
        """Folder of the trainings of this output folder."""
        return self.output.parent / paths.TRAININGS

    @property
    def inside(self) -> Path:
        """Folder of the run's trainings in the experiment: those that were made before the output folder changed."""
        return self.experiment / self.run / paths.TRAININGS


@dataclass(frozen=True)
class KeptTraining:
    """A complete training: its record, and the folder of its checkpoints; `output` is its output folder."""

    record: dict[str, Any]
    folder: Path
    output: Path

    def place(self, checkpoint: Path) -> Path:
        """Current path of a checkpoint, given its path in `output`."""
        return place_in(self.folder, self.output, checkpoint)


def place_in(folder: Path, output: Path, checkpoint: Path) -> Path:
    """Path in a training's folder of a checkpoint in its output folder; others are where they are."""
    return folder / checkpoint.relative_to(output) if checkpoint.is_relative_to(output) else checkpoint


def kept_training(sought: Sought) -> KeptTraining | None:
    """The complete training that the output folder holds, else the newest one of those in other folders."""
    if found := complete_in(sought, sought.current):
        return found
    others = [kept for folder in _others(sought) if (kept := complete_in(sought, folder))]
    # A repeated training is newer than the one it replaced.
    return max(others, key=lambda kept: str(kept.record.get("ended")), default=None)


def unfinished_training(sought: Sought) -> Path | None:
    """Folder of the training that was begun but not finished, else None; the newest of several."""
    found = [folder for folder in (sought.current, *_others(sought)) if _is_unfinished(sought, folder)]
    return max(found, key=lambda folder: (folder / paths.UNFINISHED).stat().st_mtime, default=None)


def trained_epoch(sought: Sought, epoch: int) -> dict[str, Any] | None:
    """Which job trained an epoch of the unfinished training in the output folder, and when; None if it is not whole."""
    if sought.output_dir is None:
        return None
    found = read_record(sought.experiment / sought.checkpoints[epoch] / paths.TRAINED)
    return found if found and _is_unfinished(sought, sought.current) else None


def records_of(sought: Sought) -> list[Path]:
    """Records beside checkpoints by which the training, finished or not, would be restored or resumed."""
    folders = dict.fromkeys([sought.current, *_others(sought)])
    found = [folder / name for folder in folders for name in (paths.KEPT_RECORD, paths.UNFINISHED)]
    return [path for path in found if _is_of(sought, read_record(path))]


def _made_in(folder: Path) -> dict[str, Any]:
    """Record of the training in a folder, finished or not."""
    return read_record(folder / paths.KEPT_RECORD) or read_record(folder / paths.UNFINISHED) or {}


def conflict(sought: Sought) -> str:
    """Why the output folder must not be replaced: another experiment's training, or other files; else empty."""
    if (sought.experiment / sought.run).resolve().is_relative_to(sought.output.resolve()):
        return f"{sought.output} holds other files of {sought.run}: choose another folder for checkpoints"
    owner = _other_owner(sought, sought.current)
    text = f"{sought.output} holds a training of {owner}: set an output.base_directory of this experiment's own"
    return text if owner else ""


def _other_owner(sought: Sought, folder: Path) -> str | None:
    """The other experiment that made the training in a folder outside this experiment, by its record."""
    owner, here = _made_in(folder).get("experiment"), sought.experiment.absolute()
    if not owner or Path(owner) == here or folder.resolve().is_relative_to(here):
        return None
    return str(owner) if (Path(owner) / paths.SUMMARY).exists() else None


def files_in(checkpoint: Path) -> list[Path]:
    """Files of a checkpoint; none if it was not written."""
    return [path for path in checkpoint.glob("*") if path.is_file()]


def _moved_away(sought: Sought) -> list[Path]:
    """Folders of earlier trainings of the run that older versions moved away, oldest first."""
    output = sought.output
    beside = [folder for folder in output.parent.glob(f"{glob.escape(output.name)}.*") if folder.is_dir()]
    # The output folder of another run may have such a name too.
    named = [folder for folder in beside if _made_in(folder).get("run") == sought.run]
    own = [folder for folder in named if not _other_owner(sought, folder)]
    found = [*(sought.experiment / paths.attempts(sought.run)).glob("*.artifacts*"), *own]
    return sorted(found, key=lambda folder: str(_made_in(folder).get("ended", "")))


def folder_name(home: Path, run: str, config: Config) -> str:
    """Name of the folder of a configuration's trainings; with the run's name in a folder that runs may share."""
    name = short_hash(config)
    return name if home.parent.name == run else f"{run}.{name}"


def _others(sought: Sought) -> list[Path]:
    """Folders that may hold the training, besides the output folder."""
    if sought.output_dir is None:
        return []
    named = [folder for home in dict.fromkeys([sought.beside, sought.inside]) for folder in _named(sought, home)]
    return [folder for folder in named if not _other_owner(sought, folder)] + _moved_away(sought)


def _named(sought: Sought, home: Path) -> list[Path]:
    """Folders of the configuration's trainings: `{name}`, and `{name}.2` and so on of those that began anew."""
    name = folder_name(home, sought.run, sought.config)
    numbered = re.compile(rf"{re.escape(name)}(\.\d+)?")
    return [folder for folder in home.glob(f"{glob.escape(name)}*") if numbered.fullmatch(folder.name)]


def complete_in(sought: Sought, folder: Path) -> KeptTraining | None:
    """The training in a folder, if it is the one that is asked for and has all of its checkpoints."""
    record = read_record(folder / paths.KEPT_RECORD)
    if not record or not _is_of(sought, record):
        return None
    kept = KeptTraining(record, folder, sought.output)
    complete = all(files_in(kept.place(sought.experiment / checkpoint)) for checkpoint in sought.checkpoints)
    return kept if complete else None


def _is_unfinished(sought: Sought, folder: Path) -> bool:
    return _is_of(sought, read_record(folder / paths.UNFINISHED)) and not _other_owner(sought, folder)


def _is_of(sought: Sought, record: Mapping[str, Any] | None) -> bool:
    return record is not None and same_config(record.get("config"), sought.config)


def new_folder(sought: Sought) -> Path:
    """A folder for a training that begins, empty or not there: an earlier one of the configuration keeps its own."""
    first = sought.beside / folder_name(sought.beside, sought.run, sought.config)
    # It may be a link to where the user wants the training.
    return first if first.is_dir() and not any(first.iterdir()) else _free(first)


def select(sought: Sought, folder: Path) -> None:
    """Make the output folder a link to the folder of a training, which is created. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if sought.current != folder:
        replace_link(sought.output, folder)


def is_own_link(sought: Sought) -> bool:
    """Whether the output folder is a link to a training, which this project made."""
    homes = {sought.beside.resolve(), sought.inside.resolve()}
    return sought.output.is_symlink() and sought.current.parent.resolve() in homes


def has_older_layout(sought: Sought) -> bool:
    """Whether the output folder is something else than such a link, or older versions moved trainings away."""
    return _is_taken(sought) or bool(_moved_away(sought))


def _is_taken(sought: Sought) -> bool:
    return os.path.lexists(sought.output) and not is_own_link(sought)


def carry_over(sought: Sought) -> None:
    """Rename trainings of older versions to the folders that they have now. Raises OSError.

    Each is found before and after, so an interruption costs nothing. All stay on their file system.
    """
    for folder in _moved_away(sought):
        home = sought.beside if folder.parent == sought.output.parent else sought.inside
        home.mkdir(exist_ok=True)
        folder.rename(_free(home / _name_in(sought, home, folder)))
    if _is_taken(sought):
        adopt(sought, _name_in(sought, sought.beside, sought.output))


def adopt(sought: Sought, name: str) -> Path:
    """Give what lies in place of the output link a folder of that name, and link to it. Raises OSError.

    What a link of the user's own leads to stays there: the folder is a link, too.
    """
    sought.beside.mkdir(exist_ok=True)
    folder = _free(sought.beside / name)
    if sought.output.is_symlink():
        target = sought.output.resolve()
        target.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(target)
    else:
        sought.output.rename(folder)
    replace_link(sought.output, folder)
    return folder


def _name_in(sought: Sought, home: Path, folder: Path) -> str:
    """Name of the folder in `home` of a training of older versions."""
    config = _made_in(folder).get("config")
    if folder.is_symlink() and not any(folder.glob("*")):
        config = sought.config
    return folder_name(home, sought.run, config) if isinstance(config, dict) else _UNKNOWN


def _free(folder: Path) -> Path:
    """The folder, or the first of `folder.2`, `folder.3`, … that is not there; an empty one is removed."""
    for number in count(1):
        free = folder if number == 1 else folder.with_name(f"{folder.name}.{number}")
        with suppress(OSError):
            free.rmdir()
        if not os.path.lexists(free):
            return free
    raise AssertionError("numbers do not end")
