"""Trainings of a tiny model that are cut off and go on: as if nothing had happened, bit for bit."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finetuned import ARTIFACTS, WORDS, make_training, set_up, signalled_at_step, train
from torch.optim.optimizer import register_optimizer_step_post_hook
from torchtune import config

from run_experiment.experiment.model import Training
from run_experiment.finetuning import checkpointer, resume_state
from run_experiment.finetuning.metrics import read_metrics
from run_experiment.finetuning.recipe import finetune
from run_experiment.finetuning.resume_state import CHANGES, JOB, drop_state, last_whole_epoch, resume_changes
from run_experiment.finetuning.torchtune_config import render_yaml

pytestmark = pytest.mark.torchtune

EPOCHS = 4
# 21 samples, 8 a step: every epoch leaves a batch of 4 that fills no step, and a sample that fills no batch.
STEPS = 2
EXACT = ("epoch", "step", "loss", "lr", "grad_norm", "validation_loss")


class Interruption(Exception):
    """Cuts a training off."""


@pytest.fixture(scope="module")
def training(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Everything that random numbers, counts and order of the data have a part in."""
    data = tmp_path_factory.mktemp("data") / "words.json"
    rows = [{"input": word, "output": word.upper()} for word in [*WORDS, *(word[::-1] for word in WORDS)]]
    data.write_text(json.dumps({"train": rows[:21], "validation": rows[21:]}))
    return make_training(
        llama,
        data,
        epochs=EPOCHS,
        batch_size=4,
        gradient_accumulation_steps=2,
        lora_dropout=0.3,
        lr_scheduler="cosine",
        num_warmup_steps=3,
        clip_grad_norm=1.0,
        validation_during_training=True,
    )


@pytest.fixture(scope="module")
def uninterrupted(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the training leaves that nothing cut off."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(training, folder)
    return folder / "artifacts"


@contextmanager
def cut_off_after(steps: int) -> Iterator[None]:
    """Raise once the optimizer has made some steps: before the last of them has a row."""
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1
        if made == steps:
            raise Interruption

    hook = register_optimizer_step_post_hook(count)
    try:
        with pytest.raises(Interruption):
            yield
    finally:
        hook.remove()


def changes_of(artifacts: Path) -> dict[str, Any]:
    epoch = last_whole_epoch(artifacts)
    return {} if epoch is None else resume_changes(epoch)


def go_on(training: Training, folder: Path) -> Any:
    """Train on from what lies there."""
    return train(training, folder, changes_of(folder / "artifacts"))


def rows(artifacts: Path) -> list[dict[str, str]]:
    """Rows of a curve as they are written, without what a clock says."""
    with (artifacts / "metrics.csv").open(newline="") as file:
        return [{name: row[name] for name in EXACT} for row in csv.DictReader(file)]


def weights(artifacts: Path) -> list[bytes]:
    return [(artifacts / f"epoch_{epoch}/adapter_model.safetensors").read_bytes() for epoch in range(EPOCHS)]


def test_packed_training_resumes(training: Training, tmp_path: Path) -> None:
    """Packs come in the order that they would have come in."""
    given = {"packed": True, "max_seq_len": 128, "batch_size": 1, "epochs": 2}
    packed = replace(training, hyperparameters=training.hyperparameters.model_copy(update=given))
    train(packed, made(tmp_path / "whole"))
    with cut_off_after(4):
        train(packed, made(tmp_path / "cut"))
    assert last_whole_epoch(tmp_path / "cut/artifacts") is not None
    go_on(packed, tmp_path / "cut")
    assert rows(tmp_path / "cut/artifacts") == rows(tmp_path / "whole/artifacts")
    last = [tmp_path / name / "artifacts/epoch_1/adapter_model.safetensors" for name in ("cut", "whole")]
    assert last[0].read_bytes() == last[1].read_bytes()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def assert_same(artifacts: Path, uninterrupted: Path) -> None:
    assert rows(artifacts) == rows(uninterrupted)
    assert weights(artifacts) == weights(uninterrupted)
    state = f"epoch_{EPOCHS - 1}/recipe_state.pt"
    assert [str(path.relative_to(artifacts)) for path in artifacts.rglob("recipe_state.pt")] == [state]
    assert list(artifacts.glob(".epoch_*")) == []


def saved(artifacts: Path, epochs: int) -> list[tuple[int, int]]:
    """What tells whether an epoch was written again."""
    files = [artifacts / f"epoch_{epoch}/adapter_model.safetensors" for epoch in range(epochs)]
    return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]


def test_the_uninterrupted_training_is_what_it_is_meant_to_be(uninterrupted: Path) -> None:
    frame = read_metrics(uninterrupted / "metrics.csv")
    steps = frame[frame["loss"].notna()]
    assert steps["step"].tolist() == list(range(1, EPOCHS * STEPS + 1))
    assert steps["lr"].iloc[2] == 0.01
    assert 0 <= steps["lr"].iloc[-1] < 1e-8
    assert frame["validation_loss"].notna().sum() == EPOCHS
    assert len(set(weights(uninterrupted))) == EPOCHS


def test_cut_off_in_every_epoch(training: Training, uninterrupted: Path, tmp_path: Path) -> None:
    artifacts, whole, kept = tmp_path / "artifacts", [], []
    # The first gets nowhere; each of the others trains an epoch and is cut off in the next one's first step.
    for steps in (1, 3, 3, 3):
        with cut_off_after(steps):
            go_on(training, tmp_path)
        whole.append(last_whole_epoch(artifacts))
        kept.append(saved(artifacts, len(kept)))
    assert whole == [None, 0, 1, 2]
    go_on(training, tmp_path)
    assert_same(artifacts, uninterrupted)
    final = saved(artifacts, 3)
    assert kept == [[], final[:1], final[:2], final]


def test_cut_off_before_a_checkpoint_is_in_its_place(
    training: Training, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, put_in_place = tmp_path / "artifacts", resume_state._replace_folder

    def cut_off_at(name: str) -> Any:
        def call(new: Path, target: Path) -> None:
            if target.name == name:
                raise Interruption
            put_in_place(new, target)

        return call

    for epoch in range(EPOCHS):
        with monkeypatch.context() as patch:
            patch.setattr(resume_state, "_replace_folder", cut_off_at(f"epoch_{epoch}"))
            with pytest.raises(Interruption):
                go_on(training, tmp_path)
        assert last_whole_epoch(artifacts) == (epoch - 1 if epoch else None)
        assert (artifacts / f".epoch_{epoch}.partial/recipe_state.pt").is_file()
    go_on(training, tmp_path)
    assert_same(artifacts, uninterrupted)


@pytest.mark.parametrize("epoch", [1, EPOCHS - 1])
def test_cut_off_before_the_older_state_is_removed(
    training: Training, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    artifacts = tmp_path / "artifacts"

    def cut_off(output_dir: Path, keep: int) -> None:
        if keep == epoch:
            raise Interruption
        drop_state(output_dir, keep)

    with monkeypatch.context() as patch:
        patch.setattr(checkpointer, "drop_state", cut_off)
        with pytest.raises(Interruption):
            go_on(training, tmp_path)
    states = sorted(path.parent.name for path in artifacts.glob("*/recipe_state.pt"))
    assert states == [f"epoch_{epoch - 1}", f"epoch_{epoch}"]
    assert last_whole_epoch(artifacts) == epoch
    kept = saved(artifacts, epoch + 1)
    recipe = go_on(training, tmp_path)
    assert recipe.epochs_run == EPOCHS
    assert saved(artifacts, epoch + 1) == kept
    assert rows(artifacts) == rows(uninterrupted)
    assert weights(artifacts) == weights(uninterrupted)


def test_killed_and_gone_on_by_the_command_that_jobs_run(
    training: Training, uninterrupted: Path, tmp_path: Path
) -> None:
    """The overlay is the environment's; the run's own config stays as it is."""
    (tmp_path / "r8").mkdir()
    user = tmp_path / "r8/finetune.yaml"
    user.write_text(render_yaml(training, ARTIFACTS, tmp_path), encoding="utf-8")
    before = user.read_bytes()
    command = [sys.executable, "-c", KILLED_AT_STEP_5, "--config", "r8/finetune.yaml"]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    artifacts = tmp_path / ARTIFACTS
    assert last_whole_epoch(artifacts) == 1
    with (artifacts / "metrics.csv").open("a") as file:
        file.write("2,5,0.3")

    overlay = tmp_path / "changes.yaml"
    overlay.write_text(yaml.safe_dump({**resume_changes(1), "profiler": {"enabled": False}}))
    command = [sys.executable, "-m", "run_experiment.finetuning.recipe", "--config", "r8/finetune.yaml"]
    environment = {**os.environ, CHANGES: "changes.yaml", JOB: "17"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(artifacts, uninterrupted)
    assert user.read_bytes() == before
    # A script that nobody's job runs has no job to name.
    assert sorted(path.parent.name for path in artifacts.rglob("trained.json")) == ["epoch_2", "epoch_3"]
    assert json.loads((artifacts / "epoch_2/trained.json").read_text())["job_id"] == "17"


KILLED_AT_STEP_5 = signalled_at_step("run_experiment.finetuning.recipe", 5, signal.SIGKILL)


def test_a_training_that_is_done_just_ends(training: Training, uninterrupted: Path, tmp_path: Path) -> None:
    artifacts = shutil.copytree(uninterrupted, tmp_path / "artifacts")
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in artifacts.glob("epoch_*/*")}
    assert last_whole_epoch(artifacts) == EPOCHS - 1
    recipe = go_on(training, tmp_path)
    assert (recipe.epochs_run, recipe.global_step) == (EPOCHS, EPOCHS * STEPS)
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in artifacts.glob("epoch_*/*")} == before
    assert (artifacts / "metrics.csv").read_bytes() == (uninterrupted / "metrics.csv").read_bytes()


def test_the_state_is_data_only(uninterrupted: Path) -> None:
    state = torch.load(uninterrupted / f"epoch_{EPOCHS - 1}/recipe_state.pt", weights_only=True)
    assert (state["epochs_run"], state["steps_run"], state["seed"]) == (EPOCHS, EPOCHS * STEPS, 14)
    assert state["optimizer"]["state"]
    assert state["rng_state"].keys() == {"cpu"}


def test_a_training_anew_leaves_no_older_state(training: Training, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    with cut_off_after(3):
        train(training, tmp_path)
    assert last_whole_epoch(artifacts) == 0
    with cut_off_after(1):
        train(training, tmp_path)
    assert last_whole_epoch(artifacts) is None
    assert rows(artifacts) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [({"optimizer": {"lr": 9.0}}, "lr: 0.01 → 9.0"), ({"dtype": "bf16"}, 'dtype: "fp32" → "bf16"')],
)
def test_a_state_of_another_config_is_not_gone_on_from(
    training: Training, uninterrupted: Path, tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    artifacts = shutil.copytree(uninterrupted, tmp_path / "artifacts")
    before = {path: path.read_bytes() for path in artifacts.rglob("*") if path.is_file()}
    message = rf"artifacts cannot resume, since its config was another one \({said}\): change that back, or remove"
    with pytest.raises(ValueError, match=message):
        set_up(training, tmp_path, {**changes_of(artifacts), **other})
    assert {path: path.read_bytes() for path in artifacts.rglob("*") if path.is_file()} == before


def test_a_smaller_batch_goes_on_from_the_state_of_a_larger_one(
    training: Training, uninterrupted: Path, tmp_path: Path
) -> None:
    artifacts = shutil.copytree(uninterrupted, tmp_path / "artifacts")
    changes = changes_of(artifacts)
    changes |= {"batch_size": 2, "gradient_accumulation_steps": 4, "log_every_n_steps": 2}
    # Nor does it matter where the model lies.
    model = str(shutil.copytree(training.model.path, tmp_path / "moved"))
    changes |= {"tokenizer": {"path": model}, "checkpointer": {**changes["checkpointer"], "checkpoint_dir": model}}
    assert set_up(training, tmp_path, changes).epochs_run == EPOCHS


def batches_of_steps(recipe: Any, accumulation: int) -> list[list[int]]:
    """Which samples each step of the second epoch takes."""
    recipe._dataloader.sampler.set_epoch(1)
    batches = list(recipe._dataloader.batch_sampler)
    steps = [batches[start : start + accumulation] for start in range(0, STEPS * accumulation, accumulation)]
    return [[sample for batch in step for sample in batch] for step in steps]


def test_a_smaller_batch_takes_the_same_steps(
    llama: Path, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws other numbers then, so there is none here."""
    larger = make_training(llama, training.data, epochs=2, batch_size=8, validation_during_training=True)
    folders = [tmp_path / "larger", tmp_path / "smaller"]
    text = render_yaml(larger, "artifacts", tmp_path)
    (tmp_path / "changes.yaml").write_text("{batch_size: 4, gradient_accumulation_steps: 2, device: auto}")
    for folder in folders:
        folder.mkdir()
        (folder / "finetune.yaml").write_text(text)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["recipe", "--config", "finetune.yaml"])
        with pytest.raises(SystemExit) as ended:
            config.parse(finetune)()
        assert ended.value.code is None
        assert (folder / "finetune.yaml").read_text() == text
        monkeypatch.setenv(CHANGES, "../changes.yaml")
    frames = [read_metrics(folder / "artifacts/metrics.csv") for folder in folders]
    assert frames[0]["step"].tolist() == frames[1]["step"].tolist() == [1, 2, 2, 3, 4, 4]
    for name in ("loss", "lr", "validation_loss"):
        assert frames[1][name].tolist() == pytest.approx(frames[0][name].tolist(), rel=1e-4, nan_ok=True)

    smaller = {"batch_size": 4, "gradient_accumulation_steps": 2}
    samples = batches_of_steps(set_up(larger, tmp_path), 1)
    assert samples == batches_of_steps(set_up(larger, tmp_path, smaller), 2)
    assert [len(step) for step in samples] == [8] * STEPS
