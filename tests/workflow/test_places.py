"""Experiments whose path holds what Snakemake or inspect-ai reads as something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from experiments import make_experiment
from scaffolded import make_scaffolded
from snakemake_cli import SOURCE, planned, snakemake


def test_a_comma_matters_for_what_is_rendered_here_alone(tmp_path: Path) -> None:
    """inspect-ai takes it for a list; another tool's scripts name no such path."""
    result = snakemake(make_experiment(tmp_path / "a,b/experiment").path, "-n")
    assert result.returncode == 2
    assert "Traceback" not in result.stdout
    assert "inspect-ai takes a path with a comma for a list; rename the folder" in result.stdout
    jobs = planned(make_scaffolded(tmp_path / "c,d/experiment").path)
    assert (jobs["run_finetune"], jobs["run_evaluation"]) == (2, 3)


@pytest.mark.parametrize("place", ["lr{run}={x}", "it's a #1 [b]*?: c"])
def test_odd_paths_are_planned_like_others(tmp_path: Path, place: str) -> None:
    folder = make_scaffolded(tmp_path / place / "experiment").path
    result = snakemake(Path(f" {json.dumps(str(folder))} "), "-n")
    assert result.returncode == 0, result.stdout
    assert "run_finetune" in result.stdout


@pytest.mark.parametrize("name", ["results", ".snakemake"])
def test_a_place_that_cannot_be_written_is_refused_before_anything(tmp_path: Path, name: str) -> None:
    folder = make_scaffolded(tmp_path / "experiment").path
    if (folder / name).is_dir():
        (folder / name).rename(folder / f"{name}.before")
    (folder / name).write_text("mine")
    result = snakemake(folder, "-n")
    assert (result.returncode, "Traceback" in result.stdout) == (2, False), result.stdout
    assert f"{folder}/{name}: has to be a folder: rename or remove what is there" in result.stdout


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"HOME": "/proc/nohome", "XDG_CACHE_HOME": ""}, "set XDG_CACHE_HOME to one that can be written"),
        ({"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, "set LC_ALL=C.UTF-8"),
    ],
)
def test_what_is_missing_to_start_at_all_is_said(tmp_path: Path, variables: dict[str, str], advice: str) -> None:
    folder = make_scaffolded(tmp_path / "ü").path
    command = [sys.executable, "-m", "snakemake", "-n", "--profile", "profiles/local"]
    result = subprocess.run(
        [*command, "--config", f"experiment_dir={folder}"],
        cwd=SOURCE,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
    assert advice in result.stderr


def test_a_task_that_ends_python_fails_as_any_other(tmp_path: Path) -> None:
    experiment = make_scaffolded(tmp_path / "experiment")
    task = experiment.path / "shout.py"
    task.write_text(f"{task.read_text()}\nraise SystemExit(0)\n")
    result = snakemake(experiment.path, "--config", "only=base/*/*")
    assert result.returncode == 1
    assert "Task shout failed to load its data: SystemExit" in result.stdout
    assert "base/shout/base: its data set shout is not cached: SystemExit" in result.stdout


def test_a_path_that_has_to_be_quoted_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = make_scaffolded(tmp_path / "my exp #1/experiment").path
    result = snakemake(folder, "-n")
    assert result.returncode == 2
    assert f"Snakemake reads it as '{tmp_path}/my exp': quote it, as in --config 'experiment_dir= " in result.stdout
    assert "Traceback" not in result.stdout
