"""An experiment that is complete, to change and plan again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from scaffolded import make_scaffolded
from snakemake_cli import snakemake


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An experiment of quick job scripts, run to its end; tests change copies of it."""
    experiment = make_scaffolded(tmp_path_factory.mktemp("complete") / "experiment")
    result = snakemake(experiment.path)
    assert result.returncode == 0, result.stdout
    return experiment


@pytest.fixture
def experiment(complete: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """A copy of the complete experiment, in another place."""
    return copy(complete, tmp_path / "experiment")


def copy(experiment: ExperimentFolder, folder: Path) -> ExperimentFolder:
    """A copy of an experiment with all file times kept."""
    shutil.copytree(experiment.path, folder, symlinks=True)
    return ExperimentFolder(folder)


Change = Callable[[ExperimentFolder], None]
