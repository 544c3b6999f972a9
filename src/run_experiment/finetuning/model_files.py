"""Whether the files of a model folder can be loaded, as far as their names, sizes and headers say.

transformers only warns if weights are missing, and computes with random numbers in their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from run_experiment.common.errors import CheckpointError
from run_experiment.common.paths import GENERATION_CONFIG
from run_experiment.finetuning.architecture import ModelError, weight_files, weight_map
from run_experiment.inputs.safetensors_header import (
    Shape,
    file_metadata,
    is_lfs_pointer,
    tensor_beginnings,
    tensor_formats,
    tensor_shapes,
)
from run_experiment.machine.provenance import versions

# Each of these alone, or with others beside it, is a tokenizer.
_TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tekken.json")
_SMALL = ("*.json", *_TOKENIZERS, "merges.txt", "*.jinja")

_LAYER = {
    "self_attn.q_proj.weight": ("q_size", "hidden_size"),
    "self_attn.k_proj.weight": ("kv_size", "hidden_size"),
    "self_attn.v_proj.weight": ("kv_size", "hidden_size"),
    "self_attn.o_proj.weight": ("hidden_size", "q_size"),
    "mlp.gate_proj.weight": ("intermediate_size", "hidden_size"),
    "mlp.up_proj.weight": ("intermediate_size", "hidden_size"),
    "mlp.down_proj.weight": ("hidden_size", "intermediate_size"),
    "input_layernorm.weight": ("hidden_size",),
    "post_attention_layernorm.weight": ("hidden_size",),
}
_QWEN2_LAYER = {
    "self_attn.q_proj.bias": ("q_size",),
    "self_attn.k_proj.bias": ("kv_size",),
    "self_attn.v_proj.bias": ("kv_size",),
}
_QWEN3_LAYER = {"self_attn.q_norm.weight": ("head_dim",), "self_attn.k_norm.weight": ("head_dim",)}
_MORE_OF_A_LAYER = {"qwen2": _QWEN2_LAYER, "qwen3": _QWEN3_LAYER}
# Architectures of which all names are known. transformers ties their head only if their config says so.
_KNOWN = ("llama", "mistral", *_MORE_OF_A_LAYER)
# transformers and torchtune compute it.
_COMPUTED = "rotary_emb.inv_freq"
_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("intermediate_size", "vocab_size"),
)
# Values of config.json that models compute with.
_NUMBERS = (*_SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta")
# Models with another head than one that generates text.
_OTHER_HEADS = ("ForMaskedLM", "ForMultipleChoice", "ForQuestionAnswering", "Classification")
# Number formats of weights that are not quantized, and what transformers 4 takes for the framework of a file.
_FLOATS, _LABELS = ("F64", "F32", "F16", "BF16"), ("pt", "tf", "flax", "mlx")
_OF_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_HEAD, _EMBEDDING, _NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"


def first_problem(folder: Path, *checks: Callable[[Path], str | None]) -> str | None:
    """What the first of these checks of a folder that finds something says; errors are findings."""
    try:
        return next((problem for check in checks if (problem := check(folder))), None)
    except (ModelError, CheckpointError, OSError) as error:
        return str(error)
    # A value of another type, like a size in quotes.
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        return f"{folder / 'config.json'} has a value that cannot be used: {error}"


def folder_problem(folder: Path, *, is_base: bool = True) -> str | None:
    """Why a model cannot be loaded from its folder, for training or evaluation; None if nothing is seen.

    A model that is not the base model may have no tokenizer: it is used with that of its base model.
    """
    return next(_folder_problems(folder, is_base), None)


def pointer_problem(folder: Path) -> str | None:
    """That a file of a model, other than its weights, is a pointer of Git LFS; None if none is."""
    pointers = (path for pattern in _SMALL for path in sorted(folder.glob(pattern)) if path.is_file())
    pointer = next((path for path in pointers if is_lfs_pointer(path)), None)
    return f"{pointer} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder" if pointer else None


def _folder_problems(folder: Path, is_base: bool) -> Iterator[str]:
    if problem := pointer_problem(folder):
        yield problem
    try:
        shapes = weight_shapes(folder)
        config = _object(folder / "config.json")
        tokenizer = _object(folder / "tokenizer_config.json")
        _object(folder / GENERATION_CONFIG)
    except (CheckpointError, ModelError) as error:
        yield str(error)
        return
    if is_base and not any(path.is_file() for pattern in _TOKENIZERS for path in folder.glob(pattern)):
        yield f"{folder} has no tokenizer (tokenizer.json or tokenizer.model): copy it from the model's source"
    if not _has_transformers_5():
        yield from _of_transformers_5(folder, config, tokenizer)
        yield from _unlabelled(folder)
    yield from _config_problems(folder, config)
    yield from _format_problem(folder, config)
    yield from _head_problem(folder, config, shapes)
    yield from _missing_problem(folder, config, shapes)


def _has_transformers_5() -> bool:
    number = versions(("transformers",)).get("transformers", "")
    return number.partition(".")[0].isdecimal() and int(number.partition(".")[0]) >= 5


def _of_transformers_5(folder: Path, config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Iterator[str]:
    """Of files that transformers 4, which torchtune needs, reads wrong or not at all."""
    or_else = "or use transformers 5, which trl trains with (docs/trainers.md)"
    is_new = isinstance(tokenizer.get("extra_special_tokens"), list)
    if is_new or tokenizer.get("tokenizer_class") == "TokenizersBackend":
        source = folder / "tokenizer_config.json"
        yield f"{source} is as transformers 5 writes it; save the tokenizer with transformers 4, {or_else}"
    if "rope_parameters" in config and "rope_theta" not in config:
        written = "has rope_parameters, as transformers 5 writes it, which transformers 4 leaves out"
        yield f"{folder / 'config.json'} {written}; save the model with transformers 4, {or_else}"


def _unlabelled(folder: Path) -> Iterator[str]:
    """Of weights that say of themselves something, but not for what: transformers 4 refuses them."""
    for file in weight_files(folder):
        metadata = file_metadata(folder / file)
        if metadata is not None and metadata.get("format") not in _LABELS:
            way_out = "save the model with save_pretrained, or save_file(…, metadata={'format': 'pt'})"
            yield f"{folder / file}: its metadata has no format pt, without which transformers 4 refuses it; {way_out}"


def _config_problems(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Of values in config.json with which transformers builds no model, or one that generates no text."""
    place = folder / "config.json"
    if text := next((key for key in _NUMBERS if isinstance(config.get(key), str)), None):
        yield f'{place}: {text} is the text "{config[text]}"; write the number without quotes'
    names = config.get("architectures")
    if isinstance(names, list) and names and all(str(name).endswith(_OTHER_HEADS) for name in names):
        yield f"{place}: {', '.join(map(str, names))} generates no text; take the model that does (…ForCausalLM)"
    pad, rows = config.get("pad_token_id"), config.get("vocab_size")
    if isinstance(pad, int) and isinstance(rows, int) and not -rows <= pad < rows:
        way_out = "write the id of a token that the embedding has, or null"
        yield f"{place}: pad_token_id is {pad}, but the embedding has {rows} rows (vocab_size); {way_out}"


def _format_problem(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Of weights that are quantized, and nothing says how: they would be read as the numbers that they are not."""
    if config.get("quantization_config"):
        return
    formats = {name: kind for file in weight_files(folder) for name, kind in tensor_formats(folder / file).items()}
    saved = next(
        ((name, kind) for name, kind in formats.items() if name.endswith(".weight") and kind not in _FLOATS), None
    )
    if saved:
        said = f"{saved[0]} is in {saved[1]}, so the weights are quantized, and config.json does not say how"
        yield f"{folder}: {said}; take the model in bf16, fp16 or fp32"


def _head_problem(folder: Path, config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Iterator[str]:
    """Of a model whose output would be random numbers, or another one than it was trained with."""
    known = config.get("model_type") in _KNOWN
    if known and _EMBEDDING in shapes and _HEAD not in shapes and not config.get("tie_word_embeddings"):
        said = "false" if "tie_word_embeddings" in config else "not set"
        way_out = 'write "tie_word_embeddings": true if the model has no output layer of its own'
        yield f"{folder}/config.json: tie_word_embeddings is {said}, and there is no {_HEAD} in the weights; {way_out}"
    if config.get("tie_word_embeddings") and {_EMBEDDING, _HEAD} <= shapes.keys() and not _is_tied(folder):
        other = f"but {_HEAD} in the weights is not the embedding, and transformers would leave it out"
        yield f'{folder}/config.json: tie_word_embeddings is true, {other}; write "tie_word_embeddings": false'


def _is_tied(folder: Path) -> bool:
    """Whether a model's head and embedding begin alike, as far as they can be compared."""
    beginnings: dict[str, tuple[str, bytes]] = {}
    for file in weight_files(folder):
        beginnings |= tensor_beginnings(folder / file, (_EMBEDDING, _HEAD))
    (one, head), (other, embedding) = beginnings[_HEAD], beginnings[_EMBEDDING]
    return one != other or head == embedding


def _missing_problem(folder: Path, config: Mapping[str, Any], found: Mapping[str, Shape]) -> Iterator[str]:
    """Of a model that would compute with random numbers in place of weights that it lacks."""
    if config.get("model_type") not in _KNOWN or config.get("quantization_config"):
        return
    # transformers' defaults depend on its version.
    if any(config.get(size) is None for size in (*_SIZES, *(["head_dim"] if config["model_type"] == "qwen3" else []))):
        return
    # What was saved without its head is loaded as well.
    prefix = "" if any(name.startswith("model.") for name in found) or _HEAD in found else "model."
    there = {f"{prefix}{name}": shape for name, shape in found.items()}
    expected = expected_shapes(config)
    if missing := next((name for name in expected if name not in there), None):
        yield f"{folder}: the weights lack {missing}; {_found_instead(missing, found)}"
    layers = config["num_hidden_layers"]
    if more := next((name for name in there if (part := _OF_LAYER.match(name)) and int(part[1]) >= layers), None):
        left_out = f"num_hidden_layers in config.json is {layers}, so transformers would leave layers out"
        yield f"{folder}: the weights have {more}, but {left_out}; copy the model again"
    for name, shape in expected.items():
        if there.get(name, shape) != shape:
            yield f"{folder}: {name} has the shape {list(there[name])}, by config.json it is {list(shape)}"


def weight_shapes(folder: Path) -> dict[str, Shape]:
    """Shapes of the tensors that are loaded, by name. Raises ModelError or CheckpointError if a file is missing or
    damaged.
    """
    shapes = {name: shape for file in weight_files(folder) for name, shape in tensor_shapes(folder / file).items()}
    places = weight_map(folder)
    return shapes if places is None else {name: shape for name, shape in shapes.items() if name in places}


def embedding_size(folder: Path) -> int | None:
    """Rows of a model's embedding; None if neither weights nor config tell. Raises ModelError or CheckpointError."""
    shape = weight_shapes(folder).get(_EMBEDDING)
    size = shape[0] if shape else _object(folder / "config.json").get("vocab_size")
    return size if isinstance(size, int) else None


def stop_ids(folder: Path) -> set[int]:
    """Ids of the tokens at which a model stops to generate, as transformers reads them. Raises ModelError."""
    place = folder / GENERATION_CONFIG
    given = _object(place if place.is_file() else folder / "config.json").get("eos_token_id")
    return {one for one in (given if isinstance(given, list) else [given]) if isinstance(one, int)}


def training_problem(folder: Path) -> str | None:
    """Why a model that is known otherwise cannot be trained with the weights of its folder; None if nothing is seen."""
    found = weight_shapes(folder)
    expected = expected_shapes(_object(folder / "config.json"))
    if missing := next((name for name in expected if name not in found), None):
        return f"{folder}: the weights lack {missing}; {_found_instead(missing, found)}"
    for name in found:
        if name not in expected and name != _HEAD and not name.endswith(_COMPUTED):
            return f"{folder}: the weights have {name}, which is no part of the model in config.json"
    return None


def _found_instead(missing: str, found: Mapping[str, Shape]) -> str:
    if similar := next((name for name in found if missing.endswith(f".{name}") or name.endswith(f".{missing}")), None):
        return f"they have {similar}: save the whole model, as …ForCausalLM names its weights"
    return "copy the model again"


def expected_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of the tensors that a model like Llama has by its config, without a tied head."""
    heads, kind = config["num_attention_heads"], config["model_type"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    kv_size = head_dim * (config.get("num_key_value_heads") or heads)
    sizes = {**config, "head_dim": head_dim, "q_size": head_dim * heads, "kv_size": kv_size}
    layer = _LAYER | _MORE_OF_A_LAYER.get(kind, {})
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
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object")
    return content
