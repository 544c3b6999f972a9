"""A job knows which keys of the summary decide on what it requests, for advice when that was too little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import make_small_experiment, plan_of

from run_experiment.planning.job_files import PlannedJobs

TIME, OVERRIDDEN = "compute.time of run r4 in the summary", "slurm_overrides.time of run r4 in the summary"


@pytest.fixture
def new(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def keys_of(experiment: ExperimentFolder, path: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((experiment.path / path).read_text())["keys"]
    return found


@pytest.mark.parametrize(
    ("given", "time"),
    [
        ({}, TIME),
        ({"compute": {"time": "1:00:00"}}, TIME),
        ({"compute": {"time": "1:00:00"}, "slurm_overrides": {"mem": "9G"}}, TIME),
        ({"slurm_overrides": {"time": "1:00:00"}}, OVERRIDDEN),
        ({"compute": {"time": "2:00:00"}, "slurm_overrides": {"time": "1:00:00"}}, OVERRIDDEN),
    ],
)
def test_of_a_training(new: ExperimentFolder, given: dict[str, Any], time: str) -> None:
    values = new.read()
    values["runs"][0] |= given
    new.write(values)
    assert keys_of(new, PlannedJobs(plan_of(new)).finetune("r4"))["time"] == time


def test_of_an_evaluation(new: ExperimentFolder) -> None:
    found = keys_of(new, PlannedJobs(plan_of(new)).evaluation("base", "shout_base"))
    assert found == {name: f"evaluation.compute.{name} in the summary" for name in ("time", "mem")}


def test_lines_of_the_user_s_own_decide_alone(new: ExperimentFolder) -> None:
    plan_of(new).write_scripts()
    new.edit("r4/finetune.slurm", "#SBATCH --nodes=1", "#SBATCH --nodes=1 --time=9:00:00")
    (new.path / "r8").mkdir(exist_ok=True)
    (new.path / "r8/finetune.slurm").write_text("#!/bin/bash\n#SBATCH --time=9\n")
    for run in ("r4", "r8"):
        assert keys_of(new, PlannedJobs(plan_of(new)).finetune(run)) == {}
