"""Experiments whose path holds what Snakemake or inspect-ai reads as something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiments import make_experiment
from scaffolded import make_scaffolded
from snakemake_cli import planned, snakemake


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


def test_a_path_that_has_to_be_quoted_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = make_scaffolded(tmp_path / "my exp #1/experiment").path
    result = snakemake(folder, "-n")
    assert result.returncode == 2
    assert f"Snakemake reads it as '{tmp_path}/my exp': quote it, as in --config 'experiment_dir= " in result.stdout
    assert "Traceback" not in result.stdout
