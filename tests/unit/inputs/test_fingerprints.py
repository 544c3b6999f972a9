"""Fingerprints of base models follow their content, not their times."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from run_experiment.common.errors import CheckpointError
from run_experiment.inputs.fingerprints import model_fingerprint


@pytest.fixture
def big_model(tmp_path: Path) -> Path:
    """A model folder whose weights are larger than what is hashed whole."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(12_000_000))
    return folder


def test_fingerprint_follows_content_not_times(big_model: Path) -> None:
    before = model_fingerprint(big_model)
    for path in big_model.iterdir():
        os.utime(path, (1, 1))
    (big_model / "README.md").write_text("about")
    assert model_fingerprint(big_model) == before


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "chat_template.jinja", "merges.txt"])
def test_fingerprint_sees_small_files(big_model: Path, file: str) -> None:
    before = model_fingerprint(big_model)
    with (big_model / file).open("a") as text:
        text.write(" ")
    assert model_fingerprint(big_model) != before


def test_fingerprint_sees_weights(big_model: Path) -> None:
    seen = {model_fingerprint(big_model)}
    weights_file = big_model / "model.safetensors"
    content = np.frombuffer(weights_file.read_bytes(), np.uint8).copy()
    for part in (slice(0, 1), slice(-1, None), slice(6_000_000, 6_200_000)):
        content[part] ^= 1
        weights_file.write_bytes(content.tobytes())
        seen.add(model_fingerprint(big_model))
    weights_file.write_bytes(content.tobytes()[:-1])
    seen.add(model_fingerprint(big_model))
    weights_file.rename(big_model / "other.safetensors")
    seen.add(model_fingerprint(big_model))
    assert len(seen) == 6


def test_fingerprint_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model folder"):
        model_fingerprint(tmp_path / "nowhere")


def test_fingerprint_sees_each_tensor(tmp_path: Path) -> None:
    """Of 200 MB, of which the evenly spaced blocks are 2 %."""
    tensors = {f"layer{number}": np.zeros((100, 1000), np.float32) for number in range(500)}
    seen = set()
    for changed in (None, "layer0", "layer123", "layer499"):
        tensors |= {changed: np.ones((100, 1000), np.float32)} if changed else {}
        save_file(tensors, tmp_path / "model.safetensors")
        seen.add(model_fingerprint(tmp_path))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "header",
    [b"", b"[]", b'{"a": 1}', b'{"a": {"data_offsets": 3}}', b'{"a": {"data_offsets": [-9, 3]}}', b"\xff" * 20],
)
def test_fingerprint_of_what_only_has_the_name_of_safetensors(tmp_path: Path, header: bytes) -> None:
    content = len(header).to_bytes(8, "little") + header + bytes(5_000_000)
    (tmp_path / "model.safetensors").write_bytes(content)
    before = model_fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content[:-1] + b"1")
    assert model_fingerprint(tmp_path) != before
