"""Remembered hashes: a changed file is noticed whatever its times say, and the memory may be lost at any time."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from run_experiment.inputs.data_files import DataError, rows_hash
from run_experiment.inputs.file_hashes import HashMemory, file_hash


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"train": [{"input": "a"}], "test": [{"input": "b"}]}))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "memory/hashes.json"


def poison(store: Path) -> None:
    """Make every remembered hash a wrong one: what is answered with it was not computed."""
    known = json.loads(store.read_text())
    assert known
    splits = dict.fromkeys(["train", "test"], "remembered")
    store.write_text(json.dumps({key: {"file": "remembered", "splits": splits} for key in known}))


def test_hashes_are_of_the_content(data: Path, store: Path) -> None:
    memory = HashMemory(store)
    assert memory.file(data) == file_hash(data)
    assert memory.split([data], "train") == rows_hash([{"input": "a"}])
    assert memory.split([data], "validation") is None


def test_first_rows_of_a_split(data: Path, store: Path) -> None:
    rows = [{"input": "a"}, {"input": "b"}, {"input": "c"}]
    data.write_text(json.dumps({"train": rows}))
    memory = HashMemory(store)
    hashes = [memory.split([data], "train", first) for first in (1, 2, 3, 9, None)]
    assert hashes == [rows_hash(rows[:1]), rows_hash(rows[:2]), *[rows_hash(rows)] * 3]
    assert memory.split([data], "test", 1) is None
    memory.save()
    store.write_text(store.read_text().replace(rows_hash(rows[:2]), "remembered"))
    assert HashMemory(store).split([data], "train", 2) == "remembered"


def test_files_that_are_joined_have_the_hash_of_one(data: Path, store: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text('{"input": "c"}\n')
    memory = HashMemory(store)
    both = [{"input": "a"}, {"input": "c"}]
    assert memory.split([data, more], "train") == rows_hash(both)
    assert memory.split([more, data], "train") == rows_hash(both[::-1])
    assert memory.split([data, more], "train", 1) == memory.split([data], "train")
    assert memory.split([data, more], "test") == rows_hash([{"input": "b"}])
    # As records of every version have it.
    assert memory.split([data], "train") == "4cac2cb73822cb5dc907b8d130ba280d067dc56f241871144fa3fc8c7bd1e992"
    memory.save()
    more.write_text("not JSON")
    assert HashMemory(store).split([data, more], "train") is None


def test_hashes_are_remembered_between_sessions(data: Path, store: Path) -> None:
    memory = HashMemory(store)
    memory.file(data)
    memory.split([data], "test")
    memory.save()
    poison(store)
    again = HashMemory(store)
    assert again.file(data) == "remembered"
    assert again.split([data], "test") == "remembered"
    # Splits are computed together.
    assert again.split([data], "train") == "remembered"


def test_change_is_noticed_though_size_and_time_are_put_back(data: Path, store: Path) -> None:
    memory = HashMemory(store)
    old = memory.file(data)
    memory.save()
    stat = data.stat()
    while data.stat().st_ctime_ns == stat.st_ctime_ns:
        data.write_text(data.read_text().replace('"b"', '"c"'))
        os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (data.stat().st_size, data.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    for later in (memory, HashMemory(store)):
        assert later.file(data) == file_hash(data) != old


def test_what_is_no_longer_used_is_forgotten(data: Path, store: Path) -> None:
    other = data.with_name("other.json")
    other.write_text("[{}]")
    memory = HashMemory(store)
    memory.file(data)
    memory.file(other)
    memory.save()
    memory = HashMemory(store)
    memory.file(data)
    memory.split([data], "train")
    memory.save()
    assert [json.loads(key)[0] for key in json.loads(store.read_text())] == [str(data)]


def garbage(store: Path) -> None:
    store.write_bytes(b"\xff\x00{")


def another_type(store: Path) -> None:
    store.write_text("[1, 2]")


def other_values(store: Path) -> None:
    store.write_text(json.dumps(dict.fromkeys(json.loads(store.read_text()), 5)))


def a_folder(store: Path) -> None:
    store.unlink()
    store.mkdir()


@pytest.mark.parametrize("damage", [garbage, another_type, other_values, a_folder], ids=lambda damage: damage.__name__)
def test_damaged_memory_costs_only_time(data: Path, store: Path, damage: Callable[[Path], None]) -> None:
    memory = HashMemory(store)
    memory.file(data)
    memory.save()
    damage(store)
    memory = HashMemory(store)
    assert memory.file(data) == file_hash(data)
    memory.save()


def test_memory_that_cannot_be_written_costs_only_time(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = HashMemory(tmp_path / "file/hashes.json")
    assert memory.file(data) == file_hash(data)
    memory.save()


def test_data_that_cannot_be_read_now_is_not_remembered_as_without_splits(
    data: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, **options: object) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    memory = HashMemory(store)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_text", fail)
        with pytest.raises(DataError, match="Input/output error"):
            memory.split([data], "train")
    memory.save()
    assert memory.split([data], "train") == HashMemory(store).split([data], "train") == rows_hash([{"input": "a"}])


def test_missing_file_is_said_and_other_data_has_no_splits(data: Path, store: Path) -> None:
    memory = HashMemory(store)
    with pytest.raises(FileNotFoundError):
        memory.file(data.with_name("none.json"))
    data.write_text("{")
    assert memory.split([data], "train") is None
    assert memory.file(data) == file_hash(data)
