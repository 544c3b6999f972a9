"""Fixtures of the training tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tiny_model import make_tiny_model

# More threads only get into each other's way with models this small.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama model."""
    return make_tiny_model(tmp_path_factory.mktemp("llama"))
