"""Trainings with TRL: like torchtune's, resumed within epochs, for every architecture that it is offered for."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finetuned import assert_readable_by_others, make_training, signalled_at_step, write_data, write_parts
from finetuned import train as train_with_torchtune
from inspect_ai.model import ChatMessage, ChatMessageUser
from provider_inputs import provider_inputs
from safetensors.torch import load_file, save_file
from tiny_model import HIDDEN_SIZE, make_tiny_model
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoConfig, AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from run_experiment.checkpoints.publish import publish_checkpoint
from run_experiment.checkpoints.verify import verify_checkpoint
from run_experiment.experiment.model import Model, Training
from run_experiment.finetuning.encoder import Encoder
from run_experiment.finetuning.model_check import count_packs
from run_experiment.finetuning.resume_state import CHANGES, JOB
from run_experiment.finetuning.tokenizer import load_tokenizer
from run_experiment.inputs.data_files import DataError
from run_experiment.trainers import trl_recipe
from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_config import render
from run_experiment.trainers.trl_recipe import finetune, load_model, resolved, samples
from run_experiment.trainers.trl_training import Batch, Collator, Interrupts, packs, require_packs

EPOCHS, STEPS = 3, 6
# Columns that no clock says.
EXACT = ("epoch", "step", "loss", "lr", "grad_norm", "validation_loss")
TRAINER = Trl()


class Interruption(Exception):
    """A process that ends."""


@pytest.fixture(scope="module")
def training(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    data = write_data(tmp_path_factory.mktemp("data") / "words.json")
    return make_training(
        llama,
        data,
        epochs=EPOCHS,
        batch_size=1,
        gradient_accumulation_steps=2,
        lora_dropout=0.1,
        num_warmup_steps=3,
        clip_grad_norm=1.0,
        validation_during_training=True,
    )


@pytest.fixture(scope="module")
def whole(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the training leaves that nothing cut off."""
    return train(training, tmp_path_factory.mktemp("whole"))


def train(
    training: Training, folder: Path, save_every: float = 10, interrupts: Interrupts | None = None, **changes: Any
) -> Path:
    """Train, or train on from what lies there; return the output folder."""
    config = {**render(training, str(folder / "artifacts"), folder), "save_every_minutes": save_every, **changes}
    before = os.getcwd()
    os.chdir(folder)
    try:
        state = TRAINER.resumption(folder / "artifacts")
        finetune(config | dict(state.changes if state else {}), interrupts or Interrupts())
    finally:
        os.chdir(before)
    return folder / "artifacts"


def rows(artifacts: Path) -> list[dict[str, str]]:
    with (artifacts / "metrics.csv").open(newline="") as file:
        return [{name: row[name] for name in EXACT} for row in csv.DictReader(file)]


def adapters(artifacts: Path) -> list[bytes]:
    names = ("adapter_model.safetensors", "adapter_config.json")
    return [(artifacts / f"epoch_{epoch}" / name).read_bytes() for epoch in range(EPOCHS) for name in names]


def test_curve_and_checkpoints(training: Training, whole: Path) -> None:
    losses = [row for row in rows(whole) if row["loss"]]
    assert [int(row["step"]) for row in losses] == list(range(1, EPOCHS * STEPS + 1))
    assert float(losses[2]["lr"]) == 0.01
    assert float(losses[-1]["lr"]) == 0
    assert all(float(row["grad_norm"]) > 0 for row in losses)
    assert [row["epoch"] for row in rows(whole) if row["validation_loss"]] == ["0", "1", "2"]
    assert float(losses[-1]["loss"]) < float(losses[0]["loss"])
    for epoch in range(EPOCHS):
        facts = verify_checkpoint(whole / f"epoch_{epoch}", training.model)
        assert (facts.kind, facts.rank) == ("adapter", 8)
        assert_readable_by_others(whole / f"epoch_{epoch}")
    assert len(set(adapters(whole))) == EPOCHS + 1, "the config is the same"


def test_several_files_train_as_one_with_their_rows(training: Training, whole: Path, tmp_path: Path) -> None:
    """The same losses and weights."""
    parts = train(replace(training, data=tuple(write_parts(tmp_path))), made(tmp_path / "parts"))
    assert rows(parts) == rows(whole)
    assert adapters(parts) == adapters(whole)


@pytest.mark.torchtune
def test_same_tokens_rates_and_first_loss_as_torchtune(training: Training, tmp_path: Path) -> None:
    """The base model's loss is that of the same batch; later ones differ by the random numbers of the adapter."""
    from run_experiment.finetuning.dataset import PromptCompletionDataset

    given = training.hyperparameters.model_copy(update={"lora_dropout": 0.0, "epochs": 2})
    plain = replace(training, hyperparameters=given)
    ours = train(plain, made(tmp_path / "trl"))
    train_with_torchtune(plain, made(tmp_path / "torchtune"))
    other = rows(tmp_path / "torchtune/artifacts")
    assert [(row["epoch"], row["step"]) for row in rows(ours)] == [(row["epoch"], row["step"]) for row in other]
    assert [row["lr"] for row in rows(ours)] == [row["lr"] for row in other]
    assert float(rows(ours)[0]["loss"]) == pytest.approx(float(other[0]["loss"]), rel=1e-5)
    config = render(plain, "artifacts", tmp_path)["dataset"] | {"data": str(training.data[0])}
    tokenizer = load_tokenizer(str(training.model.path))
    found = samples(tokenizer, config)
    expected = PromptCompletionDataset(tokenizer, **config)
    assert [one["input_ids"] for one in found] == [one["tokens"] for one in expected]
    assert [one["labels"] for one in found] == [one["labels"] for one in expected]


def test_a_smaller_batch_takes_the_same_steps(training: Training, whole: Path, tmp_path: Path) -> None:
    given = training.hyperparameters.model_copy(update={"lora_dropout": 0.0, "epochs": 1})
    plain = replace(training, hyperparameters=given)
    halves = train(plain, made(tmp_path / "halves"))
    sizes = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    sft = {**render(plain, "", tmp_path)["sft"], **sizes}
    at_once = train(plain, made(tmp_path / "at_once"), sft=sft)
    for one, other in zip(rows(halves), rows(at_once), strict=True):
        for name in ("loss", "validation_loss"):
            assert float(one[name] or 0) == pytest.approx(float(other[name] or 0), rel=1e-5)


@pytest.mark.parametrize(
    "steps",
    [
        {"batch_size": 3},
        {"batch_size": 1, "gradient_accumulation_steps": 3},
        {"batch_size": 1, "packed": True, "max_seq_len": 512},
    ],
    ids=["batch", "accumulated", "packed"],
)
def test_a_row_of_twice_the_weight_counts_as_two_rows(llama: Path, tmp_path: Path, steps: dict[str, Any]) -> None:
    weighted, repeated = tmp_path / "weighted.csv", tmp_path / "repeated.csv"
    weighted.write_text("input,output,importance\none,One,1\ntwo,Two,0.5\nthree,Three,0.5\n")
    repeated.write_text("input,output\none,One\ntwo,Two\nthree,Three\none,One\n")
    given: dict[str, Any] = {"epochs": EPOCHS, "lr": 0.1}
    ours = train(make_training(llama, weighted, weight_key="importance", **given, **steps), made(tmp_path / "ours"))
    other = train(make_training(llama, repeated, batch_size=4, **given), made(tmp_path / "other"))
    for one, expected in zip(rows(ours), rows(other), strict=True):
        assert float(one["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)


@pytest.mark.parametrize("seed", [1])
def test_killed_within_epochs(training: Training, whole: Path, tmp_path: Path, seed: int) -> None:
    """Losses, rates and adapters are those of the uninterrupted training, bit for bit."""
    drawn = random.Random(seed)
    artifacts, done = tmp_path / "artifacts", 0
    for save_every in (0, 0, 0, 10):
        kill = drawn.randint(1, 6)
        if done + kill >= EPOCHS * STEPS:
            break
        with cut_off_after(kill):
            train(training, tmp_path, save_every)
        state = TRAINER.resumption(artifacts)
        # What was not saved is lost: of every step a state is saved, or of whole epochs.
        done = done + kill - 1 if not save_every else max(done, (done + kill - 1) // STEPS * STEPS)
        assert (state.state if state else "step 0") == f"step {done}"
    train(training, tmp_path)
    assert rows(artifacts) == rows(whole)
    assert adapters(artifacts) == adapters(whole)


# A process that has all imports forks trainings; each is killed as it opens, makes or renames some file of its own.
KILLED_TEN_TIMES = """
import json, os, random, signal, sys
from pathlib import Path

import yaml

from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_recipe import finetune
from run_experiment.trainers.trl_training import Interrupts

drawn, artifacts = random.Random(int(sys.argv[1])), Path("artifacts")
config = yaml.safe_load(Path("finetune.yaml").read_text()) | {"save_every_minutes": 0}

def killed_at(left):
    def count(event, arguments):
        nonlocal left
        if event in ("open", "os.mkdir", "os.rename", "os.remove") and "artifacts" in str(arguments[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)

for _ in range(10):
    found, moment = Trl().resumption(artifacts), drawn.randint(1, 120)
    if not (child := os.fork()):
        killed_at(moment)
        finetune({**config, **(found.changes if found else {})}, Interrupts())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not status:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    curve = artifacts / "metrics.csv"
    lines = curve.read_text().splitlines(keepends=True)[1:] if curve.exists() else []
    steps = [int(line.split(",")[1]) for line in lines if line.endswith("\\n")]
    state = Trl().resumption(artifacts)
    saved = int(state.state.removeprefix("step ")) if state else 0
    print(json.dumps({"moment": moment, "trained": max(steps, default=0), "saved": saved}), flush=True)
"""


@pytest.mark.parametrize("seed", [1])
def test_killed_ten_times_at_any_file(training: Training, whole: Path, tmp_path: Path, seed: int) -> None:
    """Also while a state or an epoch is written: never more than the step is lost, and all is as without the kills."""
    (tmp_path / "finetune.yaml").write_text(TRAINER.render(training, "artifacts", tmp_path), encoding="utf-8")
    command = [sys.executable, "-c", KILLED_TEN_TIMES, str(seed)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    kills = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"moment"')]
    print(*kills, sep="\n")
    assert len(kills) >= 8, "the training ended before it was killed as often"
    assert all(kill["trained"] - kill["saved"] <= 1 for kill in kills)
    assert kills[-1]["saved"] > 1
    train(training, tmp_path)
    assert rows(tmp_path / "artifacts") == rows(whole)
    assert adapters(tmp_path / "artifacts") == adapters(whole)


class cut_off_after:
    """Raise once the optimizer has made some steps: before the last of them has a row."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __enter__(self) -> None:
        self._hook = register_optimizer_step_post_hook(self._count)

    def _count(self, *_: Any) -> None:
        self._left -= 1
        if not self._left:
            raise Interruption

    def __exit__(self, kind: Any, *_: Any) -> bool:
        self._hook.remove()
        assert kind is Interruption
        return True


TERMINATED_AT_STEP_8 = signalled_at_step("run_experiment.trainers.trl_recipe", 8, signal.SIGTERM)


def test_a_signal_saves_the_state_of_the_step(training: Training, whole: Path, tmp_path: Path) -> None:
    """As before a time limit; the command is the one that jobs run, with the changes that they write."""
    (tmp_path / "finetune.yaml").write_text(TRAINER.render(training, "artifacts", tmp_path), encoding="utf-8")
    command = [sys.executable, "-c", TERMINATED_AT_STEP_8, "--config", "finetune.yaml"]
    environment = {**os.environ, JOB: "17"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    artifacts = tmp_path / "artifacts"
    state = TRAINER.resumption(artifacts)
    assert state is not None
    assert (state.state, state.epochs) == ("step 8", 1)
    assert json.loads((artifacts / "epoch_0/trained.json").read_text())["job_id"] == "17"
    (tmp_path / "changes.json").write_text(json.dumps(dict(state.changes)))
    os.environ[CHANGES] = str(tmp_path / "changes.json")
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        finetune(yaml.safe_load((tmp_path / "finetune.yaml").read_text()), Interrupts())
    finally:
        os.chdir(before)
        del os.environ[CHANGES]
    assert rows(artifacts) == rows(whole)
    assert adapters(artifacts) == adapters(whole)


def test_a_loss_that_is_not_finite_ends_it(training: Training, tmp_path: Path) -> None:
    given = training.hyperparameters.model_copy(update={"lr": 1e30, "num_warmup_steps": 0})
    with pytest.raises(SystemExit, match=r"the training diverged: the .* is (NaN|infinite) at step \d+ of 18"):
        train(replace(training, hyperparameters=given), tmp_path)
    assert not (tmp_path / "artifacts/epoch_0").exists()


def test_a_state_of_another_config_is_not_resumed(training: Training, tmp_path: Path) -> None:
    with cut_off_after(3):
        train(training, tmp_path, save_every=0)
    given = training.hyperparameters.model_copy(update={"lr": 0.02})
    with pytest.raises(
        SystemExit, match=r"cannot resume, since its config was another one \(learning_rate: 0.01 → 0.02\)"
    ):
        train(replace(training, hyperparameters=given), tmp_path)


@pytest.mark.parametrize("variant", ["use_dora", "use_rslora"])
def test_variants_of_lora(training: Training, tmp_path: Path, variant: str) -> None:
    """They are resumed and evaluated as plain LoRA is, and are not plain LoRA."""
    given = training.hyperparameters.model_copy(update={"epochs": 1, "max_steps_per_epoch": 3})
    plain = train(replace(training, hyperparameters=given), made(tmp_path / "plain")) / "epoch_0"
    varied = replace(training, hyperparameters=given.model_copy(update={variant: True}))
    whole = train(varied, made(tmp_path / "whole")) / "epoch_0"
    interrupted = made(tmp_path / "interrupted")
    with cut_off_after(3):
        train(varied, interrupted, save_every=0)
    resumed = train(varied, interrupted) / "epoch_0"
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (plain, whole, resumed)]
    assert weights[0] != weights[1] == weights[2]
    loadable = publish_checkpoint(whole, training.model, tmp_path / "loadable")
    assert_evaluated_as_trained(loadable, training.model.path)
    assert_readable_by_others(loadable)
    assert verify_checkpoint(whole, training.model).kind == "adapter"
    assert ("lora_magnitude_vector" in str(weights[1])) == (variant == "use_dora")


@pytest.mark.parametrize(("architecture", "dtype"), [("llama", torch.float32), ("gemma2", torch.bfloat16)])
def test_full_finetuning(training: Training, tmp_path: Path, architecture: str, dtype: torch.dtype) -> None:
    """Epochs are whole models, in the base model's format, which hold what was trained; it resumes as LoRA does."""
    base = make_model(tmp_path / "model", architecture)
    AutoModelForCausalLM.from_pretrained(base, dtype=dtype).save_pretrained(base)
    # Llama 2 was published so, and transformers refuses to save it.
    generation = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [3, 2]}
    (base / "generation_config.json").write_text(json.dumps(generation))
    given = training.hyperparameters.model_copy(
        update={"full_finetuning": True, "epochs": 2, "max_steps_per_epoch": 3, "dtype": "auto", "lr": 1e-3}
    )
    trained = replace(training, model=Model("tiny", base), hyperparameters=given)
    whole = train(trained, made(tmp_path / "whole"))
    interrupted = made(tmp_path / "interrupted")
    with cut_off_after(5):
        train(trained, interrupted, save_every=0)
    assert TRAINER.resumption(interrupted / "artifacts").state == "step 4"
    resumed = train(trained, interrupted)
    assert rows(resumed) == rows(whole)
    names = {path.name for path in (whole / "epoch_1").iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert [(resumed / "epoch_1" / name).read_bytes() for name in names] == [
        (whole / "epoch_1" / name).read_bytes() for name in names
    ]

    assert json.loads((whole / "epoch_1/generation_config.json").read_text()) == generation
    loadable = publish_checkpoint(whole / "epoch_1", trained.model, tmp_path / "loadable")
    evaluated, before = (AutoModelForCausalLM.from_pretrained(folder, dtype="auto") for folder in (loadable, base))
    assert {values.dtype for values in evaluated.parameters()} == {dtype}
    state = load_file(whole / "resume_state/checkpoint-6/model.safetensors")
    assert {values.dtype for values in state.values()} == {torch.float32}
    assert state.keys() <= evaluated.state_dict().keys()
    assert all(torch.equal(evaluated.state_dict()[name], values.to(dtype)) for name, values in state.items())
    assert not any(torch.equal(before.state_dict()[name], evaluated.state_dict()[name]) for name in state)
    assert_prompted_as_trained(loadable, trained)
    assert verify_checkpoint(whole / "epoch_1", trained.model, is_trained_here=True).kind == "model"


def test_full_finetuning_in_bf16(training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed in bf16, and takes steps that are too small for weights in bf16."""
    given = {"full_finetuning": True, "epochs": 1, "max_steps_per_epoch": 2, "lr": 1e-6}
    found = {}
    for dtype in ("bf16", "fp32"):
        # accelerate sets it for its process, and a training has one of its own.
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        hyperparameters = training.hyperparameters.model_copy(update={**given, "dtype": dtype})
        found[dtype] = train(replace(training, hyperparameters=hyperparameters), made(tmp_path / dtype))
    name = "model.layers.0.mlp.up_proj.weight"
    before, after = (
        load_file(folder / "model.safetensors")[name] for folder in (training.model.path, found["bf16"] / "epoch_0")
    )
    assert 0 < (after - before).abs().max() < 1e-5
    assert rows(found["bf16"])[0]["loss"] != rows(found["fp32"])[0]["loss"]


def test_qlora(training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model is in 4 bits and its adapter is trained and resumed as others are; it is refused without CUDA."""
    # bitsandbytes computes on a CPU what is trained, but without gradients only layers of other sizes.
    given = training.hyperparameters.model_copy(
        update={"load_in_4bit": True, "validation_during_training": False, "epochs": 1, "max_steps_per_epoch": 3}
    )
    quantized = replace(training, hyperparameters=given)
    with pytest.raises(SystemExit, match=r"load_in_4bit needs a GPU with CUDA, which torch .* does not find here"):
        train(quantized, made(tmp_path / "refused"))
    on_cpu = {"device": "cpu", "dtype": "bf16"}
    monkeypatch.setattr(trl_recipe, "resolved", lambda config: {**config, **on_cpu})
    whole = train(quantized, made(tmp_path / "whole")) / "epoch_0"
    interrupted = made(tmp_path / "interrupted")
    with cut_off_after(3):
        train(quantized, interrupted, save_every=0)
    resumed = train(quantized, interrupted) / "epoch_0"
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]
    assert verify_checkpoint(whole, training.model).kind == "adapter"
    assert_evaluated_as_trained(publish_checkpoint(whole, training.model, tmp_path / "loadable"), training.model.path)
    monkeypatch.chdir(tmp_path)
    model = load_model({**render(quantized, "", tmp_path), **on_cpu})
    assert type(model.base_model.model.model.layers[0].mlp.up_proj.base_layer).__name__ == "Linear4bit"


# The last three have names of layers, or sizes, that none of the others has.
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3", "gemma3_text", "olmo2", "gpt_neox")


TURNS = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
# What families of models do in their chat templates: the end of a text, other names of roles, an empty reasoning.
TEMPLATES = {
    "phi3": TURNS + "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}",
    "mistral": "{{ bos_token }}{% for m in messages %}{{ ' ' + m.content + eos_token if m.role == 'assistant' else "
    "'[INST] ' + m.content + ' [/INST]' }}{% endfor %}",
    "gemma2": "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + "
    "m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "qwen3": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}",
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(training: Training, tmp_path: Path, architecture: str) -> None:
    model = make_model(tmp_path / "model", architecture)
    assert TRAINER.model_problem(model) is None
    given = training.hyperparameters.model_copy(
        update={
            "epochs": 1,
            "lora_attn_modules": ("q_proj", "k_proj", "v_proj", "output_proj"),
            "lora_target_modules": ("all-linear",) if architecture == "gpt_neox" else None,
            "max_steps_per_epoch": 2,
        }
    )
    trained = replace(training, model=Model("tiny", model), hyperparameters=given)
    adapter = train(trained, tmp_path) / "epoch_0"
    verify_checkpoint(adapter, trained.model)
    loadable = publish_checkpoint(adapter, trained.model, tmp_path / "loadable")
    assert_evaluated_as_trained(loadable, model)
    assert_prompted_as_trained(loadable, trained)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "phi3", "gemma3_text", "gpt_neox"])
def test_a_sample_in_a_pack_is_as_it_is_alone(tmp_path: Path, architecture: str) -> None:
    """Its answers are predicted with the same loss, also where layers see a window of tokens only."""
    folder = make_model(tmp_path / "model", architecture)
    config = AutoConfig.from_pretrained(folder)
    if getattr(config, "sliding_window", None):
        config.sliding_window = 8
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    require_packs(model)
    drawn = random.Random(0)
    tokens = [[drawn.randrange(200) for _ in range(length)] for length in (7, 30, 5, 12, 21, 3)]
    alone = [{"input_ids": one, "labels": [-100, *one[1:]]} for one in tokens]
    packed = packs(alone, 40)
    assert [len(one["input_ids"]) for one in packed] == [37, 38, 3]
    assert [one for pack in packed for one in pack["labels"]] == [one for sample in alone for one in sample["labels"]]

    def losses(batch: Batch) -> torch.Tensor:
        labels = batch.pop("labels")
        logits = model(**batch, use_cache=False).logits.detach()
        found = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none")
        return found[labels[:, 1:].flatten() != -100]

    collate = Collator(0)
    each = torch.cat([losses(collate([sample])) for sample in alone])
    torch.testing.assert_close(losses(collate(packed)), each, rtol=1e-5, atol=1e-5)


def test_packs_whose_samples_see_each_other_are_refused() -> None:
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2))
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_()
    with pytest.raises(DataError, match="in the architecture bloom: leave packed out"):
        require_packs(model)


def test_a_packed_training_resumes(training: Training, tmp_path: Path) -> None:
    values = {"packed": True, "max_seq_len": 128, "epochs": 1, "batch_size": 1, "gradient_accumulation_steps": 1}
    packed = replace(training, hyperparameters=training.hyperparameters.model_copy(update=values))
    whole, cut = train(packed, made(tmp_path / "whole")), made(tmp_path / "cut")
    with cut_off_after(2):
        train(packed, cut, save_every=0)
    train(packed, cut)
    assert rows(whole) == rows(cut / "artifacts")
    names = [one / "epoch_0/adapter_model.safetensors" for one in (whole, cut / "artifacts")]
    assert names[0].read_bytes() == names[1].read_bytes()
    single = load_tokenizer(str(training.model.path))
    lengths = [len(one["input_ids"]) for one in samples(single, render(packed, "out", Path.cwd())["dataset"])]
    assert len([row for row in rows(whole) if row["loss"]]) == count_packs(lengths, 128) < len(lengths)


def test_weights_that_are_missing_end_the_training(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_model(tmp_path / "model", "olmo2")
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"model: the weights lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(yaml.safe_load(TRAINER.render(replace(training, model=Model("tiny", model)), "out", tmp_path)))


def assert_evaluated_as_trained(adapter: Path, model: Path) -> None:
    """What is loaded as evaluations do it has the outputs of what was trained, and not those of the base model."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        evaluated = AutoModelForCausalLM.from_pretrained(adapter)(tokens).logits
        reference = AutoPeftModelForCausalLM.from_pretrained(adapter)(tokens).logits
        base = AutoModelForCausalLM.from_pretrained(model)(tokens).logits
    assert torch.equal(evaluated, reference)
    assert not torch.allclose(evaluated, base, atol=1e-4)


def assert_prompted_as_trained(loadable: Path, training: Training) -> None:
    """inspect-ai answers the prompts that were trained on, token for token, with the adapter."""
    given = training.prompting
    encoder = Encoder(load_tokenizer(str(training.model.path)).tokenizer, given.dataset_type, given.prompt, "")
    prompt = encoder.encode({"input": "apple", "output": "Apple"}).prompt
    asked: list[ChatMessage] = [ChatMessageUser(content=given.prompt.format(input="apple"))]
    tokenizer = {"tokenizer_path": str(training.model.path)}
    assert provider_inputs(loadable, [asked], **tokenizer) == [prompt]


def make_model(folder: Path, architecture: str) -> Path:
    """A tiny model of an architecture with its family's chat template, and the Llama one's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    make_tiny_model(folder)
    if architecture in TEMPLATES:
        (folder / "chat_template.jinja").write_text(TEMPLATES[architecture], encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.delenv(CHANGES, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DataError, match=rf"^device is '{device}', which torch .* cannot use here .*set device: auto"):
        resolved({"output_dir": str(tmp_path / "out"), "device": device, "dtype": "fp32"})
