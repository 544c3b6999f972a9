"""A training that two nodes share: a process that is killed on one of them costs one attempt."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from cluster_runs import AT_ONCE, Run, settled, until
from experiments import ExperimentFolder, make_experiment

from run_experiment.actionlog.reader import read_action_logs

METRICS = "r4/artifacts/metrics.csv"


def test_a_process_killed_on_one_node_is_one_failure_and_the_training_goes_on(tmp_path: Path) -> None:
    experiment = on_two_nodes(tmp_path / "experiment")
    command = Run(experiment.path, "r4/finetune.json", *AT_ONCE, config=["retries=1"])
    # In the second epoch, whose steps are lost.
    until(lambda: len(rows(experiment.path / METRICS)) > 8)
    (killed,) = ranks(experiment, 1)
    os.kill(killed, signal.SIGKILL)

    assert command.wait(300) == 0, command.output
    (job,) = settled(experiment.path, 1)
    assert job.state == "COMPLETED", "in the allocation that it had"
    told = read_action_logs(experiment.path)
    (resumed,) = told[told["action"] == "RESUME_TRAINING"].to_dict("records")
    assert "1 of 2 epochs" in resumed["result"]
    (attempt,) = experiment.record("r4/finetune.json")["attempts"]
    assert attempt["failure"] == "interrupted"
    error = experiment.record(f"r4/attempts/{attempt['job_id']}/attempt.json")["error"]
    assert "rank 1 on " in error
    assert "was ended by SIGKILL" in error
    alone(experiment)
    for ours, theirs in zip(rows(experiment.path / METRICS), rows(experiment.path / "alone/metrics.csv"), strict=True):
        assert ours["step"] == theirs["step"]
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-5)


def on_two_nodes(folder: Path) -> ExperimentFolder:
    """Trainings on CPUs, of two epochs of 8 steps."""
    experiment = make_experiment(folder)
    experiment.write_data({**experiment.data(), "train": 2 * experiment.data()["train"]})
    values = experiment.read()
    values["controls"] |= {"device": "cpu"}
    values["runs"][0]["compute"] = {"nodes": 2, "cpus_per_task": 1}
    experiment.write(values | {"tools": {"preparation": "trl"}})
    return experiment


def alone(experiment: ExperimentFolder) -> None:
    """Train the same in this process."""
    from run_experiment.trainers.trl_recipe import finetune
    from run_experiment.trainers.trl_training import Interrupts

    config = yaml.safe_load((experiment.path / "r4/finetune.yaml").read_text())
    with contextlib.chdir(experiment.path):
        finetune({**config, "output_dir": "alone"}, Interrupts())


def ranks(experiment: ExperimentFolder, rank: int) -> list[int]:
    """Processes of the training with a rank."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").resolve() == experiment.path:
                environment = (process / "environ").read_bytes().split(b"\0")
                found += [int(process.name)] * (f"RANK={rank}".encode() in environment)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with suppress(FileNotFoundError), path.open(newline="") as file:
        return list(csv.DictReader(file))
    return []
