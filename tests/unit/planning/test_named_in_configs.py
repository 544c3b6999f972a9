"""Configs of other tools may name other data than the summary: that counts as the summary's does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of

R4, CELL = "r4/finetune.json", "r4/eval/shout_epoch1"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data file that only the configs name."""
    path = tmp_path / "their data" / "words_train_1a2b3c4d.json"
    path.parent.mkdir()
    path.write_text('{"train": []}')
    return path


@pytest.fixture
def experiment(tmp_path: Path, data: Path) -> ExperimentFolder:
    """One whose training and one of whose evaluations another tool scaffolded."""
    made = make_small_experiment(tmp_path / "experiment")
    model = plan_of(made).experiment.run_by_name["r4"].model.path
    trained = {
        "input_dir": str(data.parent),
        "label": data.stem,
        "models": str(model.parent),
        "checkpointer": {
            "checkpoint_dir": "${models}/" + model.name,
            "files": ["${models}/" + f"{model.name}/config.json"],
        },
        "dataset": {"data_files": "${input_dir}/${label}.json", "split": "train", "prompt": "{input}"},
    }
    asked = {"prompt": "{input}", "data_path": str(data), "model_path": str(made.path / "r4/artifacts/epoch_1")}
    for path, script, config in (("r4", "finetune.slurm", trained), (CELL, "cell.slurm", asked)):
        place = made.path / path
        place.mkdir(parents=True, exist_ok=True)
        (place / script).write_text("#!/bin/bash\ntrue\n")
        name = "finetune.yaml" if config is trained else "eval.yaml"
        (place / name).write_text(yaml.safe_dump(config))
    complete(made)
    assert not any(plan_of(made)[path].wanted for path in (R4, f"{CELL}.json"))
    return made


def test_its_content_counts(experiment: ExperimentFolder, data: Path) -> None:
    data.write_text('{"train": [{"input": "a", "output": "A"}]}')
    plan = plan_of(experiment)
    assert plan[R4].wanted
    assert plan[R4].why == f"the file {data} that the trainer's config names changed"
    evaluated = plan_of(experiment)[f"{CELL}.json"].config["task"]["files"]
    assert list(evaluated) == [str(data)]
    # What our own configs say is in the summary.
    assert not plan["r8/finetune.json"].wanted
    assert "files" not in plan["r8/eval/shout_epoch1.json"].config["task"]


def test_only_of_the_evaluation(experiment: ExperimentFolder, data: Path) -> None:
    other = data.with_name("test.json")
    other.write_text("{}")
    config = experiment.path / CELL / "eval.yaml"
    config.write_text(config.read_text().replace(data.name, other.name))
    complete(experiment)
    assert not plan_of(experiment)[f"{CELL}.json"].wanted
    other.write_text('{"test": []}')
    plan = plan_of(experiment)
    assert plan[f"{CELL}.json"].why == f"the file {other} that the task reads changed"
    assert not plan[R4].wanted


def test_the_data_of_the_summary_and_the_model_s_files_are_known(experiment: ExperimentFolder, data: Path) -> None:
    named = plan_of(experiment)[R4].config["named"]
    assert list(named) == [str(data)]
    training = plan_of(experiment).experiment.run_by_name["r4"].training
    assert training
    (ours,) = training.data
    for file in (experiment.path / "r4/finetune.yaml", experiment.path / CELL / "eval.yaml"):
        text = file.read_text().replace(str(data), str(ours))
        file.write_text(text.replace(str(data.parent), str(ours.parent)).replace(data.stem, ours.stem))
    plan = plan_of(experiment)
    assert "named" not in plan[R4].config
    assert "files" not in plan[f"{CELL}.json"].config["task"]


def test_trainings_that_were_recorded_without_it_stay(experiment: ExperimentFolder, data: Path) -> None:
    record = experiment.path / R4
    values = json.loads(record.read_text())
    del values["config"]["named"]
    record.write_text(json.dumps(values))
    assert not plan_of(experiment)[R4].wanted
