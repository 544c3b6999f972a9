"""What all tests share: this environment's tools first on PATH, and no network."""

from __future__ import annotations

import gc
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

# They need a GPU: `make test-gpu` has them collected.
collect_ignore = [] if os.environ.get("RUN_EXPERIMENT_TEST_GPU") else ["gpu"]

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
    "test_nodes.py",
    "test_processes.py",
    "test_early.py",
    "test_metrics.py",
    "test_evaluation.py",
    "test_page_of_experiments.py",
)


# A module with this line needs torchtune to be imported.
OF_TORCHTUNE = "\npytestmark = pytest.mark.torchtune\n"


def leaves_out_torchtune(config: pytest.Config) -> bool:
    """Whether tests that need torchtune are deselected."""
    return "not torchtune" in str(config.option.markexpr)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules that cannot be imported without torchtune if their tests are deselected."""
    if collection_path.suffix != ".py" or not leaves_out_torchtune(config):
        return None
    return OF_TORCHTUNE in collection_path.read_text(encoding="utf-8") or None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """How many tests are left out since they need torchtune."""
    if not leaves_out_torchtune(config):
        return []
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")]
    whole = [text for text in texts if OF_TORCHTUNE in text]
    single = sum(text.count("@pytest.mark.torchtune\n") for text in texts)
    count = single + sum(text.count("\ndef test_") for text in whole)
    return [f"{count} test functions need torchtune and are left out, {single} of them in modules of others"]


# Modules and tests live until the end: looking for garbage among them takes longer than many a test.
gc.disable()


def pytest_collection_finish() -> None:
    """Leave what is there by now out of all later searches for garbage."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests of a run."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
