"""One process for the `inspect` calls of several evaluations in a job."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from run_experiment.evaluation import shared_client


@dataclass(frozen=True)
class SharedInspect:
    """Where the process is found, and the folder of the program `inspect` that hands calls to it."""

    place: Path

    @property
    def programs(self) -> Path:
        """A folder to put first in a script's PATH."""
        return self.place / "programs"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which the program finds the process."""
        return {shared_client.PLACE: str(self.place)}


@contextmanager
def shared_inspect() -> Iterator[SharedInspect]:
    """While this lasts, and this process lives, the first call starts the process and the others find it."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="run-experiment-") as name, socket.socket(socket.AF_UNIX) as job:
        shared = SharedInspect(Path(name))
        shared.programs.mkdir()
        program = shared.programs / "inspect"
        call = shlex.join([sys.executable, "-S", "-E", shared_client.__file__])
        program.write_text(f'#!/bin/sh\nexec {call} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        # From there: the path of a socket may have only some 100 bytes.
        os.chdir(name)
        job.bind("job")
        os.chdir(here)
        # Nobody is accepted: the process only sees when this one is gone.
        job.listen()
        yield shared
