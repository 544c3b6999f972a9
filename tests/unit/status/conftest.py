"""An experiment without a result, its status as JSON, and SLURM's clients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import make_small_experiment

from run_experiment.cli import main


@pytest.fixture(autouse=True)
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without SLURM's clients; shims are put here. Measurements of other tests are not seen."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "sleep"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def new(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "place" / "experiment")


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """What the command says as JSON, with the exit status that it should have."""

    def ask(experiment: ExperimentFolder, *arguments: str, exit_status: int = 0) -> dict[str, Any]:
        assert main(["status", str(experiment.path), "--json", *arguments]) == exit_status
        return json.loads(capsys.readouterr().out)

    return ask
