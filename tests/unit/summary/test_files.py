"""Data files, models and adapters that a summary names are looked at as far as an error can be told early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from good_summary import FILE, GOOD, changed, errors, read, write


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"train": []}', "DIR/words.json has no rows"),
        ('{"test": [{}]}', 'split train is missing; there is "test"'),
        ('{"train": [{"input": "a", "output": "A"}, {"input": "b"}]}', "row 2 of split train: output is missing"),
        ('{"train": [{"input": 1, "output": "A"}]}', "row 1 of split train: input is 1, not text"),
        ('{"train": [7]}', "row 1 of split train is not an object with input and output"),
        ("[" * 100_000, "DIR/words.json is not valid JSON: brackets are nested too deeply"),
    ],
)
def test_data_file(folder: Path, content: str, message: str) -> None:
    write(folder, "words.json", content)
    (line,) = errors(folder, GOOD)
    assert line.startswith(f"{FILE}:14: data.training.path: ")
    assert message in line


def test_csv_rows_must_fit_the_header(folder: Path) -> None:
    text = changed(("words.json", "words.csv"))
    write(folder, "words.csv", 'input,output\n"two\nlines",B\na,A\nb,B\nc,C\n')
    read(folder, text)
    write(folder, "words.csv", "input,output\na,A\nb,B,C\n")
    (line,) = errors(folder, text)
    assert line.endswith("words.csv is not valid CSV: row 2 has more columns than the header")


def test_json_lines_name_the_line(folder: Path) -> None:
    write(folder, "words.jsonl", '{"input": "a", "output": "A"}\n\n{"input": "b",}\n')
    assert errors(folder, changed(("words.json", "words.jsonl"))) == [
        f"{FILE}:14: data.training.path: DIR/words.jsonl is not valid JSONL: "
        "line 3: Expecting property name enclosed in double quotes (column 15)"
    ]


def test_json_lines_too_deep(folder: Path) -> None:
    write(folder, "words.jsonl", "{}\n" + "[" * 100_000)
    (line,) = errors(folder, changed(("words.json", "words.jsonl")))
    assert "DIR/words.jsonl is not valid JSONL: line 2: brackets are nested too deeply" in line


def test_data_must_be_utf8(folder: Path) -> None:
    (folder / "words.json").write_bytes('{"train": [{"input": "é"}]}'.encode("latin-1"))
    assert errors(folder, GOOD) == [f"{FILE}:14: data.training.path: DIR/words.json is not UTF-8: save it as UTF-8"]


def test_half_an_adapter_is_no_checkpoint(folder: Path) -> None:
    (folder / "elsewhere/epoch_0/adapter_model.safetensors").unlink()
    text = changed(("type: control", "type: eval-only\n    checkpoint_path: elsewhere/epoch_0"))
    (line,) = errors(folder, text)
    assert "DIR/elsewhere/epoch_0/adapter_model.safetensors is missing; expected adapter_config.json and" in line


def test_weights_are_needed(folder: Path) -> None:
    (folder / "models/tiny/model.safetensors").unlink()
    assert errors(folder, GOOD) == [f'{FILE}:11: models.base[0].path: "DIR/models/tiny" has no weights (*.safetensors)']


def test_a_model_folder_is_not_a_runs(folder: Path) -> None:
    text = changed(("path: models/tiny", "path: tiny"), ("name: base", "name: tiny"), ("run: base", "run: tiny"))
    (folder / "models/tiny").rename(folder / "tiny")
    assert errors(folder, text) == [f"{FILE}:21: runs[2].name: tiny would be the run's folder, but model tiny is there"]


@pytest.mark.parametrize(
    ("closed", "old", "new", "message"),
    [
        ("models/tiny", "", "", "models.base[0].path: "),
        (
            "elsewhere/epoch_0",
            "type: control",
            "type: eval-only\n    checkpoint_path: elsewhere/epoch_0",
            "runs[2].checkpoint_path: ",
        ),
        ("elsewhere", "words.json", "elsewhere/words.json", 'there is no file "DIR/elsewhere/words.json"; '),
    ],
)
def test_folders_that_are_closed_to_this_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, closed: str, old: str, new: str, message: str
) -> None:
    """As folders of other users are; root may look into each."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder / closed and access(path, mode))
    (line,) = errors(folder, changed((old, new)) if old else GOOD)
    assert f'{message}you have no right to look into "DIR/{closed}"' in line
