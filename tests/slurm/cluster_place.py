"""Where the test cluster lies, and how commands run there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(os.environ.get("RUN_EXPERIMENT_SLURM", "/tmp/run-experiment-slurm")).absolute()
CONF = ROOT / "etc/slurm.conf"
MARKER = ROOT / ".run-experiment-slurm"
# What the clusters of this machine share: a lock while one is made, and which ports are whose.
LOCK = Path(tempfile.gettempdir(), "run-experiment-slurm.lock")
PORTS = Path(tempfile.gettempdir(), "run-experiment-slurm.ports")
MUNGE_SOCKET = ROOT / "munge/socket"
DATABASE_SOCKET = ROOT / "database/socket"

NODES = ("n1", "n2")

# Nothing of the caller's environment, which may hold secrets, gets into a daemon.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "SLURM_CONF": str(CONF), "MYSQL_UNIX_PORT": str(DATABASE_SOCKET)}


class ClusterError(Exception):
    """Says what failed, and what the daemon's log says."""


def run(*command: str, timeout: float = 10) -> subprocess.CompletedProcess[str]:
    """Run a command; stdout and stderr are one text. A command that hangs is one that failed."""
    try:
        return subprocess.run(
            command,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, f"{command[0]} hangs")


def demand(*command: str, timeout: float = 60) -> str:
    """What a command prints, which has to succeed."""
    result = run(*command, timeout=timeout)
    if result.returncode != 0:
        raise ClusterError(f"{' '.join(command)} failed:\n{result.stdout.strip()[-2000:]}")
    return result.stdout


def cluster_name() -> str:
    """The name of the cluster in its configuration."""
    found = re.search(r"^ClusterName=(\S+)", CONF.read_text(), re.MULTILINE) if CONF.exists() else None
    return found[1] if found else ""


def say(text: str) -> None:
    """Tell of progress, apart from what a caller evaluates."""
    print(text, file=sys.stderr, flush=True)
