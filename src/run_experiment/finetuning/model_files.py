"""Whether the files of a model folder can be loaded, as far as their names, sizes and headers say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from run_experiment.common.errors import CheckpointError
from run_experiment.finetuning.architecture import ModelError, weight_files
from run_experiment.inputs.safetensors_header import Shape, is_lfs_pointer, tensor_shapes

# Each of these alone, or with others beside it, is a tokenizer.
_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tekken.json")
_SMALL = ("*.json", *_TOKENIZERS, "merges.txt", "*.jinja")

_LAYER = {
    "self_attn.q_proj.weight": ("hidden_size", "hidden_size"),
    "self_attn.k_proj.weight": ("kv_size", "hidden_size"),
    "self_attn.v_proj.weight": ("kv_size", "hidden_size"),
    "self_attn.o_proj.weight": ("hidden_size", "hidden_size"),
    "mlp.gate_proj.weight": ("intermediate_size", "hidden_size"),
    "mlp.up_proj.weight": ("intermediate_size", "hidden_size"),
    "mlp.down_proj.weight": ("hidden_size", "intermediate_size"),
    "input_layernorm.weight": ("hidden_size",),
    "post_attention_layernorm.weight": ("hidden_size",),
}
_QWEN2_LAYER = {
    "self_attn.q_proj.bias": ("hidden_size",),
    "self_attn.k_proj.bias": ("kv_size",),
    "self_attn.v_proj.bias": ("kv_size",),
}
# transformers and torchtune compute it.
_COMPUTED = "rotary_emb.inv_freq"
_HEAD, _EMBEDDING, _NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"
# Architectures that transformers does not tie unless their config says so.
_NOT_TIED = ("llama", "qwen2")


def folder_problem(folder: Path) -> str | None:
    """Why a model cannot be loaded from its folder, for training or evaluation; None if nothing is seen."""
    return next(_folder_problems(folder), None)


def _folder_problems(folder: Path) -> Iterator[str]:
    pointers = (path for pattern in _SMALL for path in sorted(folder.glob(pattern)) if path.is_file())
    if pointer := next((path for path in pointers if is_lfs_pointer(path)), None):
        yield f"{pointer} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"
    try:
        shapes = weight_shapes(folder)
        config = _object(folder / "config.json")
        tokenizer = _object(folder / "tokenizer_config.json")
    except (CheckpointError, ModelError) as error:
        yield str(error)
        return
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        yield f"{folder} has no tokenizer (tokenizer.json or tokenizer.model): copy it from the model's source"
    if tokenizer.get("tokenizer_class") == "TokenizersBackend" or isinstance(
        tokenizer.get("extra_special_tokens"), list
    ):
        source = folder / "tokenizer_config.json"
        yield f"{source} is as transformers 5 writes it; save the tokenizer with transformers 4"
    yield from _head_problem(folder, config, shapes)


def _head_problem(folder: Path, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Iterator[str]:
    """Of a model whose output would be random numbers: its head is neither there nor the embedding."""
    known = config.get("model_type") in _NOT_TIED
    if known and _EMBEDDING in shapes and _HEAD not in shapes and not config.get("tie_word_embeddings"):
        said = "false" if "tie_word_embeddings" in config else "not set"
        way_out = 'write "tie_word_embeddings": true if the model has no output layer of its own'
        yield f"{folder}/config.json: tie_word_embeddings is {said}, and there is no {_HEAD} in the weights; {way_out}"


def weight_shapes(folder: Path) -> dict[str, Shape]:
    """Shapes of a model's tensors by name. Raises ModelError or CheckpointError if a file is missing or damaged."""
    return {name: shape for file in weight_files(folder) for name, shape in tensor_shapes(folder / file).items()}


def embedding_size(folder: Path) -> int | None:
    """Rows of a model's embedding; None if neither weights nor config tell. Raises ModelError or CheckpointError."""
    shape = weight_shapes(folder).get(_EMBEDDING)
    size = shape[0] if shape else _object(folder / "config.json").get("vocab_size")
    return size if isinstance(size, int) else None


def training_problem(folder: Path) -> str | None:
    """Why a Llama or Qwen2 model cannot be trained with the weights of its folder; None if nothing is seen."""
    found, config = weight_shapes(folder), _object(folder / "config.json")
    expected = expected_shapes(config)
    if missing := next((name for name in expected if name not in found), None):
        return f"{folder}: the weights lack {missing}; {_found_instead(missing, found)}"
    for name, shape in found.items():
        if name in expected and expected[name] != shape:
            return f"{folder}: {name} has the shape {list(shape)}, by config.json it is {list(expected[name])}"
        if name not in expected and name != _HEAD and not name.endswith(_COMPUTED):
            return f"{folder}: the weights have {name}, which is no part of the model in config.json"
    return None


def _found_instead(missing: str, found: Mapping[str, Shape]) -> str:
    if similar := next((name for name in found if missing.endswith(f".{name}") or name.endswith(f".{missing}")), None):
        return f"they have {similar}: save the whole model, as …ForCausalLM names its weights"
    return "copy the model again"


def expected_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the tensors that a Llama or Qwen2 model has by its config, without a tied head."""
    sizes = dict(config)
    sizes["kv_size"] = config["hidden_size"] // config["num_attention_heads"] * config["num_key_value_heads"]
    layer = _LAYER | (_QWEN2_LAYER if config["model_type"] == "qwen2" else {})
    names: dict[str, tuple[str, ...]] = {_EMBEDDING: ("vocab_size", "hidden_size"), _NORM: ("hidden_size",)}
    for number in range(config["num_hidden_layers"]):
        names |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    if not config.get("tie_word_embeddings"):
        names[_HEAD] = ("vocab_size", "hidden_size")
    return {name: tuple(int(sizes[size]) for size in shape) for name, shape in names.items()}


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file. Raises ModelError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    return content if isinstance(content, dict) else {}
