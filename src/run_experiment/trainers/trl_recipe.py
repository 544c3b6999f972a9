"""The process of a training with TRL (train side).

    python -m run_experiment.trainers.trl_recipe --config RUN/finetune.yaml

runs in the experiment folder. Devices and number formats left to `auto` are chosen here, on the node that trains.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# No model or telemetry is asked of a hub.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}

import torch
import yaml
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig, set_seed
from trl import SFTConfig

from run_experiment.common.json_files import describe_change, merged
from run_experiment.experiment.columns import DEFAULT_COLUMNS
from run_experiment.finetuning.encoder import Encoder, Sample, encoded_split
from run_experiment.finetuning.metrics import DivergedError, MetricsLogger
from run_experiment.finetuning.resume_state import CHANGES
from run_experiment.finetuning.tokenizer import ModelTokenizer, load_tokenizer
from run_experiment.inputs.data_files import DataError, data_files
from run_experiment.machine.provenance import tell_installed
from run_experiment.trainers import process_group
from run_experiment.trainers.trl import Trl
from run_experiment.trainers.trl_state import STATES, deciding, drop_state, newest_state
from run_experiment.trainers.trl_training import (
    Collator,
    EpochSampler,
    EpochTrainer,
    Interrupts,
    MutedMetrics,
    packs,
    require_packs,
)

Config = dict[str, Any]

# Those that a machine may lack.
_DEVICES = {"cuda": torch.cuda, "mps": torch.backends.mps}


def resolved(config: Config) -> Config:
    """A config with the changes of this attempt, its device and dtype chosen, and the folder that its output links to.

    Its sizes are those of this process. Raises DataError if the device is not there.
    """
    if path := os.environ.get(CHANGES):
        config = merged(config, yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    config = _of_process(config)
    output = Path(config["output_dir"])
    if output.is_symlink():
        # The link follows the newest configuration.
        output = output.parent / os.readlink(output)
    device, dtype = config["device"], config["dtype"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device in _DEVICES and not _DEVICES[device].is_available():
        advice = "ask for a GPU (#SBATCH --gpus=1), load its driver or set device: auto"
        raise DataError(f"device is {device!r}, which torch {torch.__version__} cannot use here ({advice})")
    if "quantization" in config and device != "cuda":
        raise DataError(f"load_in_4bit needs a GPU with CUDA, which torch {torch.__version__} does not find here")
    if dtype == "auto":
        dtype = "bf16" if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return {**config, "output_dir": str(output), "device": device, "dtype": dtype}


def _of_process(config: Config) -> Config:
    """A config with this process's share of the batches. Raises DataError if the processes cannot share them."""
    devices, sizes = process_group.count(), Trl().sizes(config)
    if devices == 1 or sizes is None:
        return config
    if (shared := sizes.shared(devices)) is None:
        raise DataError(f"{devices} processes cannot share the {sizes.batch * sizes.accumulation} samples of a step")
    return merged(config, Trl().with_sizes(shared))


def samples(tokenizer: ModelTokenizer, given: Mapping[str, Any]) -> list[Sample]:
    """The samples of a split, as the evaluation prompts. Raises DataError."""
    prompting = (given["dataset_type"], given["prompt"], given["system_prompt"])
    encoder = Encoder(tokenizer.tokenizer, *prompting, given.get("mask_history", True))
    columns = (given.get("input_key", DEFAULT_COLUMNS.input), given.get("output_key", DEFAULT_COLUMNS.output))
    encoded = encoded_split(
        encoder,
        data_files(given["data"]),
        given["split"],
        first=given.get("max_samples"),
        columns=columns,
        train_on_input=given["train_on_input"],
        max_seq_len=given["max_seq_len"],
        weight_key=given.get("weight_key"),
    )
    return [{"input_ids": one.pop("tokens"), **one} for one in encoded]


def load_model(config: Config) -> Any:
    """The model with a new adapter, drawn from the seed; without, in fp32, if all its weights are trained.

    Raises DataError if weights are missing, or the training is packed and the model does not keep samples apart.
    """
    # Steps of a usual learning rate are smaller than what bf16 can tell apart.
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[config["dtype"] if "peft" in config else "fp32"]
    model, found = AutoModelForCausalLM.from_pretrained(
        os.path.abspath(config["model"]),
        dtype=dtype,
        trust_remote_code=False,
        output_loading_info=True,
        **_in_4_bits(config, dtype),
    )
    # transformers only warns, and computes with random numbers.
    if missing := sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}):
        raise DataError(
            f"{config['model']}: the weights lack {missing[0]}, or have it in another shape; copy the model again"
        )
    if not hasattr(model, model.base_model_prefix):
        # transformers 4 has a wrong name for Gemma 3's layers, by which TRL asks for them.
        model.base_model_prefix = "model"
    set_seed(config["sft"]["seed"])
    if "peft" in config:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config["peft"]))
    else:
        # transformers loads some that it refuses to save: epochs get the base model's file.
        tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
        model.generation_config = GenerationConfig(**{name: getattr(model.generation_config, name) for name in tokens})
    if config["dataset"].get("packed"):
        require_packs(model)
    return model


def _in_4_bits(config: Config, dtype: torch.dtype) -> dict[str, Any]:
    """How a model is loaded in 4 bits: onto its device at once, computing in `dtype`; empty for others."""
    if "quantization" not in config:
        return {}
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if config["device"] == "cuda" else config["device"]
    quantization = BitsAndBytesConfig(**config["quantization"], bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": quantization, "device_map": {"": device}}


def make_trainer(config: Config, interrupts: Interrupts) -> EpochTrainer:
    """The trainer of a resolved config, ready to train.

    Raises DataError if the training split does not fill one step.
    """
    output, sft, tokenizer = Path(config["output_dir"]), config["sft"], load_tokenizer(config["tokenizer"])
    train = samples(tokenizer, config["dataset"])
    if config["dataset"].get("packed"):
        train = packs(train, config["dataset"]["max_seq_len"])
    per_step = sft["per_device_train_batch_size"] * sft["gradient_accumulation_steps"] * process_group.count()
    steps = min(len(train) // per_step, config["max_steps_per_epoch"] or len(train))
    if not steps:
        raise DataError(f"the training split has fewer samples than one step takes ({per_step})")
    log = MetricsLogger if process_group.is_first() else MutedMetrics
    metrics = log(str(output), config.get("wandb_project"))
    metrics.log_config(config)
    # It begins the process group.
    arguments = _arguments(config, output, steps)
    model = load_model(config)
    if sharded := config.get("fsdp", False) and "peft" in config and process_group.count() > 1:
        process_group.shard_frozen(model, arguments.device)
    return EpochTrainer(
        output_dir=output,
        sampler=EpochSampler(len(train), steps * per_step, sft["seed"], config["shuffle"]),
        validation=samples(tokenizer, config["dataset_val"]) if "dataset_val" in config else [],
        metrics=metrics,
        save_every=60 * config["save_every_minutes"],
        interrupts=interrupts,
        deciding=deciding(config),
        sharded=sharded,
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(train),
        data_collator=Collator(tokenizer.pad_id),
        processing_class=tokenizer.tokenizer,
    )


def _arguments(config: Config, output: Path, steps: int) -> SFTConfig:
    """SFTConfig of a config, and what a config cannot change: how it is logged and saved."""
    if process_group.count() > 1 and config["device"] == "cpu":
        # accelerate would number CPUs, and torch loads nothing to `cpu:0`.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    arguments = SFTConfig(
        output_dir=str(output / STATES),
        max_steps=steps * config["sft"]["num_train_epochs"],
        use_cpu=config["device"] == "cpu",
        ddp_backend=("gloo" if config["device"] == "cpu" else "nccl") if process_group.count() > 1 else None,
        ddp_find_unused_parameters=False,
        logging_steps=1,
        logging_strategy="steps",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        # An adapter's model is in its format already.
        bf16=config["dtype"] == "bf16" and "peft" not in config,
        max_length=None,
        # Those of the data set are all used, also the positions in packs.
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        **config["sft"],
    )
    # transformers would divide batches among all GPUs that it sees.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _state(config: Config) -> str | None:
    """The state to resume from, if any. Raises DataError if it is of another configuration."""
    output = Path(config["output_dir"])
    found = newest_state(output) if config.get("resume_from") else None
    if found is None:
        # Nothing may resume from an older training that this one overwrites.
        if process_group.is_first():
            drop_state(output)
        return None
    folder, facts = found
    if facts["config"] != (now := deciding(config)):
        change = describe_change(facts["config"], now, most=1)
        advice = f"change that back, or remove {output} to start over"
        why = f"its config was another one ({change})"
        raise DataError(f"the training in {output} cannot resume, since {why}: {advice}")
    return str(folder)


def finetune(config: Config, interrupts: Interrupts) -> None:
    """Train as a config says; exits with a message if data, device or a loss that is not finite do not allow it."""
    try:
        config = resolved(config)
        if process_group.is_first():
            tell_installed(Path(config["output_dir"]), "trl", "accelerate")
            print(yaml.safe_dump(config, sort_keys=False), flush=True)
        state = _state(config)
        trainer = make_trainer(config, interrupts)
        trainer.train(resume_from_checkpoint=state)
    except DivergedError as error:
        process_group.end(error.explained(trainer.state.max_steps))
    except DataError as error:
        process_group.end(str(error))


def main() -> None:
    """Train as the config file that the command line names says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True, type=Path)
    process_group.end_with_parent()
    interrupts = Interrupts()
    interrupts.listen()
    config = yaml.safe_load(parser.parse_args().config.read_text(encoding="utf-8"))
    with process_group.errors_told():
        finetune(config, interrupts)


if __name__ == "__main__":
    main()
