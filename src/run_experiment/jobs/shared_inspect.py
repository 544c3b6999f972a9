"""One process for the `inspect` calls of several evaluations in a job, and one vLLM server if they use vLLM."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from run_experiment.evaluation import shared_client
from run_experiment.evaluation.vllm.ranks import SERVER


@dataclass(frozen=True)
class SharedInspect:
    """Where the process is found, and the folder of the program `inspect` that hands calls to it."""

    place: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def programs(self) -> Path:
        """A folder to put first in a script's PATH."""
        return self.place / "programs"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which the program finds the process, and others for the job's evaluations."""
        return {shared_client.PLACE: str(self.place), **self.variables}


@contextmanager
def shared_inspect(variables: Mapping[str, str]) -> Iterator[SharedInspect]:
    """While this lasts, and this process lives, the first call starts the process and the others find it."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="run-experiment-") as name, socket.socket(socket.AF_UNIX) as job:
        shared = SharedInspect(Path(name), variables)
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
        try:
            yield shared
        finally:
            _end_server(shared.place)


def _end_server(place: Path) -> None:
    """End the vLLM server of the evaluations, if they used one."""
    if (place / SERVER).exists():
        # Here, since a job starts faster without httpx.
        from run_experiment.evaluation.vllm.shared import end_server

        end_server(place)
