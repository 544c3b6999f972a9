"""torchtune configs, as values and as text."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from run_experiment.common.paths import portable
from run_experiment.experiment.columns import DEFAULT_COLUMNS
from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.model import Training
from run_experiment.finetuning.architecture import ModelError, checkpoint_type, lora_builder, weight_files

COMPONENTS = "run_experiment.finetuning"

# Between `$` and `{`, and before the last character of OmegaConf's sign for a missing value.
_CUT = re.compile(r"(?<=\$)(?=\{)|(?<=^\?\?)(?=\?$)")
# What every YAML reader takes for the text it is; anything else is quoted.
_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)


def render_config(training: Training, output_dir: str, folder: Path, tokenizer: str | None = None) -> dict[str, Any]:
    """The complete config of a fine-tune for our recipe, which runs in `folder`: paths in it are relative to it.

    `tokenizer` is the folder of its tokenizer, None for the model's own.
    Raises ModelError where torchtune cannot train the model exactly.
    """
    given = training.hyperparameters
    builder = lora_builder(training.model.path)
    model_dir = _path(portable(training.model.path, folder))
    config: dict[str, Any] = {
        "output_dir": _path(output_dir),
        "tokenizer": {"_component_": f"{COMPONENTS}.tokenizer.load_tokenizer", "path": tokenizer or model_dir},
        "model": builder | _lora(given),
        "checkpointer": {
            "_component_": f"{COMPONENTS}.checkpointer.AdapterCheckpointer",
            "checkpoint_dir": model_dir,
            "checkpoint_files": weight_files(training.model.path),
            "model_type": checkpoint_type(training.model.path),
            "output_dir": _path(output_dir),
        },
        "resume_from_checkpoint": False,
        "save_adapter_weights_only": True,
        "dataset": _dataset(training, "train", builder["max_seq_len"], folder) | _train_split(given),
    }
    if given.packed:
        config["collate_fn"] = f"{COMPONENTS}.dataset.collate_packed"
    if given.validation_during_training:
        config["dataset_val"] = _dataset(training, "validation", builder["max_seq_len"], folder)
    return config | _loop(given) | _metrics(training, output_dir)


def max_seq_len(training: Training) -> int:
    """Tokens that a sample of a training is cut to. Raises ModelError where torchtune cannot train the model."""
    return _shorter(training.hyperparameters.max_seq_len, lora_builder(training.model.path)["max_seq_len"])


def _shorter(given: int | None, of_model: int) -> int:
    return min(given or of_model, of_model)


def render_yaml(training: Training, output_dir: str, folder: Path, tokenizer: str | None = None) -> str:
    """`render_config` as the text of a YAML file."""
    config = render_config(training, output_dir, folder, tokenizer)
    return "".join(_entry(json.dumps({name: value})) for name, value in config.items())


# Most entries are the same in all runs.
@cache
def _entry(entry: str) -> str:
    return yaml.dump(json.loads(entry), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)


def _lora(given: Hyperparameters) -> dict[str, Any]:
    return {
        "lora_attn_modules": list(given.lora_attn_modules),
        "apply_lora_to_mlp": given.apply_lora_to_mlp,
        "lora_rank": given.lora_rank,
        "lora_alpha": given.scaling,
        "lora_dropout": given.lora_dropout,
    }


def _dataset(training: Training, split: str, model_max_seq_len: int, folder: Path) -> dict[str, Any]:
    given = training.hyperparameters
    return {
        "_component_": f"{COMPONENTS}.dataset.PromptCompletionDataset",
        "data": _data(training, folder),
        "split": split,
        "dataset_type": training.prompting.dataset_type,
        "prompt": literal(training.prompting.prompt),
        "system_prompt": literal(training.prompting.system_prompt),
        "train_on_input": given.train_on_input,
        "max_seq_len": _shorter(given.max_seq_len, model_max_seq_len),
        **_columns(given),
        **({} if given.mask_history else {"mask_history": False}),
    }


def _data(training: Training, folder: Path) -> str | list[str | list[str]]:
    """The data file, or a list of several; one in pieces is in a list, too."""
    files = [literal(portable(file, folder)) for file in training.data]
    return files[0] if len(files) == 1 and isinstance(files[0], str) else files


def _columns(given: Hyperparameters) -> dict[str, Any]:
    if given.columns == DEFAULT_COLUMNS:
        return {}
    return {"input_key": literal(given.columns.input), "output_key": literal(given.columns.output)}


def _train_split(given: Hyperparameters) -> dict[str, Any]:
    """What a training does with its training split alone."""
    packed = {"_component_": f"{COMPONENTS}.dataset.packed_dataset"} if given.packed else {}
    return packed | ({"max_samples": given.training_samples} if given.training_samples else {})


def _loop(given: Hyperparameters) -> dict[str, Any]:
    return {
        "seed": given.seed,
        "shuffle": given.shuffle,
        "epochs": given.epochs,
        "batch_size": given.batch_size,
        "gradient_accumulation_steps": given.gradient_accumulation_steps,
        "max_steps_per_epoch": given.max_steps_per_epoch,
        "clip_grad_norm": given.clip_grad_norm,
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "fused": True,
            "lr": given.lr,
            "weight_decay": given.weight_decay,
        },
        "lr_scheduler": {
            "_component_": f"{COMPONENTS}.schedules.{given.lr_scheduler}",
            "num_warmup_steps": given.num_warmup_steps,
        },
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "compile": given.compile,
        "enable_activation_checkpointing": given.enable_activation_checkpointing,
        "enable_activation_offloading": given.enable_activation_offloading,
        "device": given.device,
        "dtype": given.dtype,
    }


def _metrics(training: Training, output_dir: str) -> dict[str, Any]:
    logger: dict[str, Any] = {
        "_component_": f"{COMPONENTS}.metrics.MetricsLogger",
        "output_dir": _path(output_dir),
    }
    if training.wandb_project:
        logger["wandb_project"] = literal(training.wandb_project)
    return {"metric_logger": logger, "log_every_n_steps": 1, "log_peak_memory_stats": True}


def literal(text: str) -> str | list[str]:
    """A user's text as OmegaConf leaves it alone: in pieces where it would be taken for an interpolation.

    Escaping does not do: torchtune resolves a config twice, so `\\${oc.env:HOME}` would arrive resolved.
    """
    pieces = _CUT.split(text)
    return text if len(pieces) == 1 else pieces


def _path(path: str) -> str:
    """A path for a component of torchtune's own, which takes no pieces."""
    if not isinstance(literal(path), str):
        raise ModelError(f"{path}: torchtune cannot use a path with `${{`")
    return path


class _Dumper(yaml.SafeDumper):
    """Quotes text that OmegaConf's reader could take for a number, as PyYAML's would not."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal values out each time."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"')


_Dumper.add_representer(str, _represent_text)
