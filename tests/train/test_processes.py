"""A training that two processes share: the losses of one process, and what signals and a killed process leave."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetuned import make_training, write_data

from run_experiment.experiment.model import Training
from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_config import render
from run_experiment.trainers.trl_recipe import finetune
from run_experiment.trainers.trl_training import Interrupts

EPOCHS, STEPS = 2, 3
TRAINER = Trl()

# Each process trains twice: one gets SIGTERM after step 2, then, resumed, is killed in step 5.
INTERRUPTED_THEN_KILLED = """
import os, signal
from pathlib import Path

import yaml
from torch.optim.optimizer import register_optimizer_step_post_hook

from run_experiment.trainers import process_group
from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_recipe import finetune
from run_experiment.trainers.trl_training import Interrupts

process_group.end_with_parent()
config, interrupts, steps = yaml.safe_load(Path("finetune.yaml").read_text()), Interrupts(), []

def after_step(*_):
    steps.append(1)
    if process_group.rank() == 1 and len(steps) == 2:
        interrupts.received = True
    if process_group.rank() == 1 and len(steps) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(after_step)
try:
    finetune(config, interrupts)
except SystemExit as end:
    assert end.code == 143
state = Trl().resumption(Path("artifacts"))
print("resumes after", state.state, flush=True)
finetune({**config, **state.changes}, Interrupts())
"""


@pytest.fixture
def training(llama: Path, tmp_path: Path) -> Training:
    data = write_data(tmp_path / "words.json")
    return make_training(
        llama,
        data,
        epochs=EPOCHS,
        batch_size=2,
        gradient_accumulation_steps=2,
        clip_grad_norm=1.0,
        validation_during_training=True,
    )


def test_two_processes(training: Training, tmp_path: Path) -> None:
    """Killed and resumed, they have the losses of one process with the same samples a step."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
        (folder / "finetune.yaml").write_text(TRAINER.render(training, "artifacts", folder), encoding="utf-8")
    (together / "driver.py").write_text(INTERRUPTED_THEN_KILLED)
    command = [word for word in TRAINER.command("finetune.yaml", 2) if word != "-m"]
    module, config = command.index(TRAINER.module), command[-2:]
    killed = run(["python", "-m", *command[1:module], "driver.py", *config], together)
    assert killed.returncode == 128 + signal.SIGKILL, killed.stderr
    assert killed.stdout.count("resumes after step 2") == 2, "both stopped after the step in which one was asked to"
    state = TRAINER.resumption(together / "artifacts")
    assert state is not None
    assert (state.state, state.epochs) == ("step 3", 1)
    (together / "changes.yaml").write_text(yaml.safe_dump(dict(state.changes)))
    ended = run(TRAINER.command("finetune.yaml", 2), together, RUN_EXPERIMENT_CHANGES="changes.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("output_dir: artifacts") == 1, "one process says what it trains"
    train_alone(training, alone)
    assert [row["step"] for row in rows(together)] == [row["step"] for row in rows(alone)]
    for ours, theirs in zip(rows(together), rows(alone), strict=True):
        for name in ("loss", "lr", "grad_norm", "validation_loss"):
            assert float(ours[name] or 0) == pytest.approx(float(theirs[name] or 0), rel=1e-5, abs=1e-12)


def run(command: list[str], folder: Path, **environment: str) -> Any:
    cores = {"OMP_NUM_THREADS": "2", **environment}
    python = [sys.executable, *command[1:]]
    return subprocess.run(python, cwd=folder, env={**os.environ, **cores}, capture_output=True, text=True)


def train_alone(training: Training, folder: Path) -> None:
    finetune(render(training, str(folder / "artifacts"), folder), Interrupts())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "artifacts/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
