"""Files of several processes: locks that end with their process, links that are replaced in one step or refused, stamps
that tell what was written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from run_experiment.common.paths import SUMMARY

Stamps = Mapping[Path, tuple[int, int]]


def try_lock(file: IO[bytes] | int, *, shared: bool = False) -> bool:
    """Lock a file until it is closed; False if another process holds it.

    Raises OSError if the file system has no locks, as some shared ones.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def regular(path: Path) -> Path:
    """The path of a file that is no FIFO or device, to read which might take for ever. Raises OSError."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path


def stamps(files: Iterable[Path]) -> Stamps:
    """Time (ns) and size of files, by which a later look tells what was written since; without those that are gone."""
    found = {}
    for path in files:
        with suppress(OSError):
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_size)
    return found


def replace_link(link: Path, folder: Path) -> None:
    """Make `link` lead to a folder; relative, so that it survives a move of both. Raises OSError."""
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.unlink(missing_ok=True)
    beside.symlink_to(_relative(folder.absolute(), link.parent.absolute()))
    beside.replace(link)


def _relative(folder: Path, start: Path) -> str:
    """Path of a folder from another one; `..` leads out of where a link leads, so links above it are followed."""
    if folder.is_relative_to(start):
        return str(folder.relative_to(start))
    return os.path.relpath(folder.parent.resolve() / folder.name, start.resolve())


class ForeignLinkError(OSError):
    """A link within an experiment that another user made: it could aim what is written here at any file."""

    def __init__(self, link: Path, uid: int) -> None:
        owner = str(uid)
        with suppress(KeyError):
            owner = pwd.getpwuid(uid).pw_name
        super().__init__(errno.EPERM, f"{link} is a link that {owner} made: remove it, or make it yourself")

    def __str__(self) -> str:
        """The message alone, without the number of the error."""
        return str(self.strerror)


def refuse_foreign_links(path: Path) -> None:
    """Check a file that is to be written in an experiment. Raises ForeignLinkError.

    Links on the way to it are followed if this user or root made them.
    """
    for part in _within_experiment(path):
        try:
            found = part.lstat()
        except OSError:
            continue
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
            raise ForeignLinkError(part, found.st_uid)


def links_at_top(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Links in an experiment's folder, each with where it leads. Raises OSError, ForeignLinkError."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            refuse_foreign_links(path)
            yield path, path.resolve()


def _within_experiment(path: Path) -> list[Path]:
    """A path and the folders on the way to it, without the experiment's own folder; nothing outside of one."""
    ways = [path, *path.parents]
    homes = [number for number, folder in enumerate(ways) if number and (folder / SUMMARY).is_file()]
    # A link could lead to a folder that looks like an experiment.
    return ways[: homes[-1]] if homes else []


def give_usual_rights(path: Path) -> None:
    """Give a file the rights that new files have: safetensors lets nobody else read what it writes. Raises OSError."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
