"""Weights of models that nobody computes with: all tensors of the right shapes, all zero."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from run_experiment.finetuning.model_files import expected_shapes


def write_weights(folder: Path, config: Mapping[str, Any]) -> None:
    """The weights that a model's config asks for, and a file in place of its tokenizer."""
    tensors = {name: np.zeros(shape, np.float32) for name, shape in expected_shapes(config).items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text("{}")
