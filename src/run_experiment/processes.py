"""The edge to other programs: every subprocess of the package starts here."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def locked_log(log: Path) -> Iterator[BinaryIO]:
    """An empty log to append to, locked as long as this process or one that writes to it lives.

    Raises BlockingIOError where another process holds it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def last_lines(log: Path, most: int = 5) -> list[str]:
    """The last lines of a log that are not blank."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-most:]
