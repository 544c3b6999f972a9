"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Names that other trainers use (Hugging Face, PEFT, axolotl, LLaMA-Factory).
SYNONYMS = {
    "alpha": "lora_alpha",
    "cpus": "cpus_per_task",
    "cutoff_len": "max_seq_len",
    "data_seed": "seed",
    "dropout": "lora_dropout",
    "fsdp_config": "fsdp",
    "fsdp_version": "fsdp",
    "full_finetune": "full_finetuning",
    "gradient_checkpointing": "enable_activation_checkpointing",
    "gradient_clipping": "clip_grad_norm",
    "gpus_per_node": "gpus",
    "learning_rate": "lr",
    "lora_r": "lora_rank",
    "lr_scheduler_type": "lr_scheduler",
    "max_grad_norm": "clip_grad_norm",
    "max_length": "max_seq_len",
    "max_new_tokens": "max_tokens",
    "max_samples": "training_samples",
    "max_seq_length": "max_seq_len",
    "mem_gb": "mem",
    "memory": "mem",
    "micro_batch_size": "batch_size",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "packing": "packed",
    "per_device_train_batch_size": "batch_size",
    "precision": "dtype",
    "r": "lora_rank",
    "random_state": "seed",
    "rank": "lora_rank",
    "run_val_every_n_steps": "validation_during_training",
    "sample_packing": "packed",
    "sequence_len": "max_seq_len",
    "target_modules": "lora_target_modules",
    "time_limit": "time",
    "torch_compile": "compile",
    "torch_dtype": "dtype",
    "train_batch_size": "batch_size",
    "use_gradient_checkpointing": "enable_activation_checkpointing",
    "walltime": "time",
    "warmup_steps": "num_warmup_steps",
}


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that means the same as `word` or resembles it most; None if none does."""
    by_lower = {name.lower(): name for name in known}
    synonym = by_lower.get(SYNONYMS.get(word.lower(), ""))
    if synonym:
        return synonym
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?`; if no name is similar and there are only a few, all known names."""
    names = list(known)
    match = closest(word, names)
    if match:
        return f"; did you mean {match}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 16 else ""
