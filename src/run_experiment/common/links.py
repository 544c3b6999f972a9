"""Symbolic links that are replaced in one step: a reader follows the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path


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
