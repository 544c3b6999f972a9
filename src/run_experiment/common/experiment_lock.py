"""One main process at a time works on an experiment: for its life it holds a lock on a file that names it.

The lock goes with the process, so nothing has to be unlocked after a kill or a crash. Where the file system knows no
locks, the process named in the file decides.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from run_experiment.common import paths

OWNER = f"{paths.MEMORY}/owner.json"


class ClaimError(Exception):
    """The experiment is not to be worked on now: says why, and what to do."""


@dataclass(frozen=True)
class Owner:
    """A process that works or worked on an experiment."""

    host: str
    pid: int
    user: str
    # Tells a process from a later one with its number: which boot, and when in it (clock ticks; None if unknown).
    boot_id: str
    start_ticks: int | None
    started: str
    # Not noted by a process that was killed.
    ended: str | None = None

    @property
    def name(self) -> str:
        """Who it is, for messages."""
        return f"process {self.pid} on {self.host} (user {self.user}, since {self.started})"


@dataclass(frozen=True)
class Sighting:
    """What was seen of an experiment's owner: the file's bytes (empty for none), and whether it was at work."""

    text: bytes
    at_work: bool


class Claim:
    """This process works on the experiment, until `release` or its end."""

    def __init__(self, file: BinaryIO, owner: Owner) -> None:
        self._file = file
        self._owner = owner
        _write(file, owner)

    def release(self) -> None:
        """Note the end and let others work on the experiment; a full disk prevents only the note."""
        with suppress(OSError):
            _write(self._file, replace(self._owner, ended=_now()))
        self._file.close()


def observe(folder: Path) -> Sighting:
    """See who works on an experiment, before its plan is made."""
    try:
        with folder.joinpath(OWNER).open("rb") as file:
            # In this order: who comes between the two is seen at work.
            return Sighting(_text(file), _is_held(file, fcntl.LOCK_SH))
    except (FileNotFoundError, PermissionError):
        return Sighting(b"", at_work=False)


def claim(folder: Path, seen: Sighting) -> Claim:
    """Claim an experiment for this process; `seen` is what was observed before its plan was made.

    Raises ClaimError where another process works on it, or did since then: the plan does not know what that one made.
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
    # Others hold it for a moment, to observe; a new owner needs a moment to write its name.
    for _ in range(tries):
        # The mode creates it where it is missing and leaves what it says. Jobs inherit no file that Python opens.
        file = folder.joinpath(OWNER).open("a+b")
        if not _is_held(file, fcntl.LOCK_EX):
            return file
        text = _text(file)
        file.close()
        time.sleep(0.1)
    raise ClaimError(_refusal(folder, text))


def _is_held(file: BinaryIO, mode: int) -> bool:
    """Whether another process holds the file; else it is locked here, until it is closed."""
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        owner = _owner(_text(file))
        return owner is not None and _is_at_work(owner)
    return False


def _is_at_work(owner: Owner) -> bool:
    """Whether a process is at work, by its own word where it runs on another host."""
    if owner.ended is not None:
        return False
    if owner.host != socket.gethostname():
        return True
    return owner.boot_id == _boot_id() and _is_alive(owner.pid, owner.start_ticks)


def _is_alive(pid: int, start_ticks: int | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It is another user's.
        pass
    state, ticks = _process(pid)
    return state != "Z" and (ticks is None or start_ticks is None or ticks == start_ticks)


def _process(pid: int) -> tuple[str, int | None]:
    """State and start (clock ticks since boot) of a process; unknown where the system does not tell."""
    try:
        # The program's name, in brackets, may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", None
    return fields[0], int(fields[19])


def _this_process() -> Owner:
    pid = os.getpid()
    return Owner(
        host=socket.gethostname(),
        pid=pid,
        user=_user(),
        boot_id=_boot_id(),
        start_ticks=_process(pid)[1],
        started=_now(),
    )


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container the user may have no name.
        return f"user {os.getuid()}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _text(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _write(file: BinaryIO, owner: Owner) -> None:
    file.truncate(0)
    file.write(json.dumps(asdict(owner), indent=2).encode() + b"\n")
    file.flush()
    # Other hosts see it at once.
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
