"""Several data files for a training: what is wrong with one is said with its line, its name and its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from good_summary import FILE, TASK, changed, errors, read, write

from run_experiment.experiment.resolve import resolve
from run_experiment.inputs.safetensors_header import LFS_SIGNATURE

PATH = "path: words.json"
DATASET = ("script: cap.py", "script: cap.py\n      dataset: words.json")
MORE = [{"input": word, "output": word.upper()} for word in "efg"]
TURNS = [{"role": "user", "content": "h"}, {"role": "assistant", "content": "H"}]


def listed(*files: str, changes: tuple[tuple[str, str], ...] = ()) -> str:
    """A summary whose training reads several files, in lines 15 and following."""
    return changed((PATH, "path:" + "".join(f"\n      - {file}" for file in files)), DATASET, *changes)


def write_rows(folder: Path, name: str, rows: Any) -> None:
    write(folder, name, json.dumps(rows))


@pytest.fixture
def more(folder: Path) -> Path:
    write_rows(folder, "more.json", {"train": MORE, "validation": [{"input": "v", "output": "V"}]})
    return folder


def test_files_are_those_of_the_training(more: Path) -> None:
    summary, warnings = read(more, listed("words.json", "more.json"))
    experiment = resolve(summary, more)
    assert warnings == [], "of 7 rows in all"
    assert [run.training and run.training.data for run in experiment.fine_tuned] == [
        (more / "words.json", more / "more.json")
    ] * 2
    assert resolve(read(more, changed((PATH, "path: [words.json]")))[0], more) == resolve(
        read(more, changed())[0], more
    )


def test_any_format_and_any_split_in_one_file_alone(folder: Path) -> None:
    """CSV as Excel saves it, its columns in another order, beside JSON and conversations."""
    (folder / "excel.csv").write_bytes("\ufeffoutput;input\r\nÉ;é\r\n".encode())
    write(folder, "turns.jsonl", json.dumps({"messages": TURNS}) + "\n")
    write_rows(folder, "held.json", {"validation": MORE})
    validated = ("  epochs: 2\n", "  epochs: 2\n  validation_during_training: true\n")
    plain = ('  prompt: "Capitalize: {input}"\n', "")
    text = listed("words.json", "excel.csv", "turns.jsonl", "held.json", changes=(validated, plain))
    assert read(folder, text)[1] == []


# ruff: noqa: E501


@pytest.mark.parametrize(
    ("files", "content", "lines"),
    [
        (("words.json", "gone.json"), None, ['16: data.training.path[1]: there is no file "DIR/gone.json"']),
        (("gone.json", "words.json", "models"), None, ['15: data.training.path[0]: there is no file "DIR/gone.json"', '17: data.training.path[2]: "DIR/models" is a folder; expected a file']),
        (("words.json", "./words.json"), None, ['16: data.training.path[1]: "./words.json" is the file of data.training.path[0] already; name each file once']),
        (("words.json", "more.csv"), "input,output\ne\n", ["16: data.training.path[1]: DIR/more.csv is not valid CSV: row 1 has fewer columns than the header"]),
        (("words.json", "more.csv"), f"{LFS_SIGNATURE.decode()}\n", ["16: data.training.path[1]: DIR/more.csv is a Git LFS pointer, not the data itself: run `git lfs pull` where it came from"]),
        (("words.json", "more.csv"), "question,answer\ne,E\n", ['16: data.training.path[1]: row 1 of split train of more.csv: input is missing; the row has "question", "answer"; input_key names another column']),
        (("words.json", "more.json"), [MORE[0], {"input": "f", "output": 1}], ["16: data.training.path[1]: row 2 of split train of more.json: output is 1, not text"]),
        (("words.json", "more.json"), {"test": MORE}, ['16: data.training.path[1]: "more.json" has no rows of split train, only of "test": leave it out']),
        (("words.json", "more.json"), {"Train": MORE}, ['16: data.training.path[1]: "more.json" has no rows of split train, only of "Train": rename "Train" to train']),
        (("words.json", "more.json"), {"validation": MORE}, ['16: data.training.path[1]: "more.json" has no rows of split train, only of "validation": leave it out, or write validation_during_training: true']),
        (("words.json", "more.json"), {"train": [], "test": MORE}, ['16: data.training.path[1]: "more.json" has no rows of split train, only of "test": leave it out']),
        (("words.json", "''"), None, ["16: data.training.path[1]: must not be empty"]),
        (("words.json", '"a\\0"'), None, ['16: data.training.path[1]: "a\\x00": no path has a NUL character']),
        (("words.json", "3"), None, ["16: data.training.path[1]: YAML reads 3 as a number; quote it: \"3\""]),
        (("words.json", "../w.json"), None, ["16: data.training.path[1]: \"../w.json\" leads out of the experiment's folder; write the full path"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_file(folder: Path, files: tuple[str, ...], content: Any, lines: list[str]) -> None:
    if content is not None:
        write(folder, files[-1], content if isinstance(content, str) else json.dumps(content))
    assert errors(folder, listed(*files)) == [f"{FILE}:{line}" for line in lines]


def test_a_split_that_is_in_no_file(more: Path) -> None:
    write_rows(more, "more.json", {"train": MORE})
    validated = ("  epochs: 2\n", "  epochs: 2\n  validation_during_training: true\n")
    assert errors(more, listed("words.json", "more.json", changes=(validated,))) == [
        f'{FILE}:15: data.training.path: split validation is missing; there is "train", "test" (validation_during_training)'
    ]


def test_an_empty_list(folder: Path) -> None:
    assert errors(folder, changed((PATH, "path: []"))) == [f"{FILE}:14: data.training.path: must not be empty"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("words.json, more.json", "write several files as a list: [words.json, more.json]"),
        ("words.json more.json", "write several files as a list: [words.json, more.json]"),
        ("'*o*.json'", "it is a pattern, which is not looked up: write the path of each file, as a list"),
        ("'w*.json'", "it is a pattern, which is not looked up: write the path of one"),
    ],
)
def test_files_in_one_text(more: Path, text: str, hint: str) -> None:
    found = f'there is no file "DIR/{text.strip(chr(39))}"; {hint}'
    assert errors(more, changed((PATH, f"path: {text}"))) == [f"{FILE}:14: data.training.path: {found}"]


def test_rows_of_each_file_have_weights(more: Path) -> None:
    weighted = (("lora_rank: 4", "lora_rank: 4, weight_key: w"), ("- name: r4", "- name: r4\n    trainer: trl"))
    for name in ("words.json", "more.json"):
        assert errors(more, listed("words.json", "more.json", changes=weighted))[-1].startswith(
            f"{FILE}:16: data.training.path[1]: row 1 of split train of more.json: w is missing; expected a number above 0"
        )
        write_rows(more, name, {"train": [row | {"w": 2} for row in MORE]})
    read(more, listed("words.json", "more.json", changes=weighted))


def test_files_of_one_run(more: Path) -> None:
    own = ("{lora_rank: 8}\n", "{lora_rank: 8, training_samples: 9}\n    data: [words.json, more.json]\n")
    summary, warnings = read(more, changed(own, DATASET))
    assert [len(run.training.data) for run in resolve(summary, more).fine_tuned if run.training] == [
        1,
        2,
    ]
    assert warnings == [f"{FILE}:20: runs[1].parameters.training_samples: is 9, but split train has 7 rows"]
    (more / "more.json").unlink()
    assert errors(more, changed(own, DATASET)) == [f'{FILE}:21: runs[1].data[1]: there is no file "DIR/more.json"']


def test_files_of_one_name_are_told_apart(folder: Path) -> None:
    for name, rows in {"alpaca": MORE, "dolly": [*MORE[:2], {"input": "g"}]}.items():
        write_rows(folder, f"{name}/train.json", rows)
    assert errors(folder, listed("alpaca/train.json", "dolly/train.json")) == [
        f'{FILE}:16: data.training.path[1]: row 3 of split train of dolly/train.json: output is missing; the row has "input"; output_key names another column'
    ]
    write_rows(folder, "dolly/train.json", [{"input": "g", "output": "?"}])
    write_rows(folder, "held.json", {"test": MORE})
    text = listed("alpaca/train.json", "dolly/train.json").replace("dataset: words.json", "dataset: held.json")
    first, second = read(folder, text)[1]
    assert "(row 1 of dolly/train.json)" in first
    assert second.endswith('remove such rows from "alpaca/train.json" and "dolly/train.json"')


def test_rows_of_another_file_that_are_known_or_disagree(more: Path) -> None:
    other = [{"input": "a", "output": "?"}, {"input": "é", "output": "É"}]
    write_rows(more, "more.json", {"train": other, "validation": [MORE[0], {"input": "b", "output": "B"}]})
    write_rows(more, "held.json", {"test": [other[1]]})
    text = listed("words.json", "more.json").replace("dataset: words.json", "dataset: held.json")
    assert read(more, text)[1] == [
        f"{FILE}:14: data.training.path: 1 input of split train has more than one output (row 1 of more.json): unless that is meant, keep one of them",
        f"{FILE}:14: data.training.path: split train has the input of 1 of 2 rows of split validation (row 2 of more.json) as well: results there may show memory; remove such rows from train",
        f'{FILE}:30: evaluation.tasks[0].dataset: 1 of 1 input of split test (row 1) of "held.json" are in split train of "more.json" as well: results there may show memory; remove such rows from "more.json"',
    ]


def test_splits_are_counted_over_all_files(more: Path) -> None:
    for train, warnings in ((7, 0), (4, 1)):
        text = listed("words.json", "more.json").replace("runs:\n", f"    splits: {{train: {train}}}\nruns:\n")
        found = read(more, text)[1]
        assert len(found) == warnings
        assert all("says 4, but the data files have 7" in line for line in found)


@pytest.mark.parametrize("dataset", ["", "\n      dataset: same"])
def test_a_task_has_no_one_file(more: Path, dataset: str) -> None:
    text = listed("words.json", "more.json").replace("\n      dataset: words.json", dataset)
    line = 30 if dataset else 28
    assert errors(more, text) == [
        f"{FILE}:{line}: evaluation.tasks[0].dataset: is required: data.training.path has several files; name the file that runs are evaluated on"
    ]
    write(more, "cap.py", TASK.replace("data_path: str, ", ""))
    read(more, text)
