"""Model folders that no job could load: refused with the file and the way out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from good_summary import FILE, GOOD, MODEL, changed, errors, read
from model_weights import write_weights
from safetensors.numpy import load_file, save_file

from run_experiment.finetuning import model_files
from run_experiment.finetuning.model_files import expected_shapes

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 2471645608\n"
WEIGHTS = "model.safetensors"

Edit = Callable[[Path], object]
Rename = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(autouse=True)
def transformers_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the environment of torchtune."""
    monkeypatch.setattr(model_files, "versions", lambda _: {"transformers": "4.57.6"})


def config(**changes: Any) -> Edit:
    def edit(model: Path) -> None:
        values = {key: value for key, value in (MODEL | changes).items() if value is not None}
        (model / "config.json").write_text(json.dumps(values))

    return edit


def weights(rename: Rename) -> Edit:
    return lambda model: save_file(rename(load_file(model / WEIGHTS)), model / WEIGHTS)


def dtype(kind: str) -> Edit:
    """A projection in another number format: its header says so, and it has as many bytes as before."""

    def edit(model: Path) -> None:
        content = (model / WEIGHTS).read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header["model.layers.0.self_attn.q_proj.weight"]["dtype"] = kind
        text = json.dumps(header).encode()
        (model / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    return edit


def tokenizer(**values: Any) -> Edit:
    return lambda model: (model / "tokenizer_config.json").write_text(json.dumps(values))


def sharded(model: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file(load_file(model / WEIGHTS), model / shards[0])
    (model / WEIGHTS).unlink()
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}))


def with_index(text: str) -> Edit:
    """The weights as one shard, with this for an index."""

    def edit(model: Path) -> None:
        (model / WEIGHTS).rename(model / "model-00001-of-00001.safetensors")
        (model / f"{WEIGHTS}.index.json").write_text(text)

    return edit


def without_norm_in_index(model: Path) -> None:
    """transformers would compute with random numbers, though the tensor is in the file."""
    places = dict.fromkeys(set(load_file(model / WEIGHTS)) - {"model.norm.weight"}, "model-00001-of-00001.safetensors")
    with_index(json.dumps({"weight_map": places}))(model)


def link_to_nothing(name: str) -> Edit:
    def edit(model: Path) -> None:
        (model / name).unlink()
        (model / name).symlink_to("../../blobs/ab")

    return edit


def without_prefix(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("model."): values for name, values in tensors.items()}


def with_prefix(tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"_orig_mod.{name}": values for name, values in tensors.items()}


def without_a_layer(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in tensors.items() if "layers.1.mlp" not in name}


# What is done to a model folder, and what is said of it: of all models, or only of those that are trained.
UNLOADABLE: dict[str, tuple[Edit, str]] = {
    "lfs": (lambda model: (model / WEIGHTS).write_text(LFS), "DIR/models/tiny/model.safetensors is a Git LFS pointer, not the weights: run `git lfs pull` in its folder"),
    "lfs-tokenizer": (lambda model: (model / "tokenizer.json").write_text(LFS), "DIR/models/tiny/tokenizer.json is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"),
    "cut": (lambda model: os.truncate(model / WEIGHTS, 1000), "DIR/models/tiny/model.safetensors is no safetensors file: its header cannot be read; copy it again"),
    "cut-later": (lambda model: os.truncate(model / WEIGHTS, 100_000), "DIR/models/tiny/model.safetensors has 100,000 bytes, its header says "),
    "empty": (lambda model: (model / WEIGHTS).write_bytes(b""), "DIR/models/tiny/model.safetensors is no safetensors file"),
    "other-bytes": (lambda model: (model / WEIGHTS).write_bytes(b"\xff" * 64), "DIR/models/tiny/model.safetensors is no safetensors file"),
    "other-json": (lambda model: (model / WEIGHTS).write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "DIR/models/tiny/model.safetensors is no safetensors file"),
    "shard": (sharded, "DIR/models/tiny: weights are missing: model-00002-of-00002.safetensors"),
    "shard-elsewhere": (with_index('{"weight_map": {"a": "../tiny2/model.safetensors"}}'), "DIR/models/tiny/model.safetensors.index.json names ../tiny2/model.safetensors, but weights must lie beside it: copy the whole folder"),
    "no-map": (with_index('{"weight_map": ["a"]}'), "DIR/models/tiny/model.safetensors.index.json has no weight_map of tensors and files: copy it again"),
    "odd-map": (with_index('{"weight_map": {"a": 5, "b": null}}'), "DIR/models/tiny/model.safetensors.index.json has no weight_map of tensors and files: copy it again"),
    "not-in-index": (without_norm_in_index, "DIR/models/tiny: the weights lack model.norm.weight; copy the model again"),
    "no-index": (lambda model: (model / WEIGHTS).rename(model / "model-00001-of-00002.safetensors"), "DIR/models/tiny: model-00001-of-00002.safetensors is there without model.safetensors.index.json: copy it, too"),
    "other-name": (lambda model: (model / WEIGHTS).rename(model / "consolidated.safetensors"), "DIR/models/tiny: there is no model.safetensors, but consolidated.safetensors: save the model with save_pretrained"),
    "no-tokenizer": (lambda model: (model / "tokenizer.json").unlink(), "DIR/models/tiny has no tokenizer (tokenizer.json or tokenizer.model): copy it from the model's source"),
    "tokenizer-folder": (lambda model: ((model / "tokenizer.json").unlink(), (model / "tokenizer.json").mkdir()), "DIR/models/tiny has no tokenizer (tokenizer.json or tokenizer.model)"),
    "transformers-5": (tokenizer(tokenizer_class="TokenizersBackend"), "DIR/models/tiny/tokenizer_config.json is as transformers 5 writes it; save the tokenizer with transformers 4"),
    "transformers-5-list": (tokenizer(extra_special_tokens=["<a>"]), "DIR/models/tiny/tokenizer_config.json is as transformers 5 writes it"),
    "tokenizer-config": (lambda model: (model / "tokenizer_config.json").write_text("{"), "cannot read DIR/models/tiny/tokenizer_config.json: Expecting"),
    "tied-unsaid": (lambda model: (weights(lambda tensors: {name: values for name, values in tensors.items() if name != "lm_head.weight"})(model), config(tie_word_embeddings=None)(model)), "DIR/models/tiny/config.json: tie_word_embeddings is not set, and there is no lm_head.weight in the weights; write \"tie_word_embeddings\": true if"),
    "tied-false": (lambda model: (weights(lambda tensors: {name: values for name, values in tensors.items() if name != "lm_head.weight"})(model), config(tie_word_embeddings=False)(model)), "DIR/models/tiny/config.json: tie_word_embeddings is false, and there is no lm_head.weight"),
    "no-prefix": (weights(without_prefix), "DIR/models/tiny: the weights lack model.embed_tokens.weight; they have embed_tokens.weight: save the whole model, as …ForCausalLM names its weights"),
    "prefix": (weights(with_prefix), "the weights lack model.embed_tokens.weight; they have _orig_mod.model.embed_tokens.weight: save the whole model"),
    "layer": (weights(without_a_layer), "DIR/models/tiny: the weights lack model.layers.1.mlp.gate_proj.weight; copy the model again"),
    "module": (weights(lambda tensors: {f"module.{name}": values for name, values in tensors.items()}), "the weights lack model.embed_tokens.weight; they have module.model.embed_tokens.weight: save the whole model"),
    "norm": (weights(lambda tensors: {name: values for name, values in tensors.items() if name != "model.norm.weight"}), "DIR/models/tiny: the weights lack model.norm.weight; copy the model again"),
    "other-shape": (config(vocab_size=130), "DIR/models/tiny: model.embed_tokens.weight has the shape [128, 64], by config.json it is [130, 64]"),
    "other-head": (lambda model: (weights(lambda tensors: tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1})(model), config(tie_word_embeddings=True)(model)), "DIR/models/tiny/config.json: tie_word_embeddings is true, but lm_head.weight in the weights is not the embedding, and transformers would leave it out; write \"tie_word_embeddings\": false"),
    "fp8": (dtype("F8_E4M3"), "DIR/models/tiny: model.layers.0.self_attn.q_proj.weight is in F8_E4M3, so the weights are quantized, and config.json does not say how; take the model in bf16, fp16 or fp32"),
    "int8": (dtype("I8"), "DIR/models/tiny: model.layers.0.self_attn.q_proj.weight is in I8, so the weights are quantized"),
    "metadata": (lambda model: save_file(load_file(model / WEIGHTS), model / WEIGHTS, metadata={"total": "1"}), "DIR/models/tiny/model.safetensors: its metadata has no format pt, without which transformers 4 refuses it; save the model with save_pretrained"),
    "pad": (config(pad_token_id=128), "DIR/models/tiny/config.json: pad_token_id is 128, but the embedding has 128 rows (vocab_size); write the id of a token that the embedding has, or null"),
    "pad-below": (config(pad_token_id=-129), "DIR/models/tiny/config.json: pad_token_id is -129, but the embedding has 128 rows"),
    "text-for-a-number": (config(rope_theta="1e6"), 'DIR/models/tiny/config.json: rope_theta is the text "1e6"; write the number without quotes'),
    "layers-left-out": (config(num_hidden_layers=1), "DIR/models/tiny: the weights have model.layers.1."),
    "classifier": (config(architectures=["LlamaForSequenceClassification"]), "DIR/models/tiny/config.json: LlamaForSequenceClassification generates no text; take the model that does (…ForCausalLM)"),
    "generation": (lambda model: (model / "generation_config.json").write_text("[]"), "DIR/models/tiny/generation_config.json is not a JSON object"),
    "config-lfs": (lambda model: (model / "config.json").write_text(LFS), "DIR/models/tiny/config.json is a Git LFS pointer, not the file itself"),
}  # fmt: skip
# Of a model that is only evaluated; training refuses it for its architecture.
TRANSFORMERS_5 = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
# The same, in the words of a model's folder only.
NOT_THERE: dict[str, tuple[Edit, str]] = {
    "link": (link_to_nothing(WEIGHTS), '"DIR/models/tiny/model.safetensors" is a link to "../../blobs/ab", which is not there; copy the model again'),
    "link-config": (link_to_nothing("config.json"), '"DIR/models/tiny/config.json" is a link to "../../blobs/ab", which is not there; copy the model again'),
    "bin": (lambda model: (model / WEIGHTS).rename(model / "pytorch_model.bin"), '"DIR/models/tiny" has no weights (*.safetensors); pytorch_model.bin is not read: save the model as safetensors'),
    "h5": (lambda model: (model / WEIGHTS).rename(model / "tf_model.h5"), '"DIR/models/tiny" has no weights (*.safetensors); tf_model.h5 is not read'),
    "part": (lambda model: (model / WEIGHTS).rename(model / f"{WEIGHTS}.part"), '"DIR/models/tiny" has no weights (*.safetensors); model.safetensors.part is a download that did not end: download it again'),
    "no-config": (lambda model: ((model / "config.json").unlink(), (model / "params.json").touch()), '"DIR/models/tiny" has no config.json; it is in its maker\'s own format: take the files for transformers, with config.json and *.safetensors'),
    "gguf": (lambda model: (model / WEIGHTS).rename(model / "tiny.gguf"), '"DIR/models/tiny" has no weights (*.safetensors); tiny.gguf is not read'),
}  # fmt: skip
UNTRAINABLE: dict[str, tuple[Edit, str]] = {
    "no-prefix-tied": (lambda model: (weights(lambda tensors: {name.removeprefix("model."): values for name, values in tensors.items() if name != "lm_head.weight"})(model), config(tie_word_embeddings=True)(model)), "the weights lack model.embed_tokens.weight; they have embed_tokens.weight: save the whole model"),
    "more": (weights(lambda tensors: tensors | {"score.weight": np.ones(2)}), "DIR/models/tiny: the weights have score.weight, which is no part of the model in config.json"),
}  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize(
    ("edit", "message"),
    [*UNLOADABLE.values(), *NOT_THERE.values(), *UNTRAINABLE.values()],
    ids=[*UNLOADABLE, *NOT_THERE, *UNTRAINABLE],
)
def test_refused(folder: Path, edit: Edit, message: str) -> None:
    edit(folder / "models/tiny")
    (line,) = errors(folder, GOOD)
    assert line.startswith(f"{FILE}:11: models.base[0].path: {message}" if message.startswith("DIR") else FILE)
    assert message in line


ONLY_EVALUATED = [
    ("  - name: r4\n    parameters: {lora_rank: 4}\n  - name: r8\n    type: fine-tuned\n    parameters: {lora_rank: 8}\n", ""),
    ("    - {run: r4, tasks: [cap], epochs: [0, 1]}\n    - {run: r8, tasks: [cap]}\n", ""),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), UNLOADABLE.values(), ids=UNLOADABLE)
def test_refused_for_evaluations_alone(folder: Path, edit: Edit, message: str) -> None:
    edit(folder / "models/tiny")
    (line,) = errors(folder, changed(*ONLY_EVALUATED))
    assert message in line


@pytest.mark.parametrize("edit", [edit for edit, _ in UNTRAINABLE.values()], ids=UNTRAINABLE)
def test_what_only_training_needs(folder: Path, edit: Edit) -> None:
    edit(folder / "models/tiny")
    read(folder, changed(*ONLY_EVALUATED))


def test_files_of_transformers_5_are_fine_where_it_is_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer(tokenizer_class="TokenizersBackend")(folder / "models/tiny")
    config(**TRANSFORMERS_5)(folder / "models/tiny")
    assert len(errors(folder, changed(*ONLY_EVALUATED))) == 1
    monkeypatch.setattr(model_files, "versions", lambda _: {"transformers": "5.24.0"})
    assert read(folder, changed(*ONLY_EVALUATED))[1] == []


def test_rope_that_transformers_4_leaves_out(folder: Path) -> None:
    """It would compute with its own default."""
    config(**TRANSFORMERS_5)(folder / "models/tiny")
    (line,) = errors(folder, changed(*ONLY_EVALUATED))
    assert "config.json has rope_parameters, as transformers 5 writes it, which transformers 4 leaves out;" in line
    config(**TRANSFORMERS_5, rope_theta=5e5)(folder / "models/tiny")
    assert read(folder, changed(*ONLY_EVALUATED))[1] == []


# A whole model that was made elsewhere may lack these.
NOT_OF_WHOLE = ("no-tokenizer", "tokenizer-folder", "other-name")
WHOLE = changed(("type: control", "type: eval-only\n    checkpoint_path: whole"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [value for name, value in UNLOADABLE.items() if name not in NOT_OF_WHOLE],
    ids=[name for name in UNLOADABLE if name not in NOT_OF_WHOLE],
)
def test_whole_models_made_elsewhere_are_refused(folder: Path, edit: Edit, message: str) -> None:
    shutil.copytree(folder / "models/tiny", folder / "whole")
    edit(folder / "whole")
    (line,) = errors(folder, WHOLE)
    assert ": runs[2].checkpoint_path: " in line
    assert message.replace("DIR/models/tiny", "DIR/whole").partition("DIR/whole")[2] in line


def test_a_whole_model_made_elsewhere_needs_no_tokenizer(folder: Path) -> None:
    shutil.copytree(folder / "models/tiny", folder / "whole")
    (folder / "whole/tokenizer.json").unlink()
    assert read(folder, WHOLE)[1] == []


@pytest.mark.parametrize(
    "values",
    [
        {"quantization_config": {"quant_method": "gptq"}},
        {"model_type": "gemma2"},
        {"num_key_value_heads": None},
        {"model_type": "qwen3"},
    ],
)
def test_models_whose_tensors_are_not_known_are_left_to_transformers(folder: Path, values: dict[str, Any]) -> None:
    weights(without_a_layer)(folder / "models/tiny")
    config(**values)(folder / "models/tiny")
    read(folder, changed(*ONLY_EVALUATED))


@pytest.mark.parametrize("values", [MODEL, MODEL | {"tie_word_embeddings": True}, MODEL | {"model_type": "qwen2"}])
def test_whole_models(folder: Path, values: dict[str, Any]) -> None:
    model = folder / "models/tiny"
    config(**values)(model)
    write_weights(model, values)
    save_file({"x": np.ones(2)}, model / "consolidated.safetensors")
    weights(lambda tensors: tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8)})(model)
    assert read(folder, GOOD)[1] == []
    assert ("lm_head.weight" in expected_shapes(values)) == ("tie_word_embeddings" not in values)


def test_a_checkpoint_made_elsewhere_is_a_pointer(folder: Path) -> None:
    (folder / "elsewhere/epoch_0/adapter_model.safetensors").write_text(LFS)
    text = changed(("type: control", "type: eval-only\n    checkpoint_path: elsewhere/epoch_0"))
    (line,) = errors(folder, text)
    assert "checkpoint_path: DIR/elsewhere/epoch_0/adapter_model.safetensors is a Git LFS pointer" in line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ([("  epochs: 2\n", "  epochs: 2\n  enable_activation_offloading: true\n")], "6: controls.enable_activation_offloading: needs enable_activation_checkpointing: true as well (run r4)"),
        ([("{lora_rank: 8}", "{enable_activation_offloading: true, enable_activation_checkpointing: true, device: cpu}")], "20: runs[1].parameters.enable_activation_offloading: is for GPUs, but run r8 has device: cpu"),
    ],
)  # fmt: skip
def test_offloading(folder: Path, changes: list[tuple[str, str]], line: str) -> None:
    assert errors(folder, changed(*changes))[0] == f"{FILE}:{line}"


def test_an_index_beside_a_single_file_does_not_count(folder: Path) -> None:
    """transformers takes the file, as torchtune is told to."""
    (folder / f"models/tiny/{WEIGHTS}.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}')
    assert read(folder, GOOD)[1] == []
