"""An experiment that is complete, to change and plan again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from once import once
from scaffolded import make_scaffolded
from snakemake_cli import snakemake


@pytest.fixture(scope="session")
def complete() -> ExperimentFolder:
    """An experiment of quick job scripts, run to its end; tests change copies of it."""
    return ExperimentFolder(once("complete", run_to_its_end) / "experiment")


def run_to_its_end(folder: Path) -> None:
    result = snakemake(make_scaffolded(folder / "experiment").path)
    assert result.returncode == 0, result.stdout


@pytest.fixture
def experiment(complete: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """A copy of the complete experiment, in another place."""
    return copy(complete, tmp_path / "experiment")


def copy(experiment: ExperimentFolder, folder: Path) -> ExperimentFolder:
    """A copy of an experiment with all file times kept."""
    shutil.copytree(experiment.path, folder, symlinks=True)
    return ExperimentFolder(folder)


Change = Callable[[ExperimentFolder], None]
