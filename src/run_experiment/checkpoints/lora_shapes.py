"""Which tensors a LoRA adapter on a Llama-like model must hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Architectures whose projections have the names and shapes that `_projections` gives.
LLAMA_LIKE = frozenset({"llama", "mistral", "qwen2", "qwen3"})

PROJECTIONS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})

Shape = tuple[int, ...]


def expected_shapes(adapter: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensors that a LoRA adapter must hold, from its `adapter_config.json` and the base model's `config.json`.

    Empty for adapters that are not LoRA and for architectures that are not like Llama.
    """
    if adapter.get("peft_type", "LORA") != "LORA" or model.get("model_type") not in LLAMA_LIKE:
        return {}
    expected: dict[str, Shape] = {}
    for layer in _layers(adapter, int(model["num_hidden_layers"])):
        for projection, (rows, columns) in _projections(model).items():
            module = f"model.layers.{layer}.{projection}"
            if _is_target(module, adapter.get("target_modules")) and not _is_target(
                module, adapter.get("exclude_modules")
            ):
                rank = _rank(module, adapter)
                expected[f"base_model.model.{module}.lora_A.weight"] = (rank, columns)
                expected[f"base_model.model.{module}.lora_B.weight"] = (rows, rank)
    return expected


def _projections(model: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Linear layers of a block: output and input size by name."""
    hidden, inner, heads = (int(model[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    head_dim = int(model.get("head_dim") or hidden // heads)
    keys = head_dim * int(model.get("num_key_value_heads") or heads)
    return {
        "self_attn.q_proj": (head_dim * heads, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, head_dim * heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def _layers(adapter: Mapping[str, Any], count: int) -> list[int]:
    chosen = adapter.get("layers_to_transform")
    if isinstance(chosen, int):
        return [chosen]
    return list(chosen or range(count))


def _is_target(module: str, targets: Any) -> bool:
    """Whether peft gives a module LoRA matrices: `targets` is a list of name ends, a pattern or `all-linear`."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, module) is not None
    return any(module == target or module.endswith(f".{target}") for target in targets or [])


def _rank(module: str, adapter: Mapping[str, Any]) -> int:
    for pattern, rank in (adapter.get("rank_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return int(rank)
    return int(adapter["r"])
