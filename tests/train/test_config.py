"""The rendered torchtune config: compared whole, and users' texts arrive as they were written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetuned import WORDS, make_training, parse_config, write_data
from golden import assert_golden
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tiny_model import make_tiny_model
from torchtune import config

from run_experiment.finetuning.architecture import ModelError
from run_experiment.finetuning.torchtune_config import render_config, render_yaml

pytestmark = pytest.mark.torchtune

GOLDEN = Path(__file__).parent / "golden"

# An experiment folder that holds neither model nor data.
ELSEWHERE = Path("/experiment")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "words.json")


def test_defaults(model: Path, data: Path) -> None:
    training = make_training(model, data, device="auto", dtype="auto")
    text = render_yaml(training, "r8/artifacts", ELSEWHERE).replace(str(model), "/models/llama")
    assert_golden(text.replace(str(data), "/data/words.json"), GOLDEN / "defaults.yaml")


def test_everything_set(tmp_path: Path, data: Path) -> None:
    model = make_tiny_model(tmp_path / "qwen2", architecture="qwen2", tied=False)
    training = make_training(
        model,
        data,
        prompt='Costs ${price}:\n"{input}" — ok?\n',
        system_prompt="1e5",
        dataset_type="text_completion",
        wandb_project="words",
        epochs=3,
        batch_size=2,
        gradient_accumulation_steps=8,
        seed=7,
        lr="1e-5",
        weight_decay=0.1,
        lr_scheduler="constant",
        num_warmup_steps=10,
        lora_rank=4,
        lora_alpha=None,
        lora_dropout=0.05,
        lora_attn_modules=["q_proj", "k_proj"],
        apply_lora_to_mlp=False,
        max_seq_len=512,
        packed=True,
        training_samples=100,
        input_key="${question}",
        max_steps_per_epoch=100,
        clip_grad_norm=1.0,
        shuffle=False,
        train_on_input=True,
        validation_during_training=True,
        compile=True,
        enable_activation_checkpointing=True,
        enable_activation_offloading=True,
        device="cuda",
        dtype="bf16",
    )
    text = render_yaml(training, "r4/artifacts", ELSEWHERE).replace(str(model), "/models/qwen2")
    assert_golden(text.replace(str(data), "/data/words.json"), GOLDEN / "everything.yaml")


def test_text_means_the_values(model: Path, data: Path) -> None:
    training = make_training(model, data, lr="1e-5", validation_during_training=True)
    text = render_yaml(training, "r8/artifacts", ELSEWHERE)
    values = render_config(training, "r8/artifacts", ELSEWHERE)
    assert yaml.safe_load(text) == values
    assert OmegaConf.to_container(OmegaConf.create(text), resolve=True) == values


def test_max_seq_len_is_the_models_at_the_most(model: Path, data: Path) -> None:
    limits = [
        render_config(make_training(model, data, max_seq_len=given), "r", ELSEWHERE)["dataset"]
        for given in (None, 9999, 9)
    ]
    assert [limit["max_seq_len"] for limit in limits] == [2048, 2048, 9]


TEXTS = [
    "${x} {input}",
    "${oc.env:HOME} {input}",
    r"\${x} \\${x} {input} ${",
    "$${{input}} ${${x}}",
    "{input}???",
    "'{input}' \"double\" `back` # no comment: {a: b} [c] & * ! % @",
    "line one\n\n  indented {input}\n",
    "  spaces\tand tabs {input}  ",
    "naïve 日本語 🦊 {input} \u2028 \x85 é",
    "{input} 012 1e5 no ~ null",
]


@pytest.mark.parametrize("text", TEXTS)
def test_prompts_reach_the_model_literally(text: str, model: Path, data: Path, tmp_path: Path) -> None:
    template = text.replace("{", "{{").replace("}", "}}").replace("{{input}}", "{input}")
    training = make_training(model, data, prompt=template, system_prompt=f"S {text}", dataset_type="text_completion")
    cfg = parse_config(training, tmp_path)
    config.log_config(recipe_name="test", cfg=cfg)
    tokenizer = config.instantiate(cfg.tokenizer)
    sample = config.instantiate(cfg.dataset, tokenizer)[0]
    expected = f"<|begin_of_text|>system: S {text}\nuser: {text.replace('{input}', WORDS[0])}\nApple<|eot_id|>"
    assert tokenizer.tokenizer.decode(sample["tokens"], clean_up_tokenization_spaces=False) == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="${}\\?x: \n'\"1e-.#~", max_size=12) | st.text(max_size=12))
def test_any_text_survives_being_resolved_twice(text: str, model: Path, data: Path) -> None:
    training = make_training(model, data, prompt=text, system_prompt=text, wandb_project=text or "none")
    cfg = OmegaConf.create(render_yaml(training, "r8/artifacts", ELSEWHERE))
    OmegaConf.resolve(cfg)
    resolved: Any = OmegaConf.to_object(cfg)
    assert "".join(resolved["dataset"]["prompt"]) == text
    assert "".join(resolved["dataset"]["system_prompt"]) == text
    assert "".join(resolved["metric_logger"]["wandb_project"]) == (text or "none")


def test_paths_of_torchtunes_own_components_are_refused_with_an_interpolation(model: Path, data: Path) -> None:
    with pytest.raises(ModelError, match="cannot use a path"):
        render_config(make_training(model, data), "${oc.env:HOME}/artifacts", ELSEWHERE)


def test_login_node_modules_import_nothing_heavy() -> None:
    heavy = "{'torch', 'torchtune', 'transformers', 'datasets', 'inspect_ai', 'omegaconf'}"
    modules = ", ".join(f"run_experiment.finetuning.{name}" for name in ("architecture", "torchtune_config", "metrics"))
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_paths_in_the_experiment_are_relative_to_it(model: Path, data: Path) -> None:
    """So that a copy of the folder trains in the copy."""
    config = render_config(make_training(model, data), "r8/artifacts", model.parent)
    assert config["checkpointer"]["checkpoint_dir"] == config["tokenizer"]["path"] == model.name
    config = render_config(make_training(model, data), "r8/artifacts", data.parent)
    assert config["dataset"]["data"] == data.name
