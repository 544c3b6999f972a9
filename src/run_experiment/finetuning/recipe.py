"""torchtune's LoRA recipe with what experiments need besides (train side).

    python -m run_experiment.finetuning.recipe --config RUN/finetune.yaml

runs in the experiment folder. Devices and number formats left to `auto` are chosen here, on the node that trains.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
import torchtune
from omegaconf import DictConfig
from torchtune import config, utils
from torchtune.data import padded_collate_sft

from run_experiment.data import DataError


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
    """The stock recipe, plus: data order from the seed, validation loss after every epoch, epochs in the metrics."""

    def setup(self, cfg: DictConfig) -> None:
        """Set everything up. Raises DataError where the training split does not fill one step."""
        super().setup(cfg)
        if self._steps_per_epoch == 0:
            needed = cfg.batch_size * cfg.gradient_accumulation_steps
            raise DataError(f"the training split has fewer samples than one step takes ({needed})")
        self._batch_size = cfg.batch_size
        self._validation_set = config.instantiate(cfg.get("dataset_val"), self._tokenizer)
        self._metric_logger.begin_epoch(self.epochs_run)

    def _setup_data(self, *args: Any, **kwargs: Any) -> Any:
        dataloader = super()._setup_data(*args, **kwargs)
        # The stock recipe shuffles with seed 0, whatever the config says.
        dataloader.sampler.seed = self.seed
        return dataloader

    def save_checkpoint(self, epoch: int) -> None:
        """End an epoch: save its checkpoint, then log the validation loss if there is a validation split."""
        super().save_checkpoint(epoch)
        if self._validation_set is not None:
            self._metric_logger.log_dict({"validation_loss": self.validation_loss()}, step=self.global_step)
        self._metric_logger.begin_epoch(epoch + 1)

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


def resolve_auto(cfg: DictConfig) -> DictConfig:
    """Choose device (CUDA if there is one) and dtype (bf16 if that GPU has it) where they are `auto`."""
    if cfg.device == "auto":
        cfg.device = "cuda" if torch.cuda.is_available() else "cpu"
    if cfg.dtype == "auto":
        cfg.dtype = "bf16" if cfg.device == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return cfg


def finetune(cfg: DictConfig) -> None:
    """Train as a config says."""
    cfg = resolve_auto(cfg)
    config.log_config(recipe_name=FinetuneRecipe.__name__, cfg=cfg)
    recipe = FinetuneRecipe(cfg=cfg)
    recipe.setup(cfg=cfg)
    recipe.train()
    recipe.cleanup()


if __name__ == "__main__":
    config.parse(finetune)()
