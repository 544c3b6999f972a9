"""How far running jobs are, and what is left of the whole experiment."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import pass_check, plan_of, train
from status_cases import TRAIN_R4, begin, items

from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.estimate.sizes import TrainingSize, training_size
from run_experiment.finetuning.metrics import COLUMNS, Pace, read_pace
from run_experiment.machine.processes import locked

EVALUATION = "base/eval/shout_base.json"


@pytest.fixture
def running(new: ExperimentFolder) -> Iterator[ExperimentFolder]:
    """An experiment whose first training and base model's evaluation run on this machine."""
    with ExitStack() as stack:
        for target in (TRAIN_R4, EVALUATION):
            (new.path / paths.lock(target)).parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(new.path / paths.lock(target)))
            begin(new, target, "local-1")
        yield new


def write_steps(file: Path, steps: int, speed: float = 40.0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"0,{step},{3 - step / 100},0.001,{speed if step > 5 else 1},1.0,,\r\n" for step in range(1, steps + 1)]
    file.write_text(",".join(COLUMNS) + "\r\n" + "".join(rows) + "0,9,,,,,,0.5\r\n0,10,1.")
    return file


def write_samples(experiment: ExperimentFolder, samples: int) -> None:
    """Leave the log of an evaluation of 16 samples that is under way."""
    spec = {
        "created": "2026-01-31T10:00:00+01:00",
        "dataset": {"samples": 20, "sample_ids": list(range(16))},
        "model": "mockllm/model",
        "config": {"epochs": 1},
    }
    log = experiment.path / paths.unfinished_eval("base", "shout_base", "0" * 16) / "log.eval"
    log.parent.mkdir(parents=True)
    with zipfile.ZipFile(log, "w") as file:
        file.writestr("_journal/start.json", json.dumps({"version": 2, "eval": spec}))
        for number in range(samples):
            file.writestr(f"samples/{number}_epoch_1.json", "{}")


def test_pace_is_of_the_last_steps(tmp_path: Path) -> None:
    """Neither the first steps, which take longer, nor validations and a torn row count."""
    assert read_pace(write_steps(tmp_path / "metrics.csv", 8)) == Pace(8, 2.92, 40.0)
    assert read_pace(write_steps(tmp_path / "metrics.csv", 3)) == Pace(3, 2.97, None)
    assert read_pace(write_steps(tmp_path / "metrics.csv", 4000)) == Pace(4000, -37.0, 40.0)


@pytest.mark.parametrize("text", ["", "epoch,step\n", "a,b,c,d,e,f,g,h\n", "0,1,x,,,,,\n", "0,9,1.0,,fast,,,\n"])
def test_no_pace_before_the_first_step_or_of_another_trainer(tmp_path: Path, text: str) -> None:
    file = tmp_path / "metrics.csv"
    assert read_pace(file) is None
    file.write_text(text)
    assert read_pace(file) is None


def test_a_running_training_says_its_step_and_the_time_left(
    running: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_steps(running.path / "r4/artifacts/metrics.csv", 8)
    found = items(status(running))["r4"]
    assert found["progress"] == {
        "done": 8,
        "total": None,
        "unit": "step",
        "loss": 2.92,
        "tokens_per_second": 40.0,
        "seconds_left": None,
    }
    pass_check(running, "r4", samples=10, tokens=1000, answer_tokens=400)
    # 2 epochs of 5 steps of 2 samples; 2 steps of 80 answer tokens are left.
    found = items(status(running))["r4"]
    assert (found["progress"]["total"], found["progress"]["seconds_left"]) == (10, 4.0)
    assert found["reason"].endswith("; step 8 of 10, loss 2.92, 40 tokens/s, 4 seconds left")
    assert main(["status", str(running.path)]) == 0
    text = capsys.readouterr().out
    assert "\nRunning:\n  r4 training  step 8 of 10, loss 2.92, 40 tokens/s, 4 seconds left\n" in text


def test_steps_of_an_earlier_attempt_are_none_of_this_one(
    running: ExperimentFolder, status: Callable[..., Any]
) -> None:
    """By the clock of the file server, which may be far from this machine's."""
    steps, began = (
        write_steps(running.path / "r4/artifacts/metrics.csv", 8),
        running.path / "r4/attempts/local-1/begun.json",
    )
    os.utime(steps, (1000, 1000))
    assert items(status(running))["r4"]["progress"] is None
    os.utime(began, (999, 999))
    assert items(status(running))["r4"]["progress"]["done"] == 8
    began.unlink()
    assert items(status(running))["r4"]["progress"] is None, "its attempt has not begun"


def test_a_running_evaluation_says_its_samples(running: ExperimentFolder, status: Callable[..., Any]) -> None:
    assert items(status(running))["base/shout/base"]["progress"] is None
    write_samples(running, 4)
    found = items(status(running))["base/shout/base"]["progress"]
    assert (found["done"], found["total"], found["unit"]) == (4, 16, "sample")
    log = next(running.path.glob("base/eval/.unfinished/*/*.eval"))
    for path, moment in ((running.path / "base/attempts/local-1/begun.json", 100), (log, 140)):
        os.utime(path, (moment, moment))
    assert items(status(running))["base/shout/base"]["progress"]["seconds_left"] == 120
    log.write_bytes(log.read_bytes()[:-30])
    assert items(status(running))["base/shout/base"]["progress"] is None


def test_what_is_left_of_the_whole(
    running: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(running)["left"] == {
        "gpu_seconds": {"likely": 0, "least": 0, "most": 0},
        "path_seconds": {"likely": 0, "least": 0, "most": 0},
        "jobs": 7,
        "unknown": 7,
    }
    train(running, "r8", seed=1, provenance={"gpus": [{"name": "A100"}]})
    write_steps(running.path / "r4/artifacts/metrics.csv", 8)
    pass_check(running, "r4", samples=10, tokens=1000, answer_tokens=400)
    left = status(running)["left"]
    # Of the training, which was measured, what is left by its own pace.
    assert left["path_seconds"] == {"likely": 4.0, "least": 3.2, "most": 5.0}
    assert (left["jobs"], left["unknown"]) == (6, 5)
    assert main(["status", str(running.path)]) == 0
    said = "Left: about 0.00 GPU-hours (0.00 to 0.00) for 1 training; the longest path takes 4 seconds (3 seconds to"
    assert said in " ".join(capsys.readouterr().out.split())


def test_size_of_a_training(new: ExperimentFolder) -> None:
    def size() -> TrainingSize | None:
        plan = plan_of(new)
        return training_size(plan, plan.experiment.run_by_name["r4"])

    assert size() is None
    pass_check(new, "r4", samples=11, tokens=1100, answer_tokens=110)
    # The rows that fill no step are left out.
    assert size() == TrainingSize(epochs=2, steps=5, tokens=1000, loss_tokens=100)
    new.set_parameters("r4", max_steps_per_epoch=2, train_on_input=True)
    assert size() == TrainingSize(epochs=2, steps=2, tokens=400, loss_tokens=400)
    pass_check(new, "r4", samples=0, tokens=0, answer_tokens=0)
    assert size() is None
