"""Reading a model folder: the builder's dimensions, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from run_experiment.finetuning.architecture import ModelError, checkpoint_type, lora_builder, weight_files

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}
# As real Qwen2 configs are: a window is given, and not used.
QWEN2 = LLAMA | {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 4096}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def model_folder(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_llama_dimensions(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, LLAMA | {"rope_scaling": LLAMA3_ROPE, "head_dim": 16})
    assert lora_builder(folder) == {
        "_component_": "torchtune.models.llama3_2.lora_llama3_2",
        "vocab_size": 128,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "embed_dim": 64,
        "intermediate_dim": 96,
        "max_seq_len": 2048,
        "norm_eps": 1e-5,
        "rope_base": 500_000.0,
        "scale_factor": 32.0,
        "tie_word_embeddings": True,
    }
    assert checkpoint_type(folder) == "LLAMA3_2"


def test_qwen2_has_no_rope_scaling(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, QWEN2)
    builder = lora_builder(folder)
    assert builder["_component_"] == "torchtune.models.qwen2.lora_qwen2"
    assert "scale_factor" not in builder
    assert checkpoint_type(folder) == "QWEN2"


@pytest.mark.parametrize("scaling", [None, {"rope_type": "default"}, {"type": "default"}])
def test_no_rope_scaling_is_factor_1(tmp_path: Path, scaling: Any) -> None:
    assert lora_builder(model_folder(tmp_path, LLAMA | {"rope_scaling": scaling}))["scale_factor"] == 1


def test_absent_keys_mean_what_transformers_takes_them_for(tmp_path: Path) -> None:
    config = {key: value for key, value in LLAMA.items() if key not in ("rope_theta", "tie_word_embeddings")}
    builder = lora_builder(model_folder(tmp_path, config))
    assert (builder["rope_base"], builder["tie_word_embeddings"]) == (10_000.0, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma2"}, "architecture is 'gemma2'"),
        ({"model_type": None}, "architecture is None"),
        ({"num_key_value_heads": None}, "lacks num_key_value_heads"),
        ({"attention_bias": True}, "attention_bias is set"),
        ({"mlp_bias": True}, "mlp_bias is set"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"head_dim": 32}, "head_dim 32 times 4 heads is not hidden_size 64"),
        ({"num_attention_heads": 3}, "is not hidden_size 64"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding attention window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope scaling 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope scaling 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "without factor"),
        ({"rope_scaling": LLAMA3_ROPE | {"low_freq_factor": 2.0}}, "low_freq_factor is 2.0, torchtune's is 1"),
        ({"rope_scaling": LLAMA3_ROPE | {"high_freq_factor": 8.0}}, "high_freq_factor is 8.0, torchtune's is 4"),
        ({"rope_scaling": LLAMA3_ROPE | {"original_max_position_embeddings": 4096}}, "is 4096, torchtune's is 8192"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "transformers 5"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "sliding attention window"),
        ({"model_type": "qwen2", "rope_scaling": LLAMA3_ROPE}, "rope scaling 'llama3'"),
    ],
)
def test_refused_models(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = model_folder(tmp_path, LLAMA | change)
    with pytest.raises(ModelError) as caught:
        lora_builder(folder)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, LLAMA | {"mlp_bias": True, "hidden_act": "gelu"})
    with pytest.raises(ModelError, match=r"mlp_bias.*hidden_act"):
        lora_builder(folder)


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_unreadable_config(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        lora_builder(tmp_path)


def test_weight_files_come_from_the_index(tmp_path: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {"b": shards[1], "a": shards[0], "c": shards[0]}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"missing.*00001.*00002"):
        weight_files(tmp_path)
    for name in shards:
        (tmp_path / name).touch()
    assert weight_files(tmp_path) == shards


def test_weight_files_without_index(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(ModelError, match=r"there is no model\.safetensors, but adapter_model\.safetensors: save"):
        weight_files(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert weight_files(tmp_path) == ["model.safetensors"]
