"""What all tests share: this environment's tools first on PATH, and no network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from once import begin_test_run

os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests run side by side: torch's threads would only get in each other's way.
os.environ["OMP_NUM_THREADS"] = "1"
# What programs keep for their user, as how long jobs took, is of this test run alone.
os.environ["XDG_DATA_HOME"] = str(begin_test_run() / "data")


# Modules of the longest tests. They start first, so that none of them runs alone at the end.
LONGEST = (
    "test_soak.py",
    "test_resumption.py",
    "test_continuing.py",
    "test_end_to_end.py",
    "test_scaffolded.py",
    "test_executor.py",
    "test_faults.py",
    "test_limits.py",
    "test_early.py",
    "test_metrics.py",
    "test_evaluation.py",
    "test_page_of_experiments.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests of a run."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
