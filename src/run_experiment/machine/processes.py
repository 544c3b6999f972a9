"""The edge to other programs: every subprocess of the package starts here."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from run_experiment.common.secret_values import without_secrets


class Terminated(BaseException):
    """SIGTERM came; the message is the reason for the user."""

    def __init__(self) -> None:
        super().__init__("ended by SIGTERM: cancelled, preempted or out of time")


def raise_on_sigterm() -> None:
    """Make the first SIGTERM raise Terminated, so that a job can save what should be kept."""

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Hold a lock on a file while this process lives, or a child that inherits it.

    Raises BlockingIOError where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some shared file systems have no locks; that must not fail a job.
            if isinstance(error, BlockingIOError):
                raise
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


def last_lines(log: Path, most: int = 5) -> list[str]:
    """The last lines of a log that are not blank, without the environment's secrets: they get into records."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    # Before it is split: a secret may have several lines.
    text = without_secrets(text)
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-most:]


# SLURM's clients read options from these variables (inside an allocation, those of the surrounding job), and sbatch
# passes them on to the job. Defaults of the user's, such as SBATCH_ACCOUNT, stay unless they change what sbatch does.
_CLIENT_OPTIONS = ("SLURM", "SQUEUE_", "SACCT_", "SCANCEL_", "SBATCH_ARRAY_INX", "SBATCH_TEST_ONLY", "SBATCH_WAIT")
# These say which cluster to talk to, and as whom.
_CLUSTER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")


@dataclass(frozen=True)
class ClientResult:
    """Exit status and output of a SLURM client."""

    returncode: int
    output: str
    errors: str


def run_client(command: Sequence[str], timeout: float, text: str = "") -> ClientResult:
    """Run a SLURM client with `text` as its input, out of reach of the terminal's Ctrl-C.

    Raises TimeoutError where it takes longer than `timeout` seconds, once it is killed with all that it started,
    and OSError where it cannot be started. A text cannot hold lone surrogates.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_client_environment(os.environ),
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(text.encode(errors="surrogateescape"), timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            _kill_session(process)
    return ClientResult(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


def _client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables that change what clients do; their output is then English, with ISO times."""
    return {
        name: value for name, value in environment.items() if name in _CLUSTER or not name.startswith(_CLIENT_OPTIONS)
    }


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group; do not wait for one that is stuck in a system call."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    for pipe in (process.stdin, process.stdout, process.stderr):
        # Closing a pipe flushes it, which fails if the process is gone.
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
