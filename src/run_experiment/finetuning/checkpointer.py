"""Checkpoints: adapters that peft loads, in folders that are whole or not there (train side)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torchtune import training
from torchtune.models.convert_weights import tune_to_peft_adapter_config, tune_to_peft_adapter_weights
from torchtune.training import FullModelHFCheckpointer
from torchtune.training.checkpointing import ModelType

from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from run_experiment.finetuning.resume_state import RECIPE_STATE, TUNE_ADAPTER, drop_state, published_epoch

Tensors = dict[str, torch.Tensor]


class AdapterCheckpointer(FullModelHFCheckpointer):  # type: ignore[misc]
    """torchtune's Hugging Face checkpointer, which here writes adapters only.

    Differs from the stock one in what `epoch_N` holds: `adapter_model.safetensors` with the layout that the model's
    architecture has in transformers, `adapter_config.json` with the base model's absolute path, `adapter_model.pt`
    (torchtune's own layout, for resuming), and no `config.json`, by which transformers would take it for a whole model.
    The newest one holds `recipe_state.pt` too, also after the last epoch: what the recipe sets as `recipe_state`.
    """

    recipe_state: Mapping[str, Any]

    def load_checkpoint(self) -> dict[str, Any]:
        """The base model's weights (and, resuming, adapter and recipe state) in torchtune's layout."""
        self._config.setdefault("tie_word_embeddings", False)
        checkpoint: dict[str, Any] = super().load_checkpoint()
        if self._config["tie_word_embeddings"]:
            # Some tied models come with a copy of the embeddings as output layer.
            checkpoint[training.MODEL_KEY].pop("output.weight", None)
        return checkpoint

    def save_checkpoint(
        self,
        state_dict: dict[str, Any],
        epoch: int,
        intermediate_checkpoint: bool = False,
        adapter_only: bool = False,
    ) -> None:
        """Write `epoch_N`, with the recipe's state, and then remove the state of the epochs before."""
        if not adapter_only:
            raise ValueError("only adapters are saved: set save_adapter_weights_only")
        with published_epoch(self._output_dir, epoch) as folder:
            self._write(folder, state_dict[training.ADAPTER_KEY], state_dict[training.ADAPTER_CONFIG])
        drop_state(self._output_dir, keep=epoch)

    def _write(self, folder: Path, adapter: Tensors, config: Mapping[str, Any]) -> None:
        """Write an epoch's files."""
        torch.save(adapter, folder / TUNE_ADAPTER)
        save_file(self._peft_weights(adapter), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        (folder / ADAPTER_CONFIG).write_text(json.dumps(self._peft_config(config), indent=2) + "\n")
        torch.save(dict(self.recipe_state), folder / RECIPE_STATE)

    def _peft_weights(self, adapter: Tensors) -> Tensors:
        """The adapter in peft's layout: names, and order of the rows that rotary embeddings pair."""
        converted: Tensors = tune_to_peft_adapter_weights(
            adapter,
            num_heads=self._config["num_attention_heads"],
            num_kv_heads=self._config["num_key_value_heads"],
            dim=self._config["hidden_size"],
        )
        if self._model_type == ModelType.QWEN2:
            # torchtune keeps Qwen2's rows as transformers has them, yet reorders them here as it must for Llama.
            converted = dict(zip(converted, adapter.values(), strict=True))
        return {name: tensor.contiguous() for name, tensor in converted.items()}

    def _peft_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        base = os.fspath(self._checkpoint_dir.absolute())
        converted: dict[str, Any] = tune_to_peft_adapter_config(dict(config), base_model_name_or_path=base)
        return converted | {"task_type": "CAUSAL_LM"}
