"""The test cluster that tests share; it must be there: without it they fail."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parent / "cluster"


@pytest.fixture(scope="session", autouse=True)
def shared_cluster() -> None:
    """Bring the cluster up, and let SLURM's clients use it."""
    up = subprocess.run([CLUSTER, "up"], capture_output=True, text=True, timeout=600, check=False)
    assert up.returncode == 0, up.stderr
    os.environ["SLURM_CONF"] = up.stdout.strip().partition("=")[2]
