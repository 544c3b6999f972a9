"""Checkpoints: each way of being broken is found and named; adapters become loadable; fingerprints follow content."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from run_experiment.checkpoints.lora_shapes import expected_shapes
from run_experiment.checkpoints.publish import publish_checkpoint
from run_experiment.checkpoints.verify import checkpoint_files, has_tokenizer, verify_checkpoint
from run_experiment.common.errors import CheckpointError
from run_experiment.experiment.model import Model
from run_experiment.inputs.file_hashes import file_hash

BASE_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
}
LORA_CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 3, "target_modules": ["q_proj", "v_proj", "down_proj"]}
Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
V_B = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"

Tensors = dict[str, np.ndarray]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE_CONFIG))
    return Model("base", folder)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter as torchtune leaves it: with a copy of the base model's config and without its path."""
    folder = tmp_path / "epoch_0"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE_CONFIG))
    (folder / "adapter_config.json").write_text(json.dumps(LORA_CONFIG))
    random = np.random.default_rng(0)
    shapes = expected_shapes(LORA_CONFIG, BASE_CONFIG)
    save_file({name: random.standard_normal(shape, "f4") for name, shape in shapes.items()}, weights(folder))
    return folder


def weights(folder: Path) -> Path:
    return folder / "adapter_model.safetensors"


def change(folder: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = load_file(weights(folder))
    edit(tensors)
    save_file(tensors, weights(folder))


def save_bf16(path: Path, tensors: Tensors) -> None:
    """numpy has no bf16, so the file is written by hand: the upper halves of float32."""
    header: dict[str, Any] = {}
    data = b""
    for name, values in tensors.items():
        half = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": [len(data), len(data) + len(half)]}
        data += half
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_expected_shapes() -> None:
    shapes = expected_shapes({"r": 3, "target_modules": "all-linear"}, BASE_CONFIG)
    block = {name.split("layers.1.")[1]: shape for name, shape in shapes.items() if "layers.1." in name}
    assert block == {
        "self_attn.q_proj.lora_A.weight": (3, 8),
        "self_attn.q_proj.lora_B.weight": (8, 3),
        "self_attn.k_proj.lora_A.weight": (3, 8),
        "self_attn.k_proj.lora_B.weight": (4, 3),
        "self_attn.v_proj.lora_A.weight": (3, 8),
        "self_attn.v_proj.lora_B.weight": (4, 3),
        "self_attn.o_proj.lora_A.weight": (3, 8),
        "self_attn.o_proj.lora_B.weight": (8, 3),
        "mlp.gate_proj.lora_A.weight": (3, 8),
        "mlp.gate_proj.lora_B.weight": (12, 3),
        "mlp.up_proj.lora_A.weight": (3, 8),
        "mlp.up_proj.lora_B.weight": (12, 3),
        "mlp.down_proj.lora_A.weight": (3, 12),
        "mlp.down_proj.lora_B.weight": (8, 3),
    }
    assert len(shapes) == 2 * len(block)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 12),
        ({"layers_to_transform": [1]}, 6),
        ({"layers_to_transform": 0}, 6),
        ({"exclude_modules": ["v_proj"]}, 8),
        ({"target_modules": r".*\.q_proj"}, 4),
        ({"target_modules": ["layers.0.mlp.up_proj"]}, 2),
        ({"peft_type": "IA3"}, 0),
    ],
)
def test_targets(change: dict[str, Any], count: int) -> None:
    assert len(expected_shapes(LORA_CONFIG | change, BASE_CONFIG)) == count


def test_head_size_and_rank_of_their_own() -> None:
    config = LORA_CONFIG | {"rank_pattern": {"layers.0.self_attn.q_proj": 5}}
    shapes = expected_shapes(config, BASE_CONFIG | {"head_dim": 6})
    assert shapes[Q_A] == (5, 8)
    assert shapes[Q_A.replace("lora_A", "lora_B")] == (24, 5)
    assert shapes[V_B] == (12, 3)


def test_whole_adapter(adapter: Path, model: Model) -> None:
    facts = verify_checkpoint(adapter, model)
    assert (facts.kind, facts.tensors, facts.rank) == ("adapter", 12, 3)
    assert set(facts.files) == {"adapter_config.json", "adapter_model.safetensors"}
    stat = weights(adapter).stat()
    assert facts.files["adapter_model.safetensors"] == {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": file_hash(weights(adapter)),
    }
    assert [path.name for path in checkpoint_files(adapter)] == list(facts.files)


BROKEN: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda tensors: tensors.pop(V_B), f"lacks tensor {V_B}"),
    "shape": (lambda tensors: tensors.update({V_B: np.ones((5, 3), "f4")}), rf"{V_B} has shape \(5, 3\)"),
    "nan": (lambda tensors: tensors[V_B].__setitem__((1, 2), np.nan), f"tensor {V_B} has NaN"),
    "infinite": (lambda tensors: tensors[Q_A].__setitem__((0, 0), -np.inf), f"tensor {Q_A} has NaN or infinite"),
    "zero A": (lambda tensors: tensors[Q_A].fill(0), f"tensor {Q_A} is all zero"),
    "untrained": (lambda tensors: [tensors[name].fill(0) for name in tensors if "lora_B" in name], "never trained"),
    "empty": (lambda tensors: tensors.clear(), "holds no tensors"),
    "more than its config": (
        lambda tensors: tensors.update({V_B.replace("v_proj", "k_proj"): np.ones((12, 3), "f4")}),
        f"has tensor {V_B.replace('v_proj', 'k_proj')}, which adapter_config.json leaves out",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tensor_is_named(adapter: Path, model: Model, case: str) -> None:
    edit, message = BROKEN[case]
    change(adapter, edit)
    with pytest.raises(CheckpointError, match=message) as caught:
        verify_checkpoint(adapter, model)
    assert str(weights(adapter)) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_truncated_file(adapter: Path, model: Model, keep: int) -> None:
    weights(adapter).write_bytes(weights(adapter).read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is not a whole safetensors file"):
        verify_checkpoint(adapter, model)


@pytest.mark.parametrize("start", [0, 0.5])
def test_zero_filled_file(adapter: Path, model: Model, start: float) -> None:
    content = weights(adapter).read_bytes()
    kept = int(len(content) * start)
    weights(adapter).write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(CheckpointError, match=r"not a whole safetensors file|is all zero"):
        verify_checkpoint(adapter, model)


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_other_number_formats(adapter: Path, model: Model, dtype: str) -> None:
    def convert(tensors: Tensors) -> None:
        tensors.update({name: values.astype(dtype) for name, values in tensors.items()})

    change(adapter, convert)
    assert verify_checkpoint(adapter, model).tensors == 12
    change(adapter, BROKEN["nan"][0])
    with pytest.raises(CheckpointError, match="NaN"):
        verify_checkpoint(adapter, model)


@pytest.mark.parametrize("case", ["nan", "infinite", "zero A", "untrained"])
def test_bf16(adapter: Path, model: Model, case: str) -> None:
    tensors = load_file(weights(adapter))
    save_bf16(weights(adapter), tensors)
    assert verify_checkpoint(adapter, model).tensors == 12
    edit, message = BROKEN[case]
    edit(tensors)
    save_bf16(weights(adapter), {name: -values for name, values in tensors.items()})
    with pytest.raises(CheckpointError, match=message):
        verify_checkpoint(adapter, model)


def test_what_is_not_there(adapter: Path, model: Model, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no checkpoint folder {tmp_path / 'epoch_9'}"):
        verify_checkpoint(tmp_path / "epoch_9", model)
    weights(adapter).unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is missing"):
        verify_checkpoint(adapter, model)
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"epoch_0 holds no adapter .* and no model"):
        verify_checkpoint(adapter, model)


@pytest.mark.parametrize("config", ["{", "[]", '{"target_modules": ["q_proj"]}'])
def test_unusable_adapter_config(adapter: Path, model: Model, config: str) -> None:
    (adapter / "adapter_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        verify_checkpoint(adapter, model)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"target_modules": ["q_proj", "v_proj"]},
            r"has tensor .*down_proj\.lora_A\.weight, which adapter_config\.json",
        ),
        ({"layers_to_transform": [0]}, r"has tensor .*layers\.1\..*, which adapter_config\.json leaves out"),
        ({"target_modules": "*(q"}, r"adapter_config\.json: its pattern of modules cannot be read: nothing to repeat"),
        ({"lora_alpha": 0}, r"adapter_config\.json: lora_alpha is 0, so the adapter changes nothing"),
    ],
)
def test_an_adapter_that_would_be_used_in_part(
    adapter: Path, model: Model, values: dict[str, Any], message: str
) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps(LORA_CONFIG | values))
    with pytest.raises(CheckpointError, match=message):
        verify_checkpoint(adapter, model)


def test_an_adapter_in_integers(adapter: Path, model: Model) -> None:
    save_file({name: values.astype("i1") for name, values in load_file(weights(adapter)).items()}, weights(adapter))
    with pytest.raises(CheckpointError, match=r"lora_A\.weight is in I8: save the adapter in fp32, fp16 or bf16"):
        verify_checkpoint(adapter, model)


def test_adapter_of_another_model(adapter: Path, model: Model) -> None:
    (model.path / "config.json").write_text(json.dumps(BASE_CONFIG | {"hidden_size": 16}))
    with pytest.raises(CheckpointError, match=r"has shape \(3, 8\), expected \(3, 16\)"):
        verify_checkpoint(adapter, model)


@pytest.fixture
def whole_model(tmp_path: Path) -> Path:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE_CONFIG))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": np.ones(4, "f4"), "ids": np.arange(3)}, folder / "model-1.safetensors")
    save_file({"b": np.ones(4, "f2")}, folder / "model-2.safetensors")
    return folder


def test_whole_model(whole_model: Path, model: Model) -> None:
    facts = verify_checkpoint(whole_model, model)
    assert (facts.kind, facts.tensors, facts.rank, len(facts.files)) == ("model", 3, None, 4)


def test_how_a_whole_model_generates_is_a_part_of_it(whole_model: Path, model: Model) -> None:
    (whole_model / "generation_config.json").write_text("{}")
    assert "generation_config.json" in verify_checkpoint(whole_model, model).files
    for weights in whole_model.glob("*.safetensors"):
        weights.unlink()
    (whole_model / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="holds no adapter"):
        checkpoint_files(whole_model)


def test_the_tokenizer_of_a_whole_model_is_a_part_of_it(whole_model: Path, adapter: Path, model: Model) -> None:
    assert not has_tokenizer(whole_model)
    for name in ("tokenizer.json", "chat_template.jinja"):
        (whole_model / name).write_text("{}")
        (adapter / name).write_text("{}")
    assert {"tokenizer.json", "chat_template.jinja"} < set(verify_checkpoint(whole_model, model).files)
    assert has_tokenizer(whole_model)
    # An adapter is evaluated with its base model's.
    assert not has_tokenizer(adapter)
    assert len(verify_checkpoint(adapter, model).files) == 2


def test_prompt_learning_is_no_checkpoint(adapter: Path, model: Model) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    with pytest.raises(CheckpointError, match="peft_type PREFIX_TUNING is prompt learning"):
        verify_checkpoint(adapter, model)


def test_broken_model(whole_model: Path, model: Model) -> None:
    save_file({"b": np.array([1, np.nan], "f2")}, whole_model / "model-2.safetensors")
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors: tensor b has NaN"):
        verify_checkpoint(whole_model, model)
    (whole_model / "model-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors lacks tensor b"):
        verify_checkpoint(whole_model, model)


def test_a_model_that_is_still_the_base_model(whole_model: Path, model: Model) -> None:
    """Of a training it says that nothing was trained; a checkpoint made elsewhere may be anything."""
    save_file({"b": np.ones(4, "f2"), "a": np.ones(4, "f4"), "ids": np.arange(3)}, model.path / "model.safetensors")
    assert verify_checkpoint(whole_model, model).kind == "model"
    with pytest.raises(CheckpointError, match=r"has the weights of .*base, so the model was never trained"):
        verify_checkpoint(whole_model, model, is_trained_here=True)
    save_file({"b": np.array([1, 1, 1, 2], "f2")}, whole_model / "model-2.safetensors")
    assert verify_checkpoint(whole_model, model, is_trained_here=True).kind == "model"


def test_published_adapter(adapter: Path, model: Model, tmp_path: Path) -> None:
    target = publish_checkpoint(adapter, model, tmp_path / "checkpoints" / "epoch_0")
    assert sorted(path.name for path in target.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((target / "adapter_config.json").read_text())
    assert config == LORA_CONFIG | {"base_model_name_or_path": str(model.path)}
    assert weights(target).is_symlink()
    assert file_hash(weights(target)) == file_hash(weights(adapter))
    assert sorted(path.name for path in target.parent.iterdir()) == ["epoch_0"]


def test_relative_paths_are_published_absolute(
    adapter: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = publish_checkpoint(Path("epoch_0"), Model("base", Path("base")), Path("checkpoints/epoch_0"))
    assert json.loads((target / "adapter_config.json").read_text())["base_model_name_or_path"] == str(model.path)
    assert weights(target).samefile(weights(adapter))


def test_published_adapter_survives_a_move_of_the_experiment(adapter: Path, model: Model, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    adapter.rename(here / "epoch_0")
    publish_checkpoint(here / "epoch_0", model, here / "checkpoints" / "epoch_0")
    here.rename(there)
    assert weights(there / "checkpoints" / "epoch_0").samefile(weights(there / "epoch_0"))


def test_whole_model_is_published_as_it_is(whole_model: Path, adapter: Path, model: Model, tmp_path: Path) -> None:
    target = tmp_path / "checkpoints" / "given"
    for _ in range(2):
        publish_checkpoint(whole_model, model, target)
        assert (target / "config.json").samefile(whole_model / "config.json")
    publish_checkpoint(adapter, model, target)
    assert sorted(path.name for path in target.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    publish_checkpoint(whole_model, model, target)
    assert (target / "config.json").is_file()
    assert weights(adapter).is_file()


def test_publishing_again_replaces_only_what_changed(adapter: Path, model: Model, tmp_path: Path) -> None:
    target = publish_checkpoint(adapter, model, tmp_path / "published")
    before = target.stat().st_ino
    publish_checkpoint(adapter, model, target)
    assert target.stat().st_ino == before
    (target / "config.json").write_text("{}")
    publish_checkpoint(adapter, model, target)
    assert not (target / "config.json").exists()
    (adapter / "adapter_config.json").write_text(json.dumps(LORA_CONFIG | {"lora_alpha": 6}))
    publish_checkpoint(adapter, model, target)
    assert json.loads((target / "adapter_config.json").read_text())["lora_alpha"] == 6


def test_publishing_where_links_fail(
    adapter: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(os, "link", refuse)
    target = publish_checkpoint(adapter, model, tmp_path / "published")
    assert not weights(target).is_symlink()
    assert file_hash(weights(target)) == file_hash(weights(adapter))


@pytest.mark.parametrize("kind", ["adapter", "whole_model"])
@pytest.mark.parametrize("inside", ["", "sub"])
def test_a_checkpoint_is_not_replaced_by_a_link_to_itself(
    request: pytest.FixtureRequest, kind: str, inside: str, model: Model, tmp_path: Path
) -> None:
    target = tmp_path / "r4/checkpoints/epoch_0"
    made = target / inside
    made.parent.mkdir(parents=True)
    request.getfixturevalue(kind).rename(made)
    (tmp_path / "linked").symlink_to(tmp_path / "r4")
    before = {path: path.read_bytes() for path in made.iterdir()}
    for checkpoint in (made, tmp_path / "linked/checkpoints/epoch_0" / inside):
        with pytest.raises(CheckpointError, match=r"lies where verified checkpoints are linked: keep it in another"):
            publish_checkpoint(checkpoint, model, target)
    assert {path: path.read_bytes() for path in made.iterdir()} == before


def test_publishing_nothing(adapter: Path, model: Model, tmp_path: Path) -> None:
    weights(adapter).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        publish_checkpoint(adapter, model, tmp_path / "published")
    assert not (tmp_path / "published").exists()
