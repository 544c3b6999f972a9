"""Only one main process at a time works on an experiment: it holds a lock on a file that names it until it ends.

The lock ends with the process, so nothing has to be unlocked after a kill or a crash. If the file system has no locks,
the experiment counts as locked while the process named in the file is alive.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from run_experiment.common import paths
from run_experiment.common.clock import now, stamp
from run_experiment.common.files import try_lock
from run_experiment.common.process_identity import boot_id, is_alive, start_ticks

OWNER = f"{paths.MEMORY}/owner.json"


class ClaimError(Exception):
    """The experiment cannot be claimed now; the message says why and what to do."""


@dataclass(frozen=True)
class Owner:
    """A process that works or worked on an experiment."""

    host: str
    pid: int
    user: str
    # The boot and the start within it (clock ticks; None if unknown) tell a process from a later one with its id.
    boot_id: str
    start_ticks: int | None
    started: str
    # None while it runs, and for ever if it was killed.
    ended: str | None = None

    @property
    def name(self) -> str:
        """Description of the process for messages."""
        return f"process {self.pid} on {self.host} (user {self.user}, since {self.started})"


@dataclass(frozen=True)
class Sighting:
    """The owner's file at one moment: its bytes (empty if there is none), and whether that process was at work."""

    text: bytes
    at_work: bool

    @property
    def owner(self) -> Owner | None:
        """The process that works or worked on the experiment; None if the file does not say."""
        return _owner(self.text)


class Claim:
    """The right of this process to work on the experiment, until `release` or its end."""

    def __init__(self, file: BinaryIO, owner: Owner) -> None:
        self._file = file
        self._owner = owner
        _write(file, owner)

    def release(self) -> None:
        """Record the end and let others work on the experiment; a full disk prevents only the record."""
        with suppress(OSError):
            _write(self._file, replace(self._owner, ended=stamp(now())))
        self._file.close()


def observe(folder: Path) -> Sighting:
    """Look at who works on an experiment, before planning it."""
    try:
        with folder.joinpath(OWNER).open("rb") as file:
            # In this order, so that a process that starts in between is seen at work.
            return Sighting(_text(file), at_work=not _try_lock(file, shared=True))
    except (FileNotFoundError, PermissionError):
        return Sighting(b"", at_work=False)


def claim(folder: Path, seen: Sighting) -> Claim:
    """Claim an experiment for this process; `seen` is what was observed before it was planned.

    Raises ClaimError if another process works on it or has done so since, because the plan would be out of date.
    """
    path = folder / OWNER
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(folder)
        if seen.at_work or seen.text != _text(file):
            who = _name(_text(file))
            file.close()
            raise ClaimError(f"While this run was being planned, {who} was working on {folder}. Start again.")
        return Claim(file, _this_process())
    except OSError as error:
        raise ClaimError(f"{path} cannot be written: {error.strerror}") from error


def _lock(folder: Path, tries: int = 5) -> BinaryIO:
    # Others hold the lock briefly while they observe; a new owner needs a moment to write its name.
    for _ in range(tries):
        # This mode creates a missing file and does not truncate. Jobs do not inherit files that Python opens.
        file = folder.joinpath(OWNER).open("a+b")
        if _try_lock(file):
            return file
        text = _text(file)
        file.close()
        time.sleep(0.1)
    raise ClaimError(_refusal(folder, text))


def _try_lock(file: BinaryIO, *, shared: bool = False) -> bool:
    """Lock the file until it is closed; False if another process holds it, or works on it without locks."""
    try:
        return try_lock(file, shared=shared)
    except OSError:
        owner = _owner(_text(file))
        return owner is None or not _is_at_work(owner)


def _is_at_work(owner: Owner) -> bool:
    """Whether a process is at work; if it ran on another host, until it has recorded its end."""
    if owner.ended is not None:
        return False
    if owner.host != socket.gethostname():
        return True
    return owner.boot_id == boot_id() and is_alive(owner.pid, owner.start_ticks)


def _this_process() -> Owner:
    pid = os.getpid()
    return Owner(
        host=socket.gethostname(),
        pid=pid,
        user=_user(),
        boot_id=boot_id(),
        start_ticks=start_ticks(pid),
        started=stamp(now()),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have no name.
        return f"user {os.getuid()}"


def _text(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _write(file: BinaryIO, owner: Owner) -> None:
    file.truncate(0)
    file.write(json.dumps(asdict(owner), indent=2).encode() + b"\n")
    file.flush()
    # So that other hosts see it at once.
    os.fsync(file.fileno())


def _owner(text: bytes) -> Owner | None:
    try:
        return TypeAdapter(Owner).validate_json(text)
    except ValidationError:
        return None


def _name(text: bytes) -> str:
    owner = _owner(text)
    return owner.name if owner else "another process"


def _refusal(folder: Path, text: bytes) -> str:
    owner = _owner(text)
    refusal = f"{folder} is already being worked on by {_name(text)}. Wait for it to end, or stop it."
    if owner is None or owner.host == socket.gethostname():
        return refusal
    return f"{refusal} If {owner.host} is down, remove {folder / OWNER} and start again."
