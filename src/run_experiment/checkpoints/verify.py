"""Whether a checkpoint is whole.

Works without torch: reads safetensors files with numpy, one tensor at a time.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from run_experiment.checkpoints.lora_shapes import Shape, expected_shapes
from run_experiment.checkpoints.peft_tensors import demanded_tensors, is_plain
from run_experiment.common.errors import CheckpointError
from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS, GENERATION_CONFIG
from run_experiment.experiment.model import Model, Run
from run_experiment.inputs.file_hashes import file_facts
from run_experiment.inputs.safetensors_header import tensor_beginnings, tensor_formats, tensor_shapes

INDEX = "model.safetensors.index.json"

# Files of a whole model's own tokenizer, which it is evaluated with.
TOKENIZER = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template.jinja"),
)
# Adapters of peft that put tokens before the prompt: transformers cannot load them into a model.
_PROMPT_LEARNING = frozenset(
    {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "ADAPTION_PROMPT"}
)

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class CheckpointFacts:
    """What a verified checkpoint is made of: `files` by name with size, mtime_ns and sha256; `rank` of an adapter."""

    kind: Literal["adapter", "model"]
    files: Mapping[str, Mapping[str, int | str]]
    tensors: int
    rank: int | None


def verify_checkpoint(checkpoint: Path, model: Model, *, is_trained_here: bool = False) -> CheckpointFacts:
    """Open every tensor of an adapter on `model`, or of a whole model, and say what was found.

    Raises CheckpointError for a missing folder, an unreadable or incomplete file, a missing tensor, one of the
    wrong shape, NaN or infinity, for an adapter that was never trained, and for a model that was trained here and is
    still the base model.
    """
    files = checkpoint_files(checkpoint)
    require_loadable(checkpoint)
    if files[0].name == ADAPTER_CONFIG:
        return _verify_adapter(checkpoint, model, files)
    facts = _verify_model(checkpoint, files)
    if is_trained_here and not _differs(checkpoint, model.path):
        raise CheckpointError(f"{checkpoint} has the weights of {model.path}, so the model was never trained")
    return facts


def checkpoint_files(checkpoint: Path) -> list[Path]:
    """Files that make up a checkpoint: an adapter's config and weights, or all that a whole model is made of.

    Raises CheckpointError if the folder is missing or holds neither.
    """
    if not checkpoint.is_dir():
        raise CheckpointError(f"no checkpoint folder {checkpoint}")
    adapter = [checkpoint / ADAPTER_CONFIG, checkpoint / ADAPTER_WEIGHTS]
    if any(path.exists() for path in adapter):
        files = adapter
    else:
        others = [path for name in (GENERATION_CONFIG, INDEX, *TOKENIZER) if (path := checkpoint / name).exists()]
        files = [checkpoint / "config.json", *others, *_shards(checkpoint)]
    if not any(path.suffix == ".safetensors" for path in files):
        raise CheckpointError(f"{checkpoint} holds no adapter ({ADAPTER_WEIGHTS}) and no model (*.safetensors)")
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
    return files


def has_tokenizer(checkpoint: Path) -> bool:
    """Whether a checkpoint is a whole model that has a tokenizer of its own."""
    if (checkpoint / ADAPTER_CONFIG).exists():
        return False
    return any((checkpoint / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def tokenizer_folder(run: Run) -> Path:
    """Folder of a run's tokenizer: its model's, or its checkpoint's if that is a whole model with its own."""
    return run.checkpoint if run.checkpoint and has_tokenizer(run.checkpoint) else run.model.path


def require_loadable(checkpoint: Path) -> None:
    """Raise CheckpointError if a checkpoint is an adapter that transformers cannot load into a model."""
    try:
        kind = read_json(checkpoint / ADAPTER_CONFIG).get("peft_type")
    except CheckpointError:
        # Missing or unreadable: whoever needs it says so.
        return
    if kind in _PROMPT_LEARNING:
        message = f"peft_type {kind} is prompt learning, which transformers cannot load"
        raise CheckpointError(f"{checkpoint / ADAPTER_CONFIG}: {message}")


def _shards(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob("*.safetensors"))


def _verify_adapter(checkpoint: Path, model: Model, files: list[Path]) -> CheckpointFacts:
    config = read_json(checkpoint / ADAPTER_CONFIG)
    weights = checkpoint / ADAPTER_WEIGHTS
    shapes = _shapes(weights)
    if not shapes:
        raise CheckpointError(f"{weights} holds no tensors")
    _require_floats(weights)
    expected = _expected(checkpoint / ADAPTER_CONFIG, model.path / "config.json")
    for name, shape in expected.items():
        if name not in shapes:
            raise CheckpointError(f"{weights} lacks tensor {name}")
        if shapes[name] != shape:
            raise CheckpointError(f"{weights}: tensor {name} has shape {shapes[name]}, expected {shape}")
    _require_demanded(checkpoint, config, model, shapes, expected)
    _check_trained(weights)
    rank = config.get("r")
    return CheckpointFacts(
        kind="adapter",
        files=_facts(files),
        tensors=len(shapes),
        rank=rank if isinstance(rank, int) else None,
    )


def _require_floats(weights: Path) -> None:
    """Raise CheckpointError for an adapter in integers or 8 bits, which peft would take for other numbers."""
    for name, kind in tensor_formats(weights).items():
        if ".lora_" in name and kind not in _FLOATS:
            raise CheckpointError(f"{weights}: tensor {name} is in {kind}: save the adapter in fp32, fp16 or bf16")


def _require_demanded(
    checkpoint: Path, config: dict[str, Any], model: Model, shapes: Iterable[str], expected: Iterable[str]
) -> None:
    """Raise CheckpointError if an adapter lacks a tensor that its config asks for, or has one that it leaves out.

    `expected` are those of plain LoRA. transformers leaves others out with a warning, and evaluates half an adapter.
    """
    weights = checkpoint / ADAPTER_WEIGHTS
    demanded = list(expected)
    if not is_plain(config, read_json(model.path / "config.json")):
        demanded = demanded_tensors(checkpoint, model.path)
    missing = [name for name in demanded if name not in shapes]
    if missing:
        raise CheckpointError(f"{weights} lacks tensor {missing[0]}")
    # Embeddings that peft adds as they are in the base model are not asked for.
    unused = [name for name in shapes if demanded and ".lora_" in name and name not in demanded]
    if unused:
        raise CheckpointError(f"{weights} has tensor {unused[0]}, which {ADAPTER_CONFIG} leaves out")
    if config.get("lora_alpha") == 0 and not config.get("alpha_pattern"):
        raise CheckpointError(f"{checkpoint / ADAPTER_CONFIG}: lora_alpha is 0, so the adapter changes nothing")


def _check_trained(weights: Path) -> None:
    """Check an adapter's values: training moves B away from zero, A starts random."""
    zeros = {name: not values.any() for name, values in _finite_tensors(weights)}
    empty = [name for name, zero in zeros.items() if zero and ".lora_A." in name]
    if empty:
        raise CheckpointError(f"{weights}: tensor {empty[0]} is all zero")
    trained = [zero for name, zero in zeros.items() if ".lora_B." in name]
    if trained and all(trained):
        raise CheckpointError(f"{weights}: every lora_B tensor is zero, so the adapter was never trained")


def _verify_model(checkpoint: Path, files: list[Path]) -> CheckpointFacts:
    read_json(checkpoint / "config.json")
    shards = _shards(checkpoint)
    names = {name for shard in shards for name in _shapes(shard)}
    if not names:
        raise CheckpointError(f"{checkpoint} holds no tensors")
    index = checkpoint / INDEX
    for name, shard_name in (read_json(index).get("weight_map", {}) if index in files else {}).items():
        if name not in names:
            raise CheckpointError(f"{checkpoint / shard_name} lacks tensor {name}")
    for shard in shards:
        for _ in _finite_tensors(shard):
            pass
    return CheckpointFacts("model", _facts(files), len(names), None)


def _differs(checkpoint: Path, base: Path) -> bool:
    """Whether a whole model has a tensor that its base model has not, or has with other values."""
    places = {name: shard for shard in _shards(base) for name in tensor_shapes(shard)}
    for shard in _shards(checkpoint):
        for name in tensor_shapes(shard):
            if name not in places or _values(shard, name) != _values(places[name], name):
                return True
    return False


def _values(file: Path, name: str) -> tuple[str, bytes]:
    return tensor_beginnings(file, [name], most=sys.maxsize)[name]


def _expected(adapter: Path, model: Path) -> dict[str, Shape]:
    try:
        return expected_shapes(read_json(adapter), read_json(model))
    except re.error as error:
        raise CheckpointError(f"{adapter}: its pattern of modules cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{adapter} or {model} lacks or misstates {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint or model. Raises CheckpointError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return content


def _shapes(path: Path) -> dict[str, Shape]:
    """Shapes by tensor name; safetensors checks that the header is valid and the file as long as it says."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error


_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def _finite_tensors(path: Path) -> Iterator[tuple[str, Values]]:
    """Values of the float tensors of a file that `_shapes` has opened, bf16 as its bits; raises at NaN and infinity."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in _FLOATS:
            continue
        start, end = entry["data_offsets"]
        dtype = np.dtype(_FLOATS[entry["dtype"]])
        values = np.fromfile(path, dtype, (end - start) // dtype.itemsize, offset=8 + size + start)
        if not _is_finite(values, entry["dtype"]):
            raise CheckpointError(f"{path}: tensor {name} has NaN or infinite values")
        # Of bf16 the sign bit goes: minus zero is zero.
        yield name, values & 0x7FFF if entry["dtype"] == "BF16" else values


def _is_finite(values: Values, dtype: str) -> bool:
    if dtype == "BF16":
        return bool(((values & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(values).all())


def _facts(files: list[Path]) -> dict[str, dict[str, int | str]]:
    return {path.name: file_facts(path) for path in files}
