"""Processes of this machine: signals to them, locks against them, short queries, the ends of their logs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from run_experiment.common.files import try_lock
from run_experiment.common.secret_values import without_secrets


class Terminated(BaseException):
    """This process received SIGTERM; the message is the reason for the user."""

    def __init__(self) -> None:
        super().__init__("ended by SIGTERM: cancelled, preempted or out of time")


def raise_on_sigterm() -> None:
    """Make the first SIGTERM raise Terminated, so that a job can save what should be kept."""

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def interrupt_at_hangup() -> None:
    """Make SIGHUP, of a terminal that is closed, raise KeyboardInterrupt, unless it is ignored (`nohup`)."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Hold a lock on a file; a child process that inherits the file keeps it locked.

    Raises BlockingIOError if another process holds it. Without locks in the file system nothing is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        try:
            held = not try_lock(lock)
        except OSError:
            # A file system without locks must not fail a job.
            held = False
        if held:
            raise BlockingIOError(f"{path} is locked")
        yield lock


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group (0 only checks); returns False if the group is gone."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def query(command: list[str], timeout: float, hurry: threading.Event) -> str | None:
    """Output of a short command; None if it fails, takes more than `timeout` seconds, or `hurry` is set first."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError:
        return None
    end = time.monotonic() + timeout
    while time.monotonic() < end and not hurry.is_set():
        with suppress(subprocess.TimeoutExpired):
            output, _ = process.communicate(timeout=0.1)
            return output if process.returncode == 0 else None
    # Kill its children too, which may hold its output open. A process inside a driver call cannot be killed.
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.1)
    return None


def tail(log: Path, size: int = 16_384) -> str:
    """The end of a log, at most `size` bytes; empty if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def last_lines(log: Path, most: int = 5) -> list[str]:
    """The last lines of a log that are not blank, without the environment's secrets: they get into records."""
    # Before the text is split: a secret may have several lines.
    text = without_secrets(tail(log))
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-most:]
