"""Records are whole or absent, and say readably what changed."""

from __future__ import annotations

import errno
import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from run_experiment.common.json_files import (
    canonical,
    config_hash,
    describe_change,
    read_record,
    write_atomically,
    write_record,
)

HASHES = ["0" * 64, "f" * 64]


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = {"run": "r4", "config": {"prompt": "Schreibe groß: {input}", "lr": 1e-05, "none": None, "list": [1, 2.0]}}
    path = tmp_path / "r4/deep/finetune.json"
    write_record(path, record)
    assert read_record(path) == record
    assert "groß" in path.read_text(encoding="utf-8")
    assert [item.name for item in path.parent.iterdir()] == ["finetune.json"]


def test_half_of_a_pair_of_surrogates_is_recorded(tmp_path: Path) -> None:
    """As Python has names of files in another encoding, which errors may quote."""
    record = {"error": "no such file: caf\udce9", "\ud800": 1}
    write_record(tmp_path / "attempt.json", record)
    assert read_record(tmp_path / "attempt.json") == record


def test_reader_sees_the_old_or_the_new_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    texts = {letter * 200_000 for letter in "ab"}
    write_atomically(path, "a" * 200_000)
    done = threading.Event()

    def write() -> None:
        for _ in range(20):
            for text in texts:
                write_atomically(path, text)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(path.read_text() in texts)
    writer.join()
    assert seen
    assert all(seen)


def test_failed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"job_id": "1"})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("run_experiment.common.json_files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "x" * 100_000)
    assert read_record(path) == {"job_id": "1"}
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("content", [b"", b'{"config": {', b"[1]", b"null", b'{"a": "\xff"}'])
def test_unreadable_record_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    assert read_record(path) is None


def test_missing_record_and_folder_count_as_absent(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none.json") is None
    assert read_record(tmp_path) is None


def test_hash_follows_values_not_order() -> None:
    assert config_hash({"a": 1, "b": {"c": 2, "d": 3}}) == config_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert config_hash({"a": [1, 2]}) != config_hash({"a": [2, 1]})
    assert config_hash({"a": "1"}) != config_hash({"a": 1})
    assert canonical({"b": "ß", "a": None}) == '{"a":null,"b":"ß"}'


OLD: dict[str, Any] = {
    "data": {"train": {"sha256": HASHES[0]}},
    "hyperparameters": {"lora_rank": 4, "lr": 0.1, "epochs": 1, "seed": 14, "modules": ["q_proj"]},
    "prompting": {"prompt": "Say: {input}"},
}


def changed(**sections: Any) -> dict[str, Any]:
    new = json.loads(json.dumps(OLD))
    for section, values in sections.items():
        new.setdefault(section, {}).update(values)
    return new


CHANGES = {
    "a number": (changed(hyperparameters={"lora_rank": 8}), "lora_rank: 4 → 8"),
    "several": (changed(hyperparameters={"lora_rank": 8, "lr": 0.01}), "lora_rank: 4 → 8, lr: 0.1 → 0.01"),
    "many": (
        changed(hyperparameters={"lora_rank": 8, "lr": 0.01, "epochs": 2, "seed": 1}),
        "lora_rank: 4 → 8, lr: 0.1 → 0.01, epochs: 1 → 2, 1 more",
    ),
    "text": (changed(prompting={"prompt": "Say\nit"}), 'prompt: "Say: {input}" → "Say\\nit"'),
    "long text": (changed(prompting={"prompt": "x" * 99}), f'prompt: "Say: {{input}}" → "{"x" * 38}…'),
    "a list": (
        changed(hyperparameters={"modules": ["q_proj", "v_proj"]}),
        'modules: ["q_proj"] → ["q_proj", "v_proj"]',
    ),
    "a split": (changed(data={"train": {"sha256": HASHES[1]}}), "the train split of the data changed"),
    "a split that came": (
        changed(data={"validation": {"sha256": HASHES[1]}}),
        "the validation split of the data changed",
    ),
    "a file's hash that came": (changed(**{"finetune.slurm": {"sha256": HASHES[1]}}), "finetune.slurm changed"),
    "a value that came": (changed(generation={"seed": 3}), "seed: None → 3"),
    "an empty mapping that came": (changed(generation={}), "its configuration changed"),
}


@pytest.mark.parametrize(("new", "text"), CHANGES.values(), ids=CHANGES)
def test_change_is_described(new: dict[str, Any], text: str) -> None:
    assert describe_change(OLD, new) == text


def test_a_value_that_is_no_number_is_no_change() -> None:
    assert describe_change({"a": math.nan, "b": [math.nan], "c": 1}, {"a": math.nan, "b": [math.nan], "c": 2}) == (
        "c: 1 → 2"
    )


def task(**facts: Any) -> dict[str, Any]:
    """Configuration of an evaluation, whose hashes say `facts`."""
    split = facts.pop("split", "test")
    chosen = {"model": 0, "script": 0, "helper": 0, "data": 0, "adapter": 0, **facts}
    model, script, helper, data, adapter = ({"sha256": HASHES[number]} for number in chosen.values())
    return {
        "model": {"weights": model},
        "task": {"script": script, "imports": {"lib/helper.py": helper}},
        "data": {"split": split, **data},
        "checkpoint": {"adapter_model.safetensors": adapter},
    }


FILES = ([Path("data/words.json")], Path("/tasks/shout.py"))
HASHED = {
    "the model": ({"model": 1}, "the model's weights or tokenizer changed"),
    "the script": ({"script": 1}, "the task's script shout.py changed"),
    "a file that it imports": ({"helper": 1}, "the task's imported file lib/helper.py changed"),
    "the data": ({"data": 1}, "the test split of words.json changed"),
    "another split": (
        {"data": 1, "split": "validation"},
        'split: "test" → "validation", the validation split of words.json changed',
    ),
    "a file without splits": ({"data": 1, "split": None}, 'split: "test" → None, words.json changed'),
    "the checkpoint": ({"adapter": 1}, "the checkpoint's adapter_model.safetensors changed"),
    "several": (
        {"model": 1, "data": 1},
        "the model's weights or tokenizer changed, the test split of words.json changed",
    ),
}


@pytest.mark.parametrize(("facts", "text"), HASHED.values(), ids=HASHED)
def test_change_of_a_hash_names_what_it_is_of(facts: dict[str, Any], text: str) -> None:
    assert describe_change(task(), task(**facts), *FILES) == text


def test_data_files_are_named_in_one_line_and_told_apart() -> None:
    before, after = ({"data": {"train": {"sha256": one}}} for one in HASHES[:2])
    for files, names in (
        (["/a/one.json", "/a/two.json"], "one.json, two.json"),
        (["/data/alpaca/train.json", "/data/dolly/train.json"], "alpaca/train.json, dolly/train.json"),
        (
            [f"/shards/{number}.json" for number in range(50)],
            "0.json, 1.json, 2.json, 3.json, 4.json, 5.json and 44 more",
        ),
        (["/a/x/train.json", "/b/x/train.json", "/b/y.json"], "a/x/train.json, b/x/train.json, /b/y.json"),
    ):
        assert describe_change(before, after, list(map(Path, files))) == f"the train split of {names} changed"


def test_change_of_a_cache_names_the_same() -> None:
    """Its configuration has the task's script and imports without the task around them."""
    before = {"script": {"sha256": HASHES[0]}, "imports": {"helper.py": {"sha256": HASHES[0]}}}
    after = {"script": {"sha256": HASHES[1]}, "imports": {"helper.py": {"sha256": HASHES[1]}}}
    expected = "the task's script shout.py changed, the task's imported file helper.py changed"
    assert describe_change(before, after, *FILES) == expected
    assert describe_change(before, after).startswith("the task's script changed, ")


def test_value_that_went_is_described() -> None:
    assert describe_change({"a": 1, "b": {"sha256": HASHES[0]}}, {}) == "a: 1 → None, b changed"
