"""The edge to other programs: every subprocess of the package starts here."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def locked_log(log: Path) -> Iterator[BinaryIO]:
    """An empty log to append to, locked as long as this process or one that writes to it lives.

    Raises BlockingIOError where another process holds it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some shared file systems know no locks: a job must not fail for that.
            if isinstance(error, BlockingIOError):
                raise
        output.truncate(0)
        yield output


def run_script(script: Path, output: BinaryIO, environment: Mapping[str, str]) -> int:
    """Run a job script with bash, its output going to a log; returns its exit status.

    `python` and the tools beside it are those of this environment, unless the script activates another.
    """
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    # INSPECT_EVAL_LIMIT and its like would change every evaluation behind the summary's back.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INSPECT_EVAL_")}
    return subprocess.run(
        ["bash", str(script)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**inherited, "PATH": path, **environment},
        check=False,
    ).returncode


def query(command: list[str], timeout: float, hurry: threading.Event) -> str | None:
    """Output of a short command; None if it fails, or is not done in `timeout` seconds or when `hurry` is set."""
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
    # With all that it started, which may hold its output open; a process in a driver's call cannot be ended.
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.1)
    return None


def last_lines(log: Path, most: int = 5) -> list[str]:
    """The last lines of a log that are not blank."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-most:]
