"""Runs SLURM's clients (`sbatch`, `sacct`, `squeue`, `scancel`) as subprocesses."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

# SLURM's clients read options from these variables (inside an allocation, those of the surrounding job), and sbatch
# passes them on to the job. User defaults such as SBATCH_ACCOUNT stay, unless they change what sbatch does or where a
# job's messages go.
_CLIENT_OPTIONS = (
    *("SLURM", "SQUEUE_", "SACCT_", "SCANCEL_"),
    *("SBATCH_ARRAY_INX", "SBATCH_CONTAINER", "SBATCH_ERROR", "SBATCH_INPUT", "SBATCH_TEST_ONLY", "SBATCH_WAIT"),
)
# These select the cluster and the user.
_CLUSTER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")


@dataclass(frozen=True)
class ClientResult:
    """Exit status and output of a SLURM client."""

    returncode: int
    output: str
    errors: str


def run_client(command: Sequence[str], timeout: float, text: str = "") -> ClientResult:
    """Run a SLURM client with `text` as its input, in a session of its own so that Ctrl-C does not reach it.

    Raises TimeoutError if it takes longer than `timeout` seconds (it is then killed with its children), and OSError if
    it cannot be started. `text` must not contain lone surrogates.
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


def cluster_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that select the cluster and the user."""
    return {name: environment[name] for name in _CLUSTER if name in environment}


def _client_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables that change what clients do or print; ids of arrays are not cut off."""
    kept = {
        name: value for name, value in environment.items() if name in _CLUSTER or not name.startswith(_CLIENT_OPTIONS)
    }
    return {**kept, "SLURM_BITSTR_LEN": "0"}


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
