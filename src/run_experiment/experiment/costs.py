"""Which hyperparameters change what a step of a training takes of time and memory."""

from __future__ import annotations

# Time, besides what the model and the data decide.
OF_SPEED = (
    "apply_lora_to_mlp",
    "batch_size",
    "compile",
    "device",
    "dtype",
    "enable_activation_checkpointing",
    "enable_activation_offloading",
    "gradient_accumulation_steps",
    "lora_attn_modules",
    "lora_rank",
    "max_seq_len",
)

# Memory, besides the batch.
OF_MEMORY = (
    "max_seq_len",
    "dtype",
    "compile",
    "enable_activation_checkpointing",
    "enable_activation_offloading",
)

# Both; records lack them where they are off.
IF_ON = ("packed", "use_dora", "lora_target_modules", "full_finetuning", "load_in_4bit", "fsdp")
