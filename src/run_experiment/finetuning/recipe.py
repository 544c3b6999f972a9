"""torchtune's LoRA recipe with what experiments need besides (train side).

    python -m run_experiment.finetuning.recipe --config RUN/finetune.yaml

runs in the experiment folder. Devices and number formats left to `auto` are chosen here, on the node that trains.
What a single training changes in its config, to go on from a checkpoint or with a smaller batch, is in a YAML file
that the environment variable RUN_EXPERIMENT_CHANGES names.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import Any, cast

import torch
import torchtune
from omegaconf import DictConfig, OmegaConf
from torchtune import config, training, utils
from torchtune.data import padded_collate_sft

from run_experiment.common.json_files import describe_change
from run_experiment.finetuning.metrics import DivergedError
from run_experiment.finetuning.resume_state import CHANGES, drop_state
from run_experiment.inputs.data_files import DataError
from run_experiment.machine.provenance import tell_installed

# What another try may change, what only says where and how much is written, and where model and data lie: what is in
# those the job compares.
_OF_A_TRY = frozenset(
    {
        "path",
        "checkpoint_dir",
        "data",
        "batch_size",
        "gradient_accumulation_steps",
        "resume_from_checkpoint",
        "adapter_checkpoint",
        "recipe_checkpoint",
        "output_dir",
        "metric_logger",
        "log_every_n_steps",
        "log_peak_memory_stats",
        "profiler",
    }
)
# Of a state: which config it is of.
_CONFIG = "config"


def _stock_recipe() -> Any:
    """torchtune's recipe class; its package refuses to be imported, so its file is."""
    path = Path(torchtune.__file__).parent.parent / "recipes" / "lora_finetune_single_device.py"
    spec = importlib.util.spec_from_file_location("lora_finetune_single_device", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"torchtune's recipe is not at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LoRAFinetuneRecipeSingleDevice


class FinetuneRecipe(_stock_recipe()):  # type: ignore[misc]
    """The stock recipe, plus: data order from the seed, validation loss after every epoch, epochs in the metrics.

    Resumed after an epoch, it trains as it would have without the interruption: on a CPU bit for bit, on a GPU as
    nearly as two trainings of the same config are alike.
    """

    def setup(self, cfg: DictConfig) -> None:
        """Set everything up.

        Raises DataError where the training split does not fill one step, ValueError where the state that is to be gone
        on from is of another config.
        """
        self._deciding = deciding(cfg)
        super().setup(cfg)
        if self._steps_per_epoch == 0:
            needed = cfg.batch_size * cfg.gradient_accumulation_steps
            raise DataError(f"the training split has fewer samples than one step takes ({needed})")
        # Else the gradients of batches that fill no step at the end of an epoch would go into the next one's first.
        self.max_steps_per_epoch = self._steps_per_epoch
        self._batch_size = cfg.batch_size
        self._validation_set = config.instantiate(cfg.get("dataset_val"), self._tokenizer)
        if not self._resume_from_checkpoint:
            # Nothing may go on from an older training that this one overwrites.
            drop_state(Path(self._output_dir))
        self._metric_logger.begin_epoch(self.epochs_run)
        if self._resume_from_checkpoint:
            # Last of all, since setting up draws random numbers.
            self._set_rng_states()

    @property
    def planned_steps(self) -> int:
        """Steps of the whole training."""
        return int(self.total_epochs * self._steps_per_epoch)

    def _update_recipe_state(self, checkpoint: dict[str, Any]) -> None:
        before = checkpoint.get(_CONFIG)
        # States of older versions have none.
        if before is not None and before != self._deciding:
            change = describe_change(before, self._deciding, most=1)
            raise ValueError(
                f"the training in {self._output_dir} cannot resume, since its config was another one ({change}): "
                f"change that back, or remove {self._output_dir} to start over"
            )
        self.epochs_run = checkpoint[training.EPOCHS_KEY]
        self._steps_run = checkpoint[training.STEPS_KEY]
        self.seed = checkpoint[training.SEED_KEY]
        self._rng_states = checkpoint[training.RNG_KEY]

    def _setup_lr_scheduler(self, *, last_epoch: int, **kwargs: Any) -> Any:
        if self._resume_from_checkpoint:
            # The stock recipe counts from 0 again.
            self.global_step = self._steps_run
            last_epoch = self.global_step - 1
        return super()._setup_lr_scheduler(last_epoch=last_epoch, **kwargs)

    def _setup_data(self, *args: Any, **kwargs: Any) -> Any:
        dataloader = super()._setup_data(*args, **kwargs)
        # The stock recipe shuffles with seed 0, whatever the config says.
        dataloader.sampler.seed = self.seed
        return dataloader

    def save_checkpoint(self, epoch: int) -> None:
        """End an epoch: log the validation loss if there is a validation split, then save its checkpoint.

        In this order, and with the rows on disk, so that no row is missing where another training goes on.
        Raises DivergedError instead of saving weights that are not finite.
        """
        self._require_finite_adapter(epoch)
        if self._validation_set is not None:
            self._metric_logger.log_dict({"validation_loss": self.validation_loss()}, step=self.global_step)
        self._metric_logger.sync()
        self._checkpointer.recipe_state = self._state()
        super().save_checkpoint(epoch)
        self._metric_logger.begin_epoch(epoch + 1)

    def _require_finite_adapter(self, epoch: int) -> None:
        """Raise DivergedError if the last step, whose loss was still finite, broke the adapter."""
        for weights in self._model.parameters():
            if weights.requires_grad and not torch.isfinite(weights).all():
                raise DivergedError("adapter", math.nan, epoch, self.global_step)

    def _state(self) -> dict[str, Any]:
        """What a resumed training needs besides the adapter."""
        return {
            training.EPOCHS_KEY: self.epochs_run,
            training.STEPS_KEY: self.global_step,
            training.SEED_KEY: self.seed,
            _CONFIG: self._deciding,
            training.OPT_KEY: self._optimizer.state_dict(),
            training.RNG_KEY: self._get_rng_states(),
            # Seed and epoch give the order of the data; the stock recipe asks for this, and does not use it.
            training.DATALOADER_KEY: {},
        }

    def _get_rng_states(self) -> dict[str, torch.Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._device)
        return states

    def _set_rng_states(self) -> None:
        torch.set_rng_state(self._rng_states["cpu"])
        if self._device.type == "cuda" and "cuda" in self._rng_states:
            torch.cuda.set_rng_state(self._rng_states["cuda"], self._device)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean loss of the validation split's completion tokens. Draws no random numbers."""
        samples = self._validation_set
        ignored = self._loss_fn.ignore_index
        total, tokens = 0.0, 0
        self._model.eval()
        for start in range(0, len(samples), self._batch_size):
            chosen = [samples[index] for index in range(start, min(start + self._batch_size, len(samples)))]
            batch = padded_collate_sft(chosen, padding_idx=self._tokenizer.pad_id, ignore_idx=ignored)
            utils.batch_to_device(batch, self._device)
            count = int((batch["labels"] != ignored).sum())
            total += float(self._loss_step(batch)) * count
            tokens += count
        self._model.train()
        return total / tokens


def apply_changes(cfg: DictConfig) -> DictConfig:
    """Merge what this training changes over a config: the YAML file that the environment names, if it does."""
    path = os.environ.get(CHANGES)
    return OmegaConf.merge(cfg, OmegaConf.load(path)) if path else cfg


class DeviceError(Exception):
    """The device of a config is not there; the message says why."""


def require_device(name: str) -> None:
    """Raise DeviceError unless a device can be used: torchtune would take the CPU in place of a missing GPU."""
    try:
        torch.empty(1, device=name)
    # What is missing decides which: AssertionError, NotImplementedError, RuntimeError.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        advice = "ask for a GPU (#SBATCH --gpus=1), load its driver or set device: auto"
        message = f"device is {name!r}, which torch {torch.__version__} cannot use here: {reason} ({advice})"
        raise DeviceError(message) from error


def resolve_output(cfg: DictConfig) -> DictConfig:
    """Write to the folder that the output folder links to now: the link follows the newest configuration."""
    link = Path(cfg.output_dir)
    if link.is_symlink():
        folder = str(link.parent / os.readlink(link))
        for part in (cfg, cfg.checkpointer, cfg.metric_logger):
            if part.get("output_dir") == str(link):
                part.output_dir = folder
    return cfg


def resolve_auto(cfg: DictConfig) -> DictConfig:
    """Choose device (CUDA if there is one) and dtype (bf16 if that GPU has it) where they are `auto`."""
    if cfg.device == "auto":
        cfg.device = "cuda" if torch.cuda.is_available() else "cpu"
    if cfg.dtype == "auto":
        cfg.dtype = "bf16" if cfg.device == "cuda" and _has_bf16() else "fp32"
    return cfg


def _has_bf16() -> bool:
    """Whether the GPU itself has it: emulated it is slower than fp32."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def deciding(cfg: DictConfig) -> dict[str, Any]:
    """The part of a resolved config that decides the result, which a training that resumes has to share."""
    return _deciding(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)))


def _deciding(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in _OF_A_TRY}
    return {name: _deciding(value) if isinstance(value, dict) else value for name, value in kept.items()}


def finetune(cfg: DictConfig) -> None:
    """Train as a config says; exits with a message if data, device or a loss that is not finite do not allow it."""
    cfg = resolve_output(resolve_auto(apply_changes(cfg)))
    try:
        require_device(cfg.device)
        tell_installed(Path(cfg.output_dir))
        config.log_config(recipe_name=FinetuneRecipe.__name__, cfg=cfg)
        recipe = FinetuneRecipe(cfg=cfg)
        recipe.setup(cfg=cfg)
        recipe.train()
    except DivergedError as error:
        sys.exit(error.explained(recipe.planned_steps))
    except (DeviceError, DataError) as error:
        sys.exit(str(error))
    recipe.cleanup()


if __name__ == "__main__":
    config.parse(finetune)()
