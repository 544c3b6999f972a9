"""What is made elsewhere, of many kinds: whole adapters are verified, those that lack any tensor are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from run_experiment.checkpoints.publish import publish_checkpoint
from run_experiment.checkpoints.verify import verify_checkpoint
from run_experiment.common.errors import CheckpointError
from run_experiment.experiment.model import Model
from run_experiment.finetuning.model_files import expected_shapes


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**({"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | settings))


# Each with an end of the names of tensors that only this kind has.
KINDS = {
    "dora": (lora(use_dora=True), "lora_magnitude_vector"),
    "whole modules": (lora(modules_to_save=["lm_head", "embed_tokens"]), "lm_head.weight"),
    "embedding": (lora(target_modules=["q_proj", "embed_tokens"]), "lora_embedding_A"),
    "head": (lora(target_modules=["q_proj", "lm_head"]), "lm_head.lora_B.weight"),
    "biases": (lora(lora_bias=True), "lora_B.bias"),
    "tokens": (lora(trainable_token_indices=[7, 9]), "trainable_tokens_delta"),
    "ia3": (IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]), "ia3_l"),
}


@pytest.mark.parametrize(("config", "end"), KINDS.values(), ids=KINDS)
def test_an_adapter_must_have_every_tensor_that_its_config_asks_for(
    llama: Path, tmp_path: Path, config: Any, end: str
) -> None:
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(llama), config)
    with torch.no_grad():
        for weights in adapted.parameters():
            if weights.requires_grad:
                weights += 0.01
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    verify_checkpoint(tmp_path / "adapter", Model("tiny", llama))
    assert_loaded_whole(publish_checkpoint(tmp_path / "adapter", Model("tiny", llama), tmp_path / "loadable"), adapted)
    path = tmp_path / "adapter/adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(end))
    save_file({other: values for other, values in tensors.items() if other != name}, path)
    with pytest.raises(CheckpointError, match=f"adapter_model.safetensors lacks tensor {name}"):
        verify_checkpoint(tmp_path / "adapter", Model("tiny", llama))


def assert_loaded_whole(loadable: Path, adapted: PeftModel) -> None:
    """What evaluations load has the outputs of the adapted model: transformers only warns of tensors left out."""
    tokens = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(loadable)(tokens).logits, adapted.eval()(tokens).logits)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"peft_type": "NEWEST"}, "peft cannot read it .*NEWEST"),
        ({"peft_type": "lora"}, "peft cannot read it .*lora"),
        ({"target_modules": ["query_key_value"]}, "peft cannot put it on .*query_key_value"),
        ({"r": "4"}, "peft cannot put it on .*TypeError"),
        ({"lora_alpha": None}, "peft cannot put it on .*TypeError"),
    ],
)
def test_an_adapter_that_peft_cannot_use_is_refused(
    llama: Path, tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(llama), lora())
    adapted.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(CheckpointError, match=f"adapter_config.json: {reason}"):
        verify_checkpoint(tmp_path / "adapter", Model("tiny", llama))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_tensors_are_those_that_transformers_has(kind: str, tied: bool) -> None:
    config = AutoConfig.for_model(
        kind,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16 if kind == "qwen2" else 24,
        vocab_size=128,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        found = AutoModelForCausalLM.from_config(config).state_dict()
    expected = expected_shapes(config.to_dict())
    assert expected == {
        name: tuple(values.shape) for name, values in found.items() if not (tied and name == "lm_head.weight")
    }
