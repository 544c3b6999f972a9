"""Processes of this machine: signals to them, locks against them, short queries, the ends of their logs."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from run_experiment.common.files import try_lock
from run_experiment.common.secret_values import without_secrets

_PR_SET_PDEATHSIG = 1
# Bytes of a log's end, and of a long line.
_TAIL, _LINE = 16_384, 200
# Colours and the like.
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Of wandb, which ends after the script that it logs, and of the shell's and the program `time`.
_AFTERWARDS = re.compile(r"\s*(wandb:.*|(real|user|sys)\s+[\d.]+(m[\d.]+s)?)")
# A state of tqdm's bar: `loss 0.4: 37%|███▋      | 3/8 [00:00<00:01,  4.65it/s]`.
_BAR = re.compile(r"\d+%\|.*\| *\S+/\S+ \[")


class Terminated(BaseException):
    """This process received SIGTERM; the message is the reason for the user."""

    def __init__(self) -> None:
        super().__init__("ended by SIGTERM: cancelled, preempted or out of time")


class _Ending:
    """The first signal that ends this process raises its exception; those after it must not cut off the cleanup.

    They do come: a closed terminal sends SIGHUP twice, by the shell and by the kernel.
    """

    def __init__(self) -> None:
        self.is_deferred = False
        self._pending: BaseException | None = None
        self._signals: set[int] = set()

    def raise_at(self, number: signal.Signals, error: type[BaseException]) -> None:
        """From now on, have a signal raise an exception."""

        def end(*_: object) -> None:
            # Not SIG_IGN, which child processes would inherit.
            for each in self._signals:
                signal.signal(each, lambda *_: None)
            if not self.is_deferred:
                raise error
            self._pending = error()

        self._signals.add(number)
        signal.signal(number, end)

    def resume(self) -> None:
        """Defer no more; raise what came meanwhile."""
        self.is_deferred = False
        error, self._pending = self._pending, None
        if error:
            raise error


_ending = _Ending()


def raise_on_sigterm() -> None:
    """Make the first SIGTERM raise Terminated, so that a job can save what should be kept."""
    _ending.raise_at(signal.SIGTERM, Terminated)


def interrupt_once() -> None:
    """Make the first Ctrl-C, or SIGHUP of a closed terminal, raise KeyboardInterrupt, unless ignored (`nohup`).

    On a cluster a job's script gets SIGHUP.
    """
    for number in (signal.SIGINT,) if "SLURM_JOB_ID" in os.environ else (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            _ending.raise_at(number, KeyboardInterrupt)


@contextmanager
def ending_deferred() -> Iterator[Callable[[], None]]:
    """Until the function that it yields is called, a signal that ends this process is only noted; that raises it.

    Without it, a process that is just being started would survive this one.
    """
    _ending.is_deferred = True
    try:
        yield _ending.resume
    finally:
        _ending.is_deferred = False


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process, once it has ended; signals are heeded meanwhile.

    In `process.wait()` one that comes just before the system call, or to another thread, is heeded after it only.
    """
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=3600)


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this process a signal once its parent is gone, even by SIGKILL; Linux alone can."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


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


def tail(log: Path, size: int = _TAIL) -> str:
    """The end of a log, at most `size` bytes; empty if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def last_lines(log: Path, most: int = 5) -> list[str]:
    """The last lines of a log that are not blank, without the environment's secrets: they get into records.

    What programs say of themselves after an error, escape sequences of terminals, and all states of a progress bar but
    its last are left out.
    """
    # Before the text is split: a secret may have several lines.
    text = without_secrets(_ESCAPE.sub("", tail(log, max(_TAIL, most * _LINE))))
    lines = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    ends = (at for at in range(len(lines), 0, -1) if not _AFTERWARDS.fullmatch(lines[at - 1]))
    kept = lines[: next(ends, len(lines))]
    passed = {at for at, pair in enumerate(pairwise(kept)) if all(map(_BAR.search, pair))}
    return [line for at, line in enumerate(kept) if at not in passed][-most:]
