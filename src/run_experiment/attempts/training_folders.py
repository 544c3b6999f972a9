"""The folder that a training writes to, and the link to it: what was trained is never moved or copied later."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path

from run_experiment.attempts.trainings import Sought, folder_name, made_in, moved_away
from run_experiment.common.links import replace_link

# Name of what does not say of which configuration it is.
_UNKNOWN = "unfinished"


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
    return _is_taken(sought) or bool(moved_away(sought))


def _is_taken(sought: Sought) -> bool:
    return os.path.lexists(sought.output) and not is_own_link(sought)


def carry_over(sought: Sought) -> None:
    """Rename trainings of older versions to the folders that they have now. Raises OSError.

    Each is found before and after, so an interruption costs nothing. All stay on their file system.
    """
    for folder in moved_away(sought):
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
    config = made_in(folder).get("config")
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
