"""What another tool's folder is known by, and how its scripts are meant to be run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of, train, write_adapter

from run_experiment.common import paths
from run_experiment.common.json_files import config_hash, write_record
from run_experiment.jobscripts.foreign import cell_files, is_scaffolded, working_directory
from run_experiment.planning.job_files import PlannedJobs

RUN = paths.finetune_record("r4")
CELL = "r4/eval/shout_epoch1/cell.slurm"


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def write(experiment: ExperimentFolder, path: str, text: str) -> None:
    file = experiment.path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def job(experiment: ExperimentFolder, run: str, cell: str | None = None) -> dict[str, Any]:
    jobs = PlannedJobs(plan_of(experiment))
    return dict(
        json.loads((experiment.path / (jobs.evaluation(run, cell) if cell else jobs.finetune(run))).read_text())
    )


def test_folder_of_our_own_is_not_scaffolded(experiment: ExperimentFolder) -> None:
    assert not is_scaffolded(experiment.path)
    plan_of(experiment).write_scripts()
    assert (experiment.path / "r4/finetune.slurm").is_file()
    assert not is_scaffolded(experiment.path)
    experiment.edit("r4/finetune.slurm", "set -euo pipefail", "set -euo pipefail\necho mine")
    assert not is_scaffolded(experiment.path)


@pytest.mark.parametrize("path", ["r4/finetune.slurm", "r4/eval/shout_epoch0.slurm", CELL])
def test_one_script_of_another_tool_is_enough(experiment: ExperimentFolder, path: str) -> None:
    plan_of(experiment).write_scripts()
    write(experiment, path, "#!/bin/bash\necho theirs\n")
    assert is_scaffolded(experiment.path)


def test_cell_folder_is_used_where_it_is_the_only_script(experiment: ExperimentFolder) -> None:
    write(experiment, CELL, "#!/bin/bash\ninspect eval shout.py\n")
    write(experiment, "r4/eval/shout_epoch1/eval.yaml", "prompt: x\n")
    config = "r4/eval/shout_epoch1/eval.yaml"
    told = job(experiment, "r4", "shout_epoch1")
    assert (told["script"], set(told["files"])) == (CELL, {CELL, config})
    plan_of(experiment).write_scripts()
    assert sorted(path.name for path in (experiment.path / "r4/eval").glob("*epoch1*")) == ["shout_epoch1"]
    assert (experiment.path / "r4/eval/shout_epoch0.slurm").is_file()
    planned = plan_of(experiment)["r4/eval/shout_epoch1.json"].config
    assert {"cell.slurm", "eval.yaml"} <= planned.keys()
    write(experiment, config, "prompt: y\n")
    assert plan_of(experiment)["r4/eval/shout_epoch1.json"].config != planned
    write(experiment, paths.eval_script("r4", "shout_epoch1"), "#!/bin/bash\necho theirs\n")
    assert job(experiment, "r4", "shout_epoch1")["script"] == paths.eval_script("r4", "shout_epoch1")


@pytest.mark.parametrize("name", ["shout_base", "shout"])
def test_base_may_be_left_out_of_a_cell_folder_s_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "base/eval" / name).mkdir(parents=True)
    (tmp_path / "base/eval" / name / "cell.slurm").touch()
    assert cell_files(tmp_path, "base", "shout", None) == [f"base/eval/{name}/cell.slurm"]
    assert cell_files(tmp_path, "base", "shout", 0) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tune run lora --config finetune.yaml", "r4"),
        ("tune run lora --config ./finetune.yaml", "r4"),
        ("python train.py r4", "."),
        ("python train.py --config finetune.yaml", "."),
        ("tune run lora --config r4/finetune.yaml", "."),
        ("# see finetune.yaml\ntune run lora --config /x/finetune.yaml", "."),
    ],
)
def test_script_runs_where_the_files_lie_that_it_names(tmp_path: Path, text: str, expected: str) -> None:
    for path in ("r4/finetune.yaml", "train.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "r4/finetune.slurm").write_text(f"#!/bin/bash\n{text}\n")
    assert working_directory(tmp_path, "r4/finetune.slurm") == expected


def test_checkpoints_are_read_where_the_training_says(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["output"] = {"base_directory": "scratch"}
    experiment.write(values)
    write(experiment, "r4/finetune.slurm", "#!/bin/bash\npython train.py\n")
    elsewhere = ["r4/artifacts/epoch_0", "r4/artifacts/epoch_1"]
    told = job(experiment, "r4")
    assert told["checkpoints"] == [f"scratch/{path}" for path in elsewhere]
    assert told["elsewhere"] == elsewhere
    assert job(experiment, "r8")["elsewhere"] == []
    train(experiment, "r4", seed=1, checkpoints=elsewhere)
    for epoch, path in enumerate(elsewhere):
        write_adapter(experiment.path / path, seed=5 + epoch)
    verification = PlannedJobs(plan_of(experiment)).verification("r4", "epoch_1")
    assert verification["checkpoint"] == elsewhere[1]
    models = job(experiment, "r4", "shout_epoch1")["models"]
    assert models == [elsewhere[1], "r4/checkpoints/epoch_1"]


def test_evaluation_is_told_its_checkpoint_once_that_is_verified(experiment: ExperimentFolder) -> None:
    assert "checkpoint" not in dict(job(experiment, "r4", "shout_epoch1")["config"])
    complete(experiment)
    record = experiment.record("r4/eval/shout_epoch1.json")
    told = job(experiment, "r4", "shout_epoch1")
    assert told["config"] == record["config"]
    assert told["config_hash"] == config_hash(record["config"])
    assert (told["target"], told["name"]) == ("r4/eval/shout_epoch1.json", "tiny.r4.shout.e1")
    # Trained anew: the manifest is of the earlier training.
    write_record(experiment.path / RUN, {**experiment.record(RUN), "job_id": "local-99"})
    assert "checkpoint" not in dict(job(experiment, "r4", "shout_epoch1")["config"])


def test_evaluation_of_a_training_that_is_made_again_is_not_told_the_old_checkpoint(
    experiment: ExperimentFolder,
) -> None:
    complete(experiment)
    experiment.set_parameters("r4", lora_rank=2)
    assert "checkpoint" not in dict(job(experiment, "r4", "shout_epoch1")["config"])


def test_job_file_is_read_back(experiment: ExperimentFolder) -> None:
    from run_experiment.jobs.specs import FinetuneJob

    path = experiment.path / PlannedJobs(plan_of(experiment)).finetune("r4")
    read = FinetuneJob.read(str(path))
    assert {**asdict(read), "config_hash": read.config_hash} == json.loads(path.read_text())
