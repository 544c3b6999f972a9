"""A cluster beside the one that tests share, for tests that end its daemons."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLUSTER = Path(__file__).parent / "cluster"


@dataclass(frozen=True)
class OwnCluster:
    """A cluster in a folder of its own."""

    folder: Path

    def call(self, *arguments: str) -> str:
        """What a command of the cluster's script prints, which has to succeed."""
        environment = {**os.environ, "RUN_EXPERIMENT_SLURM": str(self.folder)}
        result = subprocess.run(
            [CLUSTER, *arguments], env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    @contextmanager
    def without(self, daemon: str, command: str = "stop") -> Iterator[None]:
        """A time in which a daemon does not run; after it all of the cluster does, whatever happens meanwhile."""
        self.call(command, daemon)
        try:
            yield
        finally:
            self.call("up")


@contextmanager
def own_cluster() -> Iterator[OwnCluster]:
    """Start a cluster that SLURM's clients of this process use until it is removed; sockets want a short path."""
    cluster = OwnCluster(Path(tempfile.mkdtemp(prefix="slurm-")))
    shared = os.environ.get("SLURM_CONF")
    try:
        os.environ["SLURM_CONF"] = cluster.call("up").strip().partition("=")[2]
        yield cluster
    finally:
        cluster.call("down")
        os.environ.pop("SLURM_CONF", None)
        if shared is not None:
            os.environ["SLURM_CONF"] = shared
