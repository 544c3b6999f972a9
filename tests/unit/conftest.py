"""A complete small experiment, to change and plan again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a complete experiment and what lies beside it, and a copy of that folder."""
    folder = tmp_path_factory.mktemp("small") / "place"
    complete(make_small_experiment(folder / "experiment"))
    return folder, Path(shutil.copytree(folder, folder.with_name("copy"), symlinks=True))


@pytest.fixture
def done(template: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> ExperimentFolder:
    """A complete experiment, always in the same place since records name paths; the working directory is its folder."""
    folder, copy = template
    shutil.rmtree(folder)
    shutil.copytree(copy, folder, symlinks=True)
    monkeypatch.chdir(folder / "experiment")
    return ExperimentFolder(folder / "experiment")
