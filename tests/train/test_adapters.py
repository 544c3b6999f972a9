"""The same model everywhere: torchtune, transformers and peft give the same logits, before and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from finetuned import make_training, parse_config, train, write_data
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_model import make_tiny_model
from torchtune import config
from torchtune.modules.peft import disable_adapter
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.torchtune

TOLERANCE = 1e-4
VARIANTS: dict[str, dict[str, Any]] = {
    "llama-tied": {},
    "llama-untied": {"tied": False},
    "llama-rope-scaled": {"rope_scaling": True},
    "qwen2-tied": {"architecture": "qwen2"},
    "qwen2-untied": {"architecture": "qwen2", "tied": False},
}


class Trained(NamedTuple):
    """A base model, and the recipe that trained it in memory, with its checkpoints below `artifacts`."""

    base: Path
    recipe: Any
    artifacts: Path


@pytest.fixture(scope="module", params=VARIANTS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    base = make_tiny_model(folder / "model", **VARIANTS[request.param])
    training = make_training(
        base,
        write_data(folder / "words.json"),
        epochs=2,
        lr=0.02,
        lora_attn_modules=["q_proj", "k_proj", "v_proj", "output_proj"],
    )
    recipe = train(training, folder)
    recipe._model.eval()
    return Trained(base, recipe, folder / "artifacts")


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    """Two sequences of 600 tokens: long enough that rope scaling tells."""
    return torch.randint(0, 260, (2, 600), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def tune_logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    return torch.cat(model(tokens), dim=1)


@torch.no_grad()
def hf_logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(tokens).logits
    return logits


def load_base(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max())


def test_base_weights_give_the_same_logits(trained: Trained, tokens: torch.Tensor) -> None:
    with disable_adapter(trained.recipe._model):
        ours = tune_logits(trained.recipe._model, tokens)
    assert difference(ours, hf_logits(load_base(trained.base), tokens)) < TOLERANCE


def test_peft_gives_the_trained_models_logits(trained: Trained, tokens: torch.Tensor) -> None:
    base = load_base(trained.base)
    before = hf_logits(base, tokens)
    after = hf_logits(PeftModel.from_pretrained(base, trained.artifacts / "epoch_1"), tokens)
    assert difference(before, after) > 1
    assert difference(tune_logits(trained.recipe._model, tokens), after) < TOLERANCE * 10


def test_transformers_loads_the_folder_as_the_evaluation_does(trained: Trained, tokens: torch.Tensor) -> None:
    with_adapter = AutoModelForCausalLM.from_pretrained(trained.artifacts / "epoch_1", dtype=torch.float32)
    ours = tune_logits(trained.recipe._model, tokens)
    assert difference(ours, hf_logits(with_adapter, tokens)) < TOLERANCE * 10


def test_epochs_differ(trained: Trained) -> None:
    first, second = (load_file(trained.artifacts / f"epoch_{epoch}" / "adapter_model.safetensors") for epoch in (0, 1))
    assert first.keys() == second.keys()
    assert len(first) == 2 * 2 * 7  # A and B, of 7 modules in 2 layers
    assert all(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_tied_model_with_a_copy_of_its_embeddings(tmp_path: Path, architecture: Any) -> None:
    base = make_tiny_model(tmp_path / "model", architecture=architecture)
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    cfg = parse_config(make_training(base, write_data(tmp_path / "words.json")), tmp_path)
    loaded = config.instantiate(cfg.checkpointer).load_checkpoint()["model"]
    missing, unexpected = config.instantiate(cfg.model).load_state_dict(loaded, strict=False)
    assert unexpected == []
    assert all("lora" in name for name in missing)
