"""A training that two processes share: the losses of one process, and what signals and a killed process leave."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetuned import WORDS, make_training
from safetensors.numpy import load_file
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from run_experiment.experiment.model import Training
from run_experiment.trainers.torchrun import decisive, exit_status, what_failed
from run_experiment.trainers.trainer import LAUNCHER
from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_config import render
from run_experiment.trainers.trl_recipe import finetune
from run_experiment.trainers.trl_training import Interrupts

EPOCHS = 3
TRAINER = Trl()

# Each process trains twice: one gets SIGTERM after step 2, then, resumed, is killed in step 8.
INTERRUPTED_THEN_KILLED = """
import gc, os, signal
from pathlib import Path

import yaml
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from run_experiment.trainers import process_group
from run_experiment.trainers.trainer import LAUNCHER
from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_recipe import finetune
from run_experiment.trainers.trl_training import Interrupts

process_group.end_with_parent()
config, interrupts, steps = yaml.safe_load(Path("finetune.yaml").read_text()), Interrupts(), []

def tell(what, value):
    # In a file of its own: what two processes print on one stream may be mixed within a line.
    Path(f"{what}.{process_group.rank()}").write_text(str(value))

def after_step(*_):
    steps.append(1)
    if len(steps) == 1:
        shares = [one.to_local().numel() for one in gc.get_objects() if isinstance(one, DTensor)]
        tell("share", sum(shares))
    if process_group.rank() == 1 and len(steps) == 2:
        interrupts.received = True
    if process_group.rank() == 1 and len(steps) == 8:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(after_step)
try:
    finetune(config, interrupts)
except SystemExit as end:
    assert end.code == 143
state = Trl().resumption(Path("artifacts"))
tell("resumes_after", state.state)
finetune({**config, **state.changes}, Interrupts())
"""


@pytest.fixture(scope="module")
def training(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    data = tmp_path_factory.mktemp("data") / "words.json"
    rows = [{"input": word, "output": word.capitalize(), "weight": 1 + i % 3} for i, word in enumerate(WORDS)]
    data.write_text(json.dumps({"train": rows, "validation": rows[:5]}))
    return make_training(
        llama,
        data,
        epochs=EPOCHS,
        batch_size=2,
        gradient_accumulation_steps=2,
        clip_grad_norm=1.0,
        validation_during_training=True,
    )


@pytest.mark.parametrize(
    ("fsdp", "weight_key"), [(False, None), (True, "weight")], ids=["DDP", "FSDP, with weights of rows"]
)
def test_two_processes(training: Training, tmp_path: Path, fsdp: bool, weight_key: str | None) -> None:
    """They have the losses of one process with the same samples a step, which may also resume what they left."""
    given = training.hyperparameters.model_copy(update={"fsdp": fsdp, "weight_key": weight_key})
    training, together, alone = replace(training, hyperparameters=given), tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    train_alone(training, alone)
    (together / "finetune.yaml").write_text(TRAINER.render(training, "artifacts", together), encoding="utf-8")
    (together / "driver.py").write_text(INTERRUPTED_THEN_KILLED)
    command = [word for word in TRAINER.command("finetune.yaml", 2) if word != "-m"]
    module, config = command.index(TRAINER.module), command[-2:]
    killed = run(["python", "-m", *command[1:module], "driver.py", *config], together)
    assert killed.returncode == 128 + signal.SIGKILL, killed.stderr
    assert f"rank 1 on {socket.gethostname()} was ended by SIGKILL (killed; " in killed.stderr.splitlines()[-1]
    resumed = [(together / f"resumes_after.{rank}").read_text() for rank in range(2)]
    assert resumed == ["step 2"] * 2, "both stopped after the step in which one was asked to"
    state = TRAINER.resumption(together / "artifacts")
    assert state is not None
    assert (state.state, state.epochs) == ("step 6", 2)
    assert killed.stdout.count("output_dir: artifacts") == 2, "one process says what it trains, twice"
    frozen = sum(array.size for array in load_file(training.model.path / "model.safetensors").values())
    shares = [int((together / f"share.{rank}").read_text()) for rank in range(2)]
    assert sum(shares) == (frozen if fsdp else 0), "of the frozen weights, in both processes together"
    assert max(shares) < 0.6 * frozen
    train_alone(training, together, state.changes)
    assert [row["step"] for row in rows(together)] == [row["step"] for row in rows(alone)]
    for ours, theirs in zip(rows(together), rows(alone), strict=True):
        for name in ("loss", "lr", "grad_norm", "validation_loss"):
            assert float(ours[name] or 0) == pytest.approx(float(theirs[name] or 0), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("failures", "status", "rank"),
    [
        ([(0, 1), (1, -9)], 137, 1),
        ([(1, -15), (1, 1)], 1, 1),
        ([(0, 1), (30, -9)], 1, 0),
        ([(0, 143), (0, 143)], 143, 0),
        ([(0, -15)], 143, 0),
    ],
)
def test_exit_status(failures: list[tuple[int, int]], status: int, rank: int) -> None:
    """Seconds and codes of failures; torchrun ends the others with SIGTERM, and after 30 seconds with SIGKILL."""
    found = {rank: ProcessFailure(rank, 1, code, "") for rank, (_, code) in enumerate(failures)}
    for failure, (second, _) in zip(found.values(), failures, strict=True):
        failure.timestamp = second
    assert decisive(found)[0] == rank
    assert exit_status(decisive(found)[1]) == status


def test_the_error_that_came_first_counts(tmp_path: Path) -> None:
    """In one second; that of another process may be that it lost this one."""
    found = {}
    for rank, (message, moment) in enumerate([("RuntimeError: closed", 7.9), ("no GPU here", 7.2)]):
        file = tmp_path / f"{rank}.json"
        file.write_text(json.dumps({"message": message, "timestamp": 7}))
        os.utime(file, (moment, moment))
        found[rank] = ProcessFailure(rank, 1, 1, str(file))
    assert what_failed(*decisive(found)) == f"rank 1 on {socket.gethostname()} failed: no GPU here"


@pytest.mark.parametrize(
    ("rank", "end", "line"),
    [
        (1, "raise KeyError('lora')", "rank 1 on HOST failed: KeyError: 'lora'"),
        (0, "process_group.end('no data')", "no data"),
    ],
    ids=["an error", "a message of the first"],
)
def test_the_last_line_names_the_process_that_failed(tmp_path: Path, rank: int, end: str, line: str) -> None:
    """The other one, which waits, is ended."""
    (tmp_path / "driver.py").write_text(
        "import time\nfrom run_experiment.trainers import process_group\nwith process_group.errors_told():\n"
        f"    if process_group.rank() == {rank}:\n        {end}\n    time.sleep(600)\n"
    )
    ended = run(["python", "-m", LAUNCHER, "--standalone", "--nproc-per-node=2", "driver.py"], tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1] == line.replace("HOST", socket.gethostname())


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    python = [sys.executable, *command[1:]]
    return subprocess.run(python, cwd=folder, env=environment, capture_output=True, text=True)


def train_alone(training: Training, folder: Path, changes: Mapping[str, Any] | None = None) -> None:
    config = {**render(training, "artifacts", folder), **(changes or {})}
    with contextlib.chdir(folder):
        finetune(config, Interrupts())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "artifacts/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
