"""Which rows a training sees, and in what form: the first ones, other columns, packs."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuned import WORDS, make_training, set_up, train, write_data, write_parts
from torch.utils.data import Dataset
from torchtune.data import padded_collate_sft
from torchtune.datasets import PackedDataset

from run_experiment.experiment.model import Training
from run_experiment.finetuning.dataset import PromptCompletionDataset, collate_packed, packed_dataset
from run_experiment.finetuning.encoder import IGNORE_INDEX, Sample
from run_experiment.finetuning.metrics import read_metrics
from run_experiment.finetuning.model_check import ModelCheck, PackedSteps, check_model, count_packs
from run_experiment.inputs.data_files import DataError

pytestmark = pytest.mark.torchtune

PACK = 128


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "words.json")


def adapter(folder: Path) -> bytes:
    return (folder / "artifacts/epoch_0/adapter_model.safetensors").read_bytes()


def test_first_rows_of_other_columns_train_as_a_file_of_them(llama: Path, tmp_path: Path) -> None:
    rows = [(word, word.capitalize()) for word in WORDS]
    plain, other = tmp_path / "plain.json", tmp_path / "other.json"
    plain.write_text(json.dumps({"train": [{"input": given, "output": answer} for given, answer in rows[:8]]}))
    columns = [{"question": given, "answer": answer, "input": "x"} for given, answer in rows]
    other.write_text(json.dumps({"train": columns, "validation": columns}))
    chosen: dict[str, Any] = {"training_samples": 8, "input_key": "question", "output_key": "answer"}
    for name, training in (
        ("plain", make_training(llama, plain)),
        ("other", make_training(llama, other, validation_during_training=True, **chosen)),
        ("all", make_training(llama, other, **chosen | {"training_samples": None})),
    ):
        (tmp_path / name).mkdir()
        train(training, tmp_path / name)
    assert adapter(tmp_path / "plain") == adapter(tmp_path / "other") != adapter(tmp_path / "all")
    frame = read_metrics(tmp_path / "other/artifacts/metrics.csv")
    assert frame["validation_loss"].count() == 1


def test_several_files_train_as_one_with_their_rows(llama: Path, tmp_path: Path) -> None:
    """The same losses and weights, by rows of all files or by the first ones, in whichever form a config names them."""
    one, parts = write_data(tmp_path / "words.json"), write_parts(tmp_path)
    given: dict[str, Any] = {"validation_during_training": True, "training_samples": 8, "batch_size": 2}
    strange = Path(shutil.copy(parts[0], tmp_path / "a${b}.json"))
    files = {"one": one, "parts": parts, "strange": [strange, *parts[1:]]}
    frames = []
    for name, data in files.items():
        (tmp_path / name).mkdir()
        train(make_training(llama, data, **given), tmp_path / name)
        frame = read_metrics(tmp_path / name / "artifacts/metrics.csv")
        frames.append(frame[["epoch", "step", "loss", "validation_loss"]].to_csv())
    assert frames[0].count("\n") == 6, "4 steps and a validation"
    assert set(frames) == {frames[0]}
    assert {adapter(tmp_path / name) for name in files} == {adapter(tmp_path / "one")}


class _Lengths(Dataset[Sample]):
    """Samples of some lengths."""

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int) -> Sample:
        return {"tokens": [1] * self._lengths[index], "labels": [1] * self._lengths[index]}


@pytest.mark.parametrize("seed", range(5))
def test_packs_that_a_login_node_counts_are_those_of_torchtune(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(1, 40) for _ in range(draw.randint(1, 60))]
    assert count_packs(lengths, 40) == len(PackedDataset(_Lengths(lengths), max_seq_len=40))


def _packed(llama: Path, data: Path, **given: Any) -> Training:
    return make_training(llama, data, packed=True, max_seq_len=PACK, batch_size=1, **given)


def test_samples_of_a_pack_do_not_see_each_other(llama: Path, data: Path, tmp_path: Path) -> None:
    """A pack has the loss that its samples have, one by one."""
    recipe = set_up(_packed(llama, data), tmp_path)
    recipe._model.eval()
    cfg = {"data": str(data), "split": "train", "dataset_type": "chat_completion", "prompt": "Capitalize: {input}"}
    given: dict[str, Any] = {**cfg, "system_prompt": "", "train_on_input": False, "max_seq_len": PACK}
    samples, packs = (make(recipe._tokenizer, **given) for make in (PromptCompletionDataset, packed_dataset))
    assert 1 < len(packs) < len(samples) == len(WORDS)

    def total(batch: dict[str, torch.Tensor]) -> tuple[float, int]:
        counted = int((batch["labels"] != IGNORE_INDEX).sum())
        return float(recipe._loss_step(batch)) * counted, counted

    with torch.no_grad():
        one_by_one = [total(padded_collate_sft([sample], padding_idx=0)) for sample in samples]
        packed = [total(collate_packed([pack])) for pack in packs]
        recipe.ignore_labels_cache = torch.full((len(packs), 1), IGNORE_INDEX)
        together = total(collate_packed([packs[index] for index in range(len(packs))]))
    expected = [sum(of_one) for of_one in zip(*one_by_one, strict=True)]
    assert [sum(of_one) for of_one in zip(*packed, strict=True)] == pytest.approx(expected)
    assert together == pytest.approx(tuple(expected))


def test_packed_training(llama: Path, data: Path, tmp_path: Path) -> None:
    """Steps are of packs, the validation loss is of samples."""
    training = _packed(llama, data, epochs=2, gradient_accumulation_steps=2, validation_during_training=True)
    recipe = train(training, tmp_path)
    packs = len(recipe._dataloader.dataset)
    frame = read_metrics(tmp_path / "artifacts/metrics.csv")
    steps = frame[frame["validation_loss"].isna()]
    assert steps["epoch"].tolist() == [epoch for epoch in range(2) for _ in range(packs // 2)]
    assert frame["validation_loss"].count() == 2
    assert steps["loss"].iloc[-1] < steps["loss"].iloc[0]


def test_packed_split_that_fills_no_step(llama: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fewer"):
        set_up(_packed(llama, data, gradient_accumulation_steps=12), tmp_path)


STEPS: dict[str, Any] = {
    "batch_size": 2,
    "gradient_accumulation_steps": 1,
    "max_steps_per_epoch": None,
    "epochs": 2,
    "num_warmup_steps": 0,
    "shuffle": True,
}


def _check(llama: Path, data: Path, packed: dict[str, Any], **given: Any) -> ModelCheck:
    facts: dict[str, Any] = {"prompt": "Capitalize: {input}", "system_prompt": "", "dataset_type": "chat_completion"}
    place: dict[str, Any] = {"tokenizer": str(llama), "weights": str(llama), "data": [str(data)], "splits": ["train"]}
    known: dict[str, Any] = {"name": "tiny-1", "config": {}, "model": "tiny", "evaluated": False, "max_seq_len": PACK}
    return ModelCheck(packed={**STEPS, **packed}, **known, **facts, **place, **given)


def test_a_login_node_counts_the_steps_of_a_packed_training(llama: Path, data: Path, tmp_path: Path) -> None:
    packs = len(set_up(_packed(llama, data), tmp_path)._dataloader.dataset)
    # One step an epoch, and one pack left over.
    sizes = {"batch_size": packs - 1}
    assert check_model(_check(llama, data, sizes)).odd == ()
    assert check_model(_check(llama, data, {**sizes, "num_warmup_steps": 2, "shuffle": False})).odd == (
        f"the warm-up takes 2 steps, but {packs} packs give 2 steps (1 an epoch)",
        f"without shuffling, the last 1 of {packs} packs are never trained on",
    )
    with pytest.raises(DataError, match=f"12 rows make {packs} packs, fewer than one optimizer step takes"):
        check_model(_check(llama, data, {**sizes, "gradient_accumulation_steps": 2}))
    with pytest.raises(DataError, match=r"2 rows make 1 pack, fewer .* each of up to 128 tokens"):
        check_model(_check(llama, data, {}, training_samples=2))


def test_steps_of_packs() -> None:
    steps = PackedSteps(**{**STEPS, "max_steps_per_epoch": 3, "num_warmup_steps": 6})
    assert list(steps.odd(100)) == ["the warm-up takes 6 steps, but 100 packs give 6 steps (3 an epoch)"]
