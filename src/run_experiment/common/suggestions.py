"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Names that other trainers use (Hugging Face, PEFT, axolotl, LLaMA-Factory).
SYNONYMS = {
    "alpha": "lora_alpha",
    "bf16": "dtype",
    "cpus": "cpus_per_task",
    "cutoff_len": "max_seq_len",
    "dropout": "lora_dropout",
    "gradient_checkpointing": "enable_activation_checkpointing",
    "gradient_clipping": "clip_grad_norm",
    "gpus_per_node": "gpus",
    "learning_rate": "lr",
    "lora_r": "lora_rank",
    "lora_target_modules": "lora_attn_modules",
    "lr_scheduler_type": "lr_scheduler",
    "max_grad_norm": "clip_grad_norm",
    "max_length": "max_seq_len",
    "max_new_tokens": "max_tokens",
    "max_seq_length": "max_seq_len",
    "mem_gb": "mem",
    "memory": "mem",
    "micro_batch_size": "batch_size",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "precision": "dtype",
    "r": "lora_rank",
    "rank": "lora_rank",
    "run_val_every_n_steps": "validation_during_training",
    "sequence_len": "max_seq_len",
    "target_modules": "lora_attn_modules",
    "time_limit": "time",
    "torch_compile": "compile",
    "torch_dtype": "dtype",
    "train_batch_size": "batch_size",
    "walltime": "time",
    "warmup_steps": "num_warmup_steps",
}

# Keys of other tools that have no counterpart, or only one value here: what to do instead.
_LINES = "write it in the #SBATCH lines of the job script"
WAYS_OUT = {
    "custom_recipe": "write the command in the run's finetune.slurm",
    "exclude": _LINES,
    "gres": "write gpus: N",
    "input_formatting": "prompt is the template of the input",
    "input_key": "rename the column in the data file",
    "nodelist": _LINES,
    "nodes": "jobs run on one node",
    "ntasks": "jobs are one process",
    "output_key": "rename the column in the data file",
    "packed": "samples are not packed here",
    "reservation": _LINES,
    "save_adapter_weights_only": "checkpoints are always adapters here",
    "training_samples": "give the run a data file with these rows (data)",
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
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 12 else ""
