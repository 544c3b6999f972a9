from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from good_summary import FILES, MODEL, write
from model_weights import write_weights
from safetensors.numpy import save_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment's folder with all files that the good summary names, and without the summary."""
    for name, text in FILES.items():
        write(tmp_path, name, text)
    write_weights(tmp_path / "models/tiny", MODEL)
    save_file({"a": np.ones(2)}, tmp_path / "elsewhere/epoch_0/adapter_model.safetensors")
    return tmp_path
