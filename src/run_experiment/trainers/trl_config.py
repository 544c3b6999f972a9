"""The config of a training with TRL: what each key of the summary becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import yaml

from run_experiment.common.paths import portable
from run_experiment.experiment.columns import DEFAULT_COLUMNS
from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.model import Training
from run_experiment.finetuning.architecture import ModelError
from run_experiment.finetuning.model_files import folder_problem, weight_shapes
from run_experiment.inputs.data_files import as_named

SFT = "sft"
# TRL's names of the sizes.
BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_ATTENTION = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "output_proj": "o_proj"}
_MLP = ("gate_proj", "up_proj", "down_proj")
# Layers that some architectures have in place of several, which can only be adapted together.
_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
ALL_LINEAR = "all-linear"
# QLoRA, in the names of transformers' BitsAndBytesConfig: the format of its paper.
_QLORA = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
# Ends of the names of embeddings and output layers, which are no part of what repeats by layer.
_OUTER = ("embed_tokens", "lm_head", "embed_out", "wte", "wpe")
# Keys of a config.json with the sizes of a part that is not for text alone, by how they end.
_PARTS = ("vision_config", "audio_config", "text_config", "thinker_config")
# Minutes of work that an interruption costs at the most.
_SAVE_EVERY = 10


def render(training: Training, output_dir: str, folder: Path, tokenizer: str | None = None) -> dict[str, Any]:
    """The complete config of a training that runs in `folder`; `sft` is for SFTConfig, `peft` for LoraConfig.

    Raises ModelError.
    """
    given, model = training.hyperparameters, portable(training.model.path, folder)
    config: dict[str, Any] = {
        "trainer": "trl",
        "model": model,
        "tokenizer": tokenizer or model,
        "output_dir": output_dir,
        "device": given.device,
        "dtype": given.dtype,
        "save_every_minutes": _SAVE_EVERY,
        "dataset": _dataset(training, "train", folder) | _first(given),
    }
    if given.validation_during_training:
        config["dataset_val"] = _dataset(training, "validation", folder)
    if given.fsdp:
        config["fsdp"] = True
    config |= {"shuffle": given.shuffle, "max_steps_per_epoch": given.max_steps_per_epoch}
    config |= {"quantization": _QLORA} if given.load_in_4bit else {}
    config |= {} if given.full_finetuning else {"peft": _lora(given, training.model.path)}
    config[SFT] = _sft(given)
    return config | ({"wandb_project": training.wandb_project} if training.wandb_project else {})


def render_yaml(training: Training, output_dir: str, folder: Path, tokenizer: str | None = None) -> str:
    """`render` as the text of a YAML file."""
    config = render(training, output_dir, folder, tokenizer)
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=2**31)


def max_seq_len(training: Training) -> int:
    """Tokens that a sample is cut to: at most what the model can take. Raises ModelError."""
    given, most = training.hyperparameters.max_seq_len, _config(training.model.path).get("max_position_embeddings")
    known = [number for number in (given, most) if isinstance(number, int)]
    if not known:
        raise ModelError(f"{training.model.path}: config.json lacks max_position_embeddings: give max_seq_len")
    return min(known)


def model_problem(model_dir: Path) -> str | None:
    """Why a model cannot be trained. Raises ModelError or CheckpointError."""
    config = _config(model_dir)
    if not isinstance(config.get("model_type"), str):
        return f"{model_dir / 'config.json'} has no model_type, by which transformers knows an architecture"
    if part := next((key for key in _PARTS if key in config), None):
        advice = "only text is trained: save its language model by itself, as …ForCausalLM"
        return f"{model_dir} is made of several models ({part} in config.json); {advice}"
    if config.get("quantization_config"):
        return f"{model_dir}: its weights are quantized"
    return folder_problem(model_dir)


# Why a key that is set cannot be done; `docs` has the same texts.
CANNOT: Mapping[str, str] = {
    "compile": "torch.compile is not tested with it",
    "enable_activation_offloading": "is not tested with it",
}


# What leaves no weights that could be divided among GPUs.
_NOT_DIVIDED = ("full_finetuning", "load_in_4bit")


def option_problems(given: Hyperparameters, model_dir: Path) -> dict[str, str]:
    """Why keys that are set cannot be done, by their name. Raises ModelError or CheckpointError."""
    found = {key: f"cannot be used with trl: {why}" for key, why in CANNOT.items() if getattr(given, key)}
    if given.load_in_4bit and given.device == "cpu":
        found["load_in_4bit"] = "needs a GPU with CUDA, and device is cpu"
    if given.fsdp and (other := next((key for key in _NOT_DIVIDED if getattr(given, key)), None)):
        found["fsdp"] = f"divides frozen weights that are not quantized: leave it out, or {other}"
    try:
        if not given.full_finetuning:
            _targets(given, model_dir)
    except ModelError as error:
        found["lora_target_modules" if given.lora_target_modules else "lora_attn_modules"] = str(error)
    return found


def _dataset(training: Training, split: str, folder: Path) -> dict[str, Any]:
    given, prompting = training.hyperparameters, training.prompting
    found: dict[str, Any] = {
        "data": as_named([portable(file, folder) for file in training.data]),
        "split": split,
        "dataset_type": prompting.dataset_type,
        "prompt": prompting.prompt,
        "system_prompt": prompting.system_prompt,
        "train_on_input": given.train_on_input,
        "max_seq_len": max_seq_len(training),
    }
    columns = {"input_key": given.columns.input, "output_key": given.columns.output}
    found |= columns if given.columns != DEFAULT_COLUMNS else {}
    return found | ({} if given.mask_history else {"mask_history": False})


def _first(given: Hyperparameters) -> dict[str, Any]:
    """What a training does with its training split alone."""
    chosen = {"packed": given.packed, "max_samples": given.training_samples, "weight_key": given.weight_key}
    return {name: value for name, value in chosen.items() if value}


def _lora(given: Hyperparameters, model_dir: Path) -> dict[str, Any]:
    return {
        "r": given.lora_rank,
        "lora_alpha": given.scaling,
        "lora_dropout": given.lora_dropout,
        "target_modules": _targets(given, model_dir),
        **_variant(given),
    }


def _variant(given: Hyperparameters) -> dict[str, bool]:
    """peft's names of what is not plain LoRA; absent for plain LoRA, as in older configs."""
    chosen = {"use_dora": given.use_dora, "use_rslora": given.use_rslora}
    return {name: True for name, wanted in chosen.items() if wanted}


def _targets(given: Hyperparameters, model_dir: Path) -> list[str] | str:
    """Names of the model's layers that get LoRA matrices, or `all-linear`. Raises ModelError if it lacks one."""
    layers = _layers(model_dir)
    if given.lora_target_modules:
        return _named(given.lora_target_modules, layers, model_dir)
    asked = [_ATTENTION[name] for name in given.lora_attn_modules] + list(_MLP if given.apply_lora_to_mlp else ())
    fused = {part: whole for whole, parts in _FUSED.items() if whole in layers for part in parts}
    targets = list(dict.fromkeys(fused.get(name, name) for name in asked))
    for whole in set(targets) & _FUSED.keys():
        if missing := [part for part in _FUSED[whole] if part not in asked]:
            together = ", ".join(_FUSED[whole])
            raise ModelError(f"lacks {missing[0]}: {model_dir} has {together} in one layer, {whole}")
    if unknown := next((name for name in targets if name not in layers), None):
        there = ", ".join(sorted(layers))
        raise ModelError(
            f"{model_dir} has no layers named {unknown}; lora_target_modules can name those there: {there}"
        )
    return targets


def _layers(model_dir: Path) -> set[str]:
    """Names of the model's layers with a matrix, as peft takes them, but for those before and after all others."""
    matrices = [name.split(".") for name, shape in weight_shapes(model_dir).items() if len(shape) == 2]
    return {name[-2] for name in matrices if len(name) > 2 and name[-2] not in _OUTER}


def _named(targets: Sequence[str], layers: Set[str], model_dir: Path) -> list[str] | str:
    """Layers by the model's own names. Raises ModelError if it lacks one."""
    if ALL_LINEAR in targets:
        return ALL_LINEAR
    if unknown := next((name for name in targets if name not in layers), None):
        raise ModelError(f"{model_dir} has no layers named {unknown}; there are {', '.join(sorted(layers))}")
    return list(dict.fromkeys(targets))


def _sft(given: Hyperparameters) -> dict[str, Any]:
    """What SFTConfig takes."""
    return {
        "seed": given.seed,
        "num_train_epochs": given.epochs,
        BATCH: given.batch_size,
        ACCUMULATION: given.gradient_accumulation_steps,
        "optim": "adamw_torch_fused",
        "learning_rate": given.lr,
        "weight_decay": given.weight_decay,
        "lr_scheduler_type": _SCHEDULES[given.lr_scheduler],
        "warmup_steps": given.num_warmup_steps,
        "max_grad_norm": given.clip_grad_norm or 0.0,
        "gradient_checkpointing": given.enable_activation_checkpointing,
    }


def _config(model_dir: Path) -> dict[str, Any]:
    try:
        content = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {model_dir / 'config.json'}: {error}") from error
    return content if isinstance(content, dict) else {}
