"""What torchtune needs to build a model, read from the model folder's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LLAMA_BUILDER = "torchtune.models.llama3_2.lora_llama3_2"
QWEN2_BUILDER = "torchtune.models.qwen2.lora_qwen2"

_BUILDERS = {"llama": LLAMA_BUILDER, "qwen2": QWEN2_BUILDER}
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
# The name by which torchtune's checkpointer chooses how weights are converted.
_CHECKPOINT_TYPES = {"llama": "LLAMA3_2", "qwen2": "QWEN2"}
_DIMENSIONS = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "embed_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
}
# transformers' own default for both architectures, for configs older than the key.
_ROPE_BASE = 10_000.0
# torchtune's builder takes the factor of Llama 3's rope scaling and has these fixed.
_LLAMA3_ROPE = {"low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}

Config = dict[str, Any]


class ModelError(Exception):
    """A model folder that torchtune cannot train exactly; the message says which and why."""


def lora_builder(model_dir: Path) -> dict[str, Any]:
    """The torchtune builder (`_component_`) of a model with all of its dimensions.

    Raises ModelError where the builder would build another model than transformers does.
    """
    config = _read_config(model_dir)
    problems = _problems(config)
    if problems:
        raise ModelError(f"{model_dir}: torchtune cannot train this model: {'; '.join(problems)}")
    model_type = config["model_type"]
    builder: dict[str, Any] = {"_component_": _BUILDERS[model_type]}
    builder |= {argument: config[key] for argument, key in _DIMENSIONS.items()}
    builder["rope_base"] = config.get("rope_theta", _ROPE_BASE)
    if model_type == "llama":
        builder["scale_factor"] = _rope_scaling(config).get("factor", 1)
    builder["tie_word_embeddings"] = config.get("tie_word_embeddings", False)
    return builder


def checkpoint_type(model_dir: Path) -> str:
    """Name of the model's weight layout for torchtune's checkpointer."""
    return _CHECKPOINT_TYPES[_read_config(model_dir)["model_type"]]


def weight_files(model_dir: Path) -> list[str]:
    """Names of the model's safetensors files, found as transformers does. Raises ModelError where one is missing."""
    places = weight_map(model_dir)
    if places is None:
        return [_WEIGHTS]
    names = sorted(set(places.values()))
    missing = [name for name in names if not (model_dir / name).is_file()]
    if missing:
        raise ModelError(f"{model_dir}: weights are missing: {', '.join(missing)}")
    return names


def weight_map(model_dir: Path) -> dict[str, str] | None:
    """The file of each tensor, by the model's index; None if the model is one file, beside which no index counts.

    transformers leaves out what the index does not name. Raises ModelError.
    """
    index = model_dir / _INDEX
    if (model_dir / _WEIGHTS).is_file():
        return None
    if not index.is_file():
        shard = next((path.name for path in sorted(model_dir.glob("model-*-of-*.safetensors"))), None)
        raise ModelError(
            f"{model_dir}: {f'{shard} is there without {_INDEX}: copy it, too' if shard else _no_weights(model_dir)}"
        )
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"{index} has no weight_map of tensors and files: copy it again")
    if outside := next((name for name in places.values() if Path(name).name != name), None):
        raise ModelError(f"{index} names {outside}, but weights must lie beside it: copy the whole folder of the model")
    return places


def _no_weights(model_dir: Path) -> str:
    """That weights have no name by which transformers finds them."""
    other = next((path.name for path in sorted(model_dir.glob("*.safetensors")) if path.is_file()), None)
    instead = f", but {other}: save the model with save_pretrained" if other else ""
    return f"there is no {_WEIGHTS}{instead}"


def _read_json(path: Path) -> Config:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object")
    return content


def _read_config(model_dir: Path) -> Config:
    return _read_json(model_dir / "config.json")


def _rope_scaling(config: Config) -> Config:
    """The scaling's parameters; empty where there is none."""
    scaling = config.get("rope_scaling") or {}
    return {} if _rope_type(scaling) == "default" else scaling


def _rope_type(scaling: Config) -> str:
    return str(scaling.get("rope_type", scaling.get("type", "default")))


def _problems(config: Config) -> list[str]:
    """What of a model torchtune's builders cannot do."""
    model_type = config.get("model_type")
    if model_type not in _BUILDERS:
        return [f"its architecture is {model_type!r}; supported are {', '.join(_BUILDERS)}"]
    missing = [key for key in _DIMENSIONS.values() if config.get(key) is None]
    if missing:
        return [f"config.json lacks {', '.join(missing)}"]
    return [*_layer_problems(config), *_attention_problems(config), *_rope_problems(config)]


def _layer_problems(config: Config) -> list[str]:
    problems = [f"{key} is set" for key in ("attention_bias", "mlp_bias") if config.get(key)]
    if config.get("hidden_act", "silu") != "silu":
        problems.append(f"hidden_act is {config['hidden_act']!r}, not 'silu'")
    if config.get("quantization_config"):
        problems.append("its weights are quantized")
    return problems


def _attention_problems(config: Config) -> list[str]:
    problems = []
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    if head_dim * heads != hidden:
        problems.append(f"head_dim {head_dim} times {heads} heads is not hidden_size {hidden}")
    if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or []):
        problems.append("it uses a sliding attention window")
    return problems


def _rope_problems(config: Config) -> list[str]:
    if "rope_parameters" in config:
        return ["config.json has rope_parameters, as transformers 5 writes it; save the model with transformers 4"]
    scaling = config.get("rope_scaling") or {}
    rope_type = _rope_type(scaling)
    if rope_type == "default":
        return []
    if rope_type != "llama3" or config["model_type"] != "llama":
        return [f"rope scaling {rope_type!r}"]
    if "factor" not in scaling:
        return ["rope scaling without factor"]
    return [
        f"rope scaling's {key} is {scaling.get(key)}, torchtune's is {value}"
        for key, value in _LLAMA3_ROPE.items()
        if scaling.get(key) != value
    ]
