"""Which tensors an adapter of any kind must hold: peft is asked, with a model that has no weights.

Imports torch, which takes seconds; plain LoRA on models like Llama needs none of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from run_experiment.checkpoints.lora_shapes import LLAMA_LIKE, PROJECTIONS
from run_experiment.common.errors import CheckpointError
from run_experiment.common.paths import ADAPTER_CONFIG

# Keys of an adapter's config that ask for more than two matrices of each projection.
_MORE = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters", "use_qalora")


def is_plain(adapter: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether an adapter is plain LoRA on the projections of a model like Llama."""
    targets = adapter.get("target_modules")
    ends = {str(name).rpartition(".")[2] for name in targets} if isinstance(targets, list) else set()
    return (
        adapter.get("peft_type", "LORA") == "LORA"
        and model.get("model_type") in LLAMA_LIKE
        and not any(adapter.get(key) for key in _MORE)
        and _has_plain_sizes(adapter)
        and (not isinstance(targets, list) or bool(ends & PROJECTIONS))
        and not {"embed_tokens", "lm_head"} & ends
    )


def _has_plain_sizes(adapter: Mapping[str, Any]) -> bool:
    """Whether rank and scaling are numbers that peft computes with."""
    rank, alpha = adapter.get("r", 8), adapter.get("lora_alpha", 8)
    return type(rank) is int and isinstance(alpha, int | float)


def demanded_tensors(checkpoint: Path, model: Path) -> list[str]:
    """Names of all tensors that an adapter on a model must hold; empty if peft cannot tell.

    Raises CheckpointError for an adapter's config that peft cannot read, or not use with the model.
    """
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(checkpoint))
    # A kind that peft does not know, or a value that it does not take: KeyError, TypeError, ValueError, its own.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise CheckpointError(f"{checkpoint / ADAPTER_CONFIG}: peft cannot read it ({reason})") from error
    try:
        return _of_peft(config, model)
    # Layers that the model has not, a pattern that is none, a size that is no number.
    except (ValueError, TypeError, re.error) as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise CheckpointError(f"{checkpoint / ADAPTER_CONFIG}: peft cannot put it on {model} ({reason})") from error
    # An adapter that peft cannot make without weights fails where it is loaded, with its own message.
    except Exception:
        return []


def _of_peft(config: Any, model: Path) -> list[str]:
    import torch
    from peft import get_peft_model, get_peft_model_state_dict
    from transformers import AutoConfig, AutoModelForCausalLM

    if hasattr(config, "init_lora_weights"):
        # How it began needs weights to compute with, and does not matter any more.
        config.init_lora_weights = True
    config.inference_mode = False
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model, trust_remote_code=False))
    adapted = get_peft_model(base, config, low_cpu_mem_usage=True)
    return list(get_peft_model_state_dict(adapted, save_embedding_layers=False))
