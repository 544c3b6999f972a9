"""Keys of other trainers that mean nothing here, or something else: what to do instead, and where keys belong."""

from __future__ import annotations

from run_experiment.common.suggestions import SYNONYMS
from run_experiment.experiment.compute import Compute
from run_experiment.experiment.evaluation_section import EvaluationSection, EvaluationSettings
from run_experiment.experiment.schema import ControlsSection, OutputSection, Parameters, RunEntry
from run_experiment.experiment.section import Section

_LINES = "write it in the #SBATCH lines of the job script"
_MODEL = "name the model's folder in models.base"
_DATA = "name the data file in data.training.path, or that of one run in its data"
_VALIDATION = "put rows into a split named validation, and set validation_during_training: true"
_EVERY_EPOCH = "every epoch ends with a checkpoint"
_LORA = "leave it out for LoRA; write load_in_4bit: true for QLoRA, full_finetuning: true to train the whole model"
_PRECISION = "models are trained in bf16 or fp32 (dtype)"
_QUANTIZED = "write load_in_4bit: true with trainer: trl, or leave it out"
_GPUS = "write gpus: N in a run's compute, with trainer: trl"
_TEMPLATE = "the chat template is that of the model's folder (dataset_type: chat_completion)"
_ATTENTION = "leave it out: torch chooses it"
_MODULES = "write lora_target_modules: all-linear with trainer: trl, or lora_attn_modules and apply_lora_to_mlp"
_MLP = "write apply_lora_to_mlp: true for the matrices of the MLP"
_RESUMES = "leave it out: a training that was cut off resumes by itself"

_WAYS_OUT = {
    "adapter": _LORA,
    "attn_implementation": _ATTENTION,
    "base_model": _MODEL,
    "base_recipe": "write the recipe's values yourself",
    "bf16": "write dtype: bf16",
    "chat_template": _TEMPLATE,
    "custom_recipe": "write the command of another recipe in the run's finetune.slurm",
    "data_path": _DATA,
    "dataset": _DATA,
    "dataset_name": _DATA,
    "dataset_text_field": "name the columns in input_key and output_key",
    "datasets": "name the data file, or a list of several, in data.training.path",
    "deepspeed": _GPUS,
    "do_eval": _VALIDATION,
    "do_train": "leave it out: runs of type fine-tuned are trained",
    "eval_dataset_path": "name the data file in the task's dataset",
    "eval_steps": _VALIDATION,
    "eval_strategy": _VALIDATION,
    "evaluation_strategy": _VALIDATION,
    "exclude": _LINES,
    "finetuning_type": _LORA,
    "flash_attention": _ATTENTION,
    "flash_attn": _ATTENTION,
    "fp16": "write dtype: bf16 or fp32",
    "fsdp": _GPUS,
    "gres": "write gpus: N",
    "load_in_8bit": _QUANTIZED,
    "logging_steps": "leave it out: every step is logged",
    "lora_modules_to_save": "leave it out: runs train LoRA matrices alone",
    "lora_target": _MODULES,
    "lora_target_linear": _MODULES,
    "max_steps": "write epochs and max_steps_per_epoch",
    "model_name": _MODEL,
    "model_name_or_path": _MODEL,
    "modules_to_save": "leave it out: runs train LoRA matrices alone",
    "nodelist": _LINES,
    "nodes": "it is a key of a run's compute",
    "ntasks": "jobs are one process",
    "num_gpus": _GPUS,
    "optim": "leave it out: the optimizer is AdamW",
    "optimizer": "leave it out: the optimizer is AdamW; its lr and weight_decay are keys of controls",
    "output_dir": "checkpoints go to the runs' folders beside this file, or below output.base_directory",
    "quantization_bit": _QUANTIZED,
    "report_to": "name a project in output.wandb_project",
    "reservation": _LINES,
    "resume_from_checkpoint": _RESUMES,
    "save_adapter_weights_only": "checkpoints are always adapters here",
    "save_steps": _EVERY_EPOCH,
    "save_strategy": _EVERY_EPOCH,
    "stage": _LORA,
    "template": _TEMPLATE,
    "test_size": _VALIDATION,
    "tokenizer": "leave it out: the tokenizer is that of the model's folder; its max_seq_len is a key of controls",
    "train_file": _DATA,
    "val_set_size": _VALIDATION,
    "val_size": _VALIDATION,
    "warmup_ratio": "write num_warmup_steps",
}

# Values of other trainers, of any key, with what they are here.
_VALUES = {
    "all": _MODULES,
    "all-linear": _MODULES,
    "chat": "did you mean chat_completion?",
    "down_proj": _MLP,
    "float16": _PRECISION,
    "float32": "did you mean fp32?",
    "fp16": _PRECISION,
    "gate_proj": _MLP,
    "gpu": "did you mean cuda?",
    "up_proj": _MLP,
}
# Keys that are others in `evaluation` than in `controls`.
_OF_EVALUATION = {"batch_size": "max_connections", "metric": "scorers", "metrics": "scorers"}

# Sections whose keys are often written elsewhere, by what to call them.
_PLACES: tuple[tuple[str, type[Section]], ...] = (
    ("controls", ControlsSection),
    ("evaluation", EvaluationSettings),
    ("output", OutputSection),
    ("compute", Compute),
)


def way_out(key: str) -> str:
    """`; WHAT TO DO`, for a key of other tools that has no counterpart, or not with every value; else nothing."""
    instead = _WAYS_OUT.get(key)
    return f"; {instead}" if instead else ""


def way_out_of_value(key: str, value: object) -> str:
    """`; WHAT TO DO`, for a value of other tools; else nothing."""
    instead = _VALUES.get(value) if isinstance(value, str) else None
    if instead == _MODULES and not key.startswith("lora_"):
        return ""
    return f"; {instead}" if instead else ""


def right_place(key: str, section: type[Section]) -> str | None:
    """Where a key that is not one of `section` belongs, by its own name or that of other tools; None if nowhere."""
    name = SYNONYMS.get(key.lower(), key)
    if section is EvaluationSection and name in _OF_EVALUATION:
        return _OF_EVALUATION[name]
    if name in section.all_keys():
        return name
    if section is Parameters and name in RunEntry.all_keys():
        return f"runs[].{name}"
    place = next((place for place, model in _PLACES if name in model.all_keys()), None)
    if place == "controls" and section is RunEntry:
        place = "parameters"
    if place == "compute" and section is not RunEntry:
        place = "runs[].compute"
    return f"{place}.{name}" if place else None
