"""Real trainings of a tiny model: what they leave, and what seeds, validation and schedules do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned import (
    ARTIFACTS,
    WORDS,
    assert_readable_by_others,
    make_training,
    parse_config,
    set_up,
    train,
    write_data,
)
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch.optim import AdamW

from run_experiment.experiment.model import Training
from run_experiment.finetuning import checkpointer
from run_experiment.finetuning.metrics import final_losses, read_metrics
from run_experiment.finetuning.recipe import finetune, resolve_auto, resolve_output
from run_experiment.finetuning.schedules import constant, cosine, linear
from run_experiment.finetuning.torchtune_config import render_yaml
from run_experiment.inputs.data_files import DataError
from run_experiment.machine.provenance import installed, told_installed

pytestmark = pytest.mark.torchtune

EPOCHS = 3
STEPS = len(WORDS) // 2
_MISSING = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
NO_DEVICES = ["cuda:99", "quantum", *(device for device, missing in _MISSING.items() if missing)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "words.json")


@pytest.fixture(scope="module")
def experiment(llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment folder after the training of run `r8`, by the command that jobs run."""
    folder = tmp_path_factory.mktemp("experiment")
    training = make_training(
        llama,
        data,
        epochs=EPOCHS,
        batch_size=2,
        lr=0.01,
        validation_during_training=True,
        clip_grad_norm=1.0,
        device="auto",
        dtype="auto",
    )
    (folder / "r8").mkdir()
    (folder / "r8/finetune.yaml").write_text(render_yaml(training, ARTIFACTS, folder), encoding="utf-8")
    command = [sys.executable, "-m", "run_experiment.finetuning.recipe", "--config", "r8/finetune.yaml"]
    other = folder / "env/torchtune-9.9.dist-info/METADATA"
    other.parent.mkdir(parents=True)
    other.write_text("Metadata-Version: 2.1\nName: torchtune\nVersion: 9.9\n")
    paths = os.pathsep.join([str(folder / "env"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_step_has_a_row(experiment: Path) -> None:
    frame = read_metrics(experiment / ARTIFACTS / "metrics.csv")
    steps = frame[frame["validation_loss"].isna()]
    assert steps["step"].tolist() == list(range(1, EPOCHS * STEPS + 1))
    assert steps["epoch"].tolist() == [epoch for epoch in range(EPOCHS) for _ in range(STEPS)]
    finite = steps[["loss", "lr", "tokens_per_second", "grad_norm"]].map(lambda value: 0 <= value < float("inf"))
    assert finite.all().all()


def test_environment_is_that_of_the_training(experiment: Path) -> None:
    told = told_installed(experiment / ARTIFACTS)
    assert told == [{**installed(), "versions": {**installed()["versions"], "torchtune": "9.9"}}]


def test_loss_falls(experiment: Path) -> None:
    frame = read_metrics(experiment / ARTIFACTS / "metrics.csv")
    losses = frame.groupby("epoch")["loss"].mean()
    assert losses.is_monotonic_decreasing
    assert losses[EPOCHS - 1] < 0.8 * losses[0]


def test_every_epoch_has_a_validation_row(experiment: Path) -> None:
    frame = read_metrics(experiment / ARTIFACTS / "metrics.csv")
    rows = frame[frame["validation_loss"].notna()]
    assert rows["epoch"].tolist() == list(range(EPOCHS))
    assert rows["step"].tolist() == [STEPS, 2 * STEPS, 3 * STEPS]
    assert rows["loss"].isna().all()
    # The validation split is part of the training split here.
    assert rows["validation_loss"].is_monotonic_decreasing
    assert final_losses(experiment / ARTIFACTS / "metrics.csv")["validation_loss"] == rows["validation_loss"].iloc[-1]


def test_epoch_folders(experiment: Path, llama: Path) -> None:
    assert_readable_by_others(experiment / ARTIFACTS / "epoch_0")
    artifacts = experiment / ARTIFACTS
    epochs = [f"epoch_{epoch}" for epoch in range(EPOCHS)]
    assert sorted(path.name for path in artifacts.iterdir()) == [*epochs, "installed.json", "metrics.csv"]
    for epoch in epochs:
        names = sorted(path.name for path in (artifacts / epoch).iterdir())
        state = ["recipe_state.pt"] if epoch == epochs[-1] else []
        assert names == ["adapter_config.json", "adapter_model.pt", "adapter_model.safetensors", *state]
        assert json.loads((artifacts / epoch / "adapter_config.json").read_text()) == {
            "r": 8,
            "lora_alpha": 16.0,
            "target_modules": ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj"],
            "peft_type": "LORA",
            "base_model_name_or_path": str(llama),
            "task_type": "CAUSAL_LM",
        }


def curve(recipe: Any) -> list[float]:
    frame = read_metrics(Path(recipe._output_dir) / "metrics.csv")
    losses: list[float] = frame["loss"].dropna().tolist()
    return losses


def test_validation_changes_nothing_of_the_training(llama: Path, data: Path, tmp_path: Path) -> None:
    curves = []
    for name, validation in (("with", True), ("without", False)):
        (tmp_path / name).mkdir()
        training = make_training(llama, data, epochs=2, lora_dropout=0.2, validation_during_training=validation)
        curves.append(curve(train(training, tmp_path / name)))
    assert curves[0] == curves[1]


def test_validation_loss_is_the_mean_of_the_completion_tokens(llama: Path, data: Path, tmp_path: Path) -> None:
    recipe = set_up(make_training(llama, data, batch_size=2, validation_during_training=True), tmp_path)
    losses = []
    for sample in recipe._validation_set._samples:
        with torch.no_grad():
            logits = torch.cat(recipe._model(torch.tensor([sample["tokens"]])), dim=1)[0, :-1]
        labels = torch.tensor(sample["labels"])[1:]
        counted = labels != -100
        losses.append(torch.nn.functional.cross_entropy(logits[counted], labels[counted], reduction="none"))
    assert recipe.validation_loss() == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert recipe._model.training


def test_seed_decides_the_order_of_the_data(llama: Path, data: Path, tmp_path: Path) -> None:
    orders = [list(set_up(make_training(llama, data, seed=seed), tmp_path)._dataloader.sampler) for seed in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    unshuffled = set_up(make_training(llama, data, shuffle=False), tmp_path)
    assert list(unshuffled._dataloader.sampler) == list(range(len(WORDS)))


def test_same_seed_gives_the_same_curve(llama: Path, data: Path, tmp_path: Path) -> None:
    curves = [curve(train(make_training(llama, data, seed=seed, lora_dropout=0.1), tmp_path)) for seed in (1, 2, 1)]
    assert curves[0] == curves[2] != curves[1]


def test_accumulation_gives_the_loss_of_the_larger_batch(llama: Path, data: Path, tmp_path: Path) -> None:
    large = curve(train(make_training(llama, data, batch_size=4), tmp_path))
    small = curve(train(make_training(llama, data, batch_size=2, gradient_accumulation_steps=2), tmp_path))
    assert small == pytest.approx(large, rel=1e-3)


def test_activation_checkpointing_changes_nothing_of_the_result(llama: Path, data: Path, tmp_path: Path) -> None:
    adapters = []
    for enabled in (False, True):
        train(make_training(llama, data, enable_activation_checkpointing=enabled), tmp_path)
        adapters.append(load_file(tmp_path / "artifacts/epoch_0/adapter_model.safetensors"))
    assert adapters[0].keys() == adapters[1].keys()
    assert all(torch.allclose(adapters[0][name], adapters[1][name], atol=1e-5) for name in adapters[0])


def test_steps_an_epoch_are_limited(llama: Path, data: Path, tmp_path: Path) -> None:
    recipe = train(make_training(llama, data, epochs=2, max_steps_per_epoch=2), tmp_path)
    assert len(curve(recipe)) == 4


def test_a_split_smaller_than_a_step_is_refused(llama: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fewer samples than one step takes \(16\)"):
        set_up(make_training(llama, data, batch_size=8, gradient_accumulation_steps=2), tmp_path)


def test_a_checkpoint_cut_short_is_never_an_epoch_folder(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpointer, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        train(make_training(llama, data), tmp_path)
    assert list(tmp_path.glob("artifacts/epoch_*")) == []
    monkeypatch.undo()
    train(make_training(llama, data), tmp_path)
    assert [path.name for path in tmp_path.glob("artifacts/*epoch_*")] == ["epoch_0"]


def test_an_older_epoch_folder_is_replaced_whole(llama: Path, data: Path, tmp_path: Path) -> None:
    stale = tmp_path / "artifacts/epoch_0/config.json"
    stale.parent.mkdir(parents=True)
    stale.touch()
    train(make_training(llama, data), tmp_path)
    assert not stale.exists()
    assert (stale.parent / "adapter_model.safetensors").is_file()


def run(training: Training, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a training exits with, trained as its job does it."""
    # Of the whole process, and read by torchtune.
    monkeypatch.delenv("RUN_EXPERIMENT_CHANGES", raising=False)
    with pytest.raises(SystemExit) as caught:
        finetune(parse_config(training, folder))
    return str(caught.value.code)


def test_a_training_that_diverges_stops_at_its_step(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make_training(llama, data, lr=1e30, batch_size=2, epochs=2)
    said = run(training, tmp_path, monkeypatch)
    assert said.startswith("the training diverged: the loss is NaN at step 2 of 12 (epoch 0): lower lr")
    frame = read_metrics(tmp_path / "artifacts/metrics.csv")
    assert frame["step"].tolist() == [1, 2]
    assert not list(tmp_path.glob("artifacts/epoch_*"))


@pytest.mark.parametrize("validation", [True, False])
def test_an_adapter_that_the_last_step_broke_is_no_checkpoint(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation: bool
) -> None:
    training = make_training(llama, data, lr=1e39, batch_size=12, validation_during_training=validation)
    said = run(training, tmp_path, monkeypatch)
    assert said.startswith("the training diverged: the adapter is NaN at step 1 of 1 (epoch 0): lower lr")
    assert not list(tmp_path.glob("artifacts/epoch_*"))


@pytest.mark.parametrize("device", NO_DEVICES)
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.delenv("RUN_EXPERIMENT_CHANGES", raising=False)
    cfg = OmegaConf.merge(parse_config(make_training(llama, data), tmp_path), {"device": device})
    with pytest.raises(SystemExit) as caught:
        finetune(cfg)
    said = str(caught.value.code)
    assert said.startswith(f"device is '{device}', which torch {torch.__version__} cannot use here: ")
    assert "set device: auto" in said
    assert not (tmp_path / "artifacts").exists()


def test_data_that_cannot_be_trained_on_is_told_without_a_traceback(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "fewer samples than one step takes (16)" in run(
        make_training(llama, data, batch_size=16), tmp_path, monkeypatch
    )


@pytest.mark.parametrize(
    ("cuda", "bf16", "given", "chosen"),
    [
        (False, False, ("auto", "auto"), ("cpu", "fp32")),
        (True, True, ("auto", "auto"), ("cuda", "bf16")),
        (True, False, ("auto", "auto"), ("cuda", "fp32")),
        (True, True, ("cpu", "auto"), ("cpu", "fp32")),
        (True, True, ("auto", "fp32"), ("cuda", "fp32")),
        (False, False, ("cuda", "bf16"), ("cuda", "bf16")),
    ],
)
def test_auto(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, bf16: bool, given: tuple[str, str], chosen: tuple[str, str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)
    cfg = resolve_auto(OmegaConf.create({"device": given[0], "dtype": given[1]}))
    assert (cfg.device, cfg.dtype) == chosen


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [(cosine, [0, 0.5, 1, 0.75, 0.25, 0]), (linear, [0, 0.5, 1, 2 / 3, 1 / 3, 0]), (constant, [0, 0.5, 1, 1, 1, 1])],
)
def test_schedules(schedule: Any, rates: list[float]) -> None:
    optimizer = AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, num_warmup_steps=2, num_training_steps=5)
    seen = []
    for _ in rates:
        seen.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(rates)


def test_a_training_stays_in_the_folder_that_was_linked_when_it_began(llama: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "artifacts").symlink_to("trainings/abc")
    cfg = resolve_output(parse_config(make_training(llama, data), tmp_path))
    folder = str(tmp_path / "trainings/abc")
    assert [part.output_dir for part in (cfg, cfg.checkpointer, cfg.metric_logger)] == [folder] * 3


def test_hyperparameters_reach_torchtune(llama: Path, data: Path, tmp_path: Path) -> None:
    training = make_training(
        llama, data, lr=0.003, weight_decay=0.2, lora_rank=2, lora_dropout=0.1, lora_attn_modules=["k_proj"],
        apply_lora_to_mlp=False, lr_scheduler="constant", num_warmup_steps=4,
    )  # fmt: skip
    recipe = set_up(training, tmp_path)
    adapter = recipe.adapter_params
    assert {name.split(".")[3] for name in adapter} == {"k_proj"}
    assert adapter["layers.0.attn.k_proj.lora_a.weight"].shape == (2, 64)
    assert recipe._model.layers[0].attn.k_proj.dropout.p == 0.1
    group = recipe._optimizer.param_groups[0]
    assert (group["initial_lr"], group["lr"], group["weight_decay"]) == (0.003, 0.0, 0.2)
    assert parse_config(training, tmp_path).optimizer.fused
