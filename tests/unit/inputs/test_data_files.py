"""Data files as spreadsheets, the Hub and other tools save them: read as they were meant, or refused with the cause."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest

from run_experiment.inputs.csv_rows import read_otherwise
from run_experiment.inputs.data_files import (
    DataError,
    data_files,
    read_joined,
    read_splits,
    rows_hash,
    split_hash,
    text_problem,
)

ROWS = [{"input": "apple", "output": "APPLE"}, {"input": "río, élan", "output": "RÍO\n2"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'input,output\r\napple,APPLE\r\n"río, élan","RÍO\r\n2"\r\n'
BOM = "\ufeff"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 2471645608\n"


def problem(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_splits(path)
    return str(caught.value).replace(str(path), "FILE")


# ruff: noqa: E501


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bom.csv", BOM + CSV),
        ("bom.jsonl", BOM + LINES),
        ("bom.json", BOM + json.dumps({"train": ROWS})),
        ("bom-list.json", BOM + json.dumps(ROWS)),
        ("semicolon.csv", 'input;output\napple;APPLE\nrío, élan;"RÍO\n2"\n'),
        ("semicolon-bom.csv", BOM + 'id;"input";"output"\r\n1;apple;APPLE\r\n2;río, élan;"RÍO\r\n2"\r\n'),
        ("quoted.csv", '"input","output"\n"apple","APPLE"\n"río, élan","RÍO\n2"\n'),
        ("quoted-bom.csv", BOM + '"input";"output"\r\n"apple";"APPLE"\r\n"río, élan";"RÍO\r\n2"\r\n'),
        ("empty-columns.csv", 'input,output,,\napple,APPLE,,\n"río, élan","RÍO\n2",,\n'),
        ("empty-columns-semicolon.csv", 'input;output;;\napple;APPLE;;\nrío, élan;"RÍO\n2";;\n'),
        ("empty-lines.csv", "\r\n\r\n" + CSV + "\r\n"),
        ("row-numbers.csv", ',input,output\n0,apple,APPLE\n1,"río, élan","RÍO\n2"\n'),
        ("tabs.csv", 'input\toutput\napple\tAPPLE\nrío, élan\t"RÍO\n2"\n'),
        ("tabs.TSV", 'input\toutput\napple\tAPPLE\nrío, élan\t"RÍO\n2"\n'),
        ("lines.json", LINES),
        ("lines-windows.json", BOM + LINES.replace("\n", "\r\n") + "\r\n"),
        ("indented.json", json.dumps({"train": ROWS}, indent=2)),
    ],
)
def test_rows(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert [{key: row[key] for key in ("input", "output")} for row in read_splits(path)["train"]] == ROWS


def test_one_row_as_json_lines_named_json(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(ROWS[0]))
    assert read_splits(path) == {"train": ROWS[:1]}


def test_cells_are_as_long_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(f"input,output\n{'word ' * 50_000},W\n")
    assert read_splits(path)["train"][0]["input"] == "word " * 50_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"input,output,input\na,A,b\n", "FILE is not valid CSV: the first line has the column 'input' twice"),
        ("a.csv", b"input,output,note,note\na,A,1,2\n", "FILE is not valid CSV: the first line has the column 'note' twice"),
        ("a.tsv", b"input\toutput\toutput\na\tA\tb\n", "FILE is not valid TSV: the first line has the column 'output' twice"),
        ("a.csv", b"input,output\na,A\ninput,output\nb,B\n", "row 2 is the header again, as in files that were joined: remove it"),
        ("a.csv", (BOM + CSV + BOM + CSV).encode(), "row 3 is the header again"),
        ("a.jsonl", (BOM + LINES + BOM + LINES).encode(), "line 3: Unexpected UTF-8 BOM (decode using utf-8-sig) (column 1); the line begins with a byte order mark, as in files that were joined: remove it"),
        ("a.jsonl", b'{"input": "a", "output": "A"},\n', "line 1: Extra data (column 30); JSON Lines have no comma after an object"),
        ("a.json", b'{"input": ["a"], "output": ["A"]}', 'it has a list for each column; write a list of rows, as pandas does with orient="records"'),
        ("a.json", b'{"train": {"input": {"0": "a"}, "output": {"0": "A"}}}', "it has a list for each column"),
        ("a.csv", b"sep=;\ninput;output\na;A\n", "the first line is Excel's sep=, not the names of the columns: delete it"),
        ("a.csv", b"input,output\na,A\nb\n", "FILE is not valid CSV: row 2 has fewer columns than the header"),
        ("a.csv", b'input,output\na,A\n"b,B\nc,C\n', 'a quote (") is opened in or after line 3 and never closed'),
        ("a.csv", b'input,output\n"a"b,A\n', "FILE is not valid CSV: line 2: "),
        ("a.json", b'{"data": {"train": []}}', 'it has "data", none of them a list; expected splits, each a list of objects'),
        ("a.json", b'{"train": []}', "FILE has no rows"),
        ("a.csv", b"", "FILE has no rows"),
        ("a.csv", b"input,output\n", "FILE has no rows"),
        ("a.jsonl", b"\n\n", "FILE has no rows"),
        ("a.csv", b"\0" * 200, "FILE has NUL characters: if it is UTF-16, save it as UTF-8; else it is damaged"),
        ("a.csv", "input,output\na,A\n".encode("utf-16-le"), "FILE has NUL characters: if it is UTF-16, save it as UTF-8"),
        ("a.csv", "input,output\na,A\n".encode("utf-16"), "FILE is UTF-16, not UTF-8: save it as UTF-8"),
        ("a.csv", "input,output\né,É\n".encode("latin-1"), "FILE is not UTF-8: save it as UTF-8"),
        ("a.csv", b"PK\x03\x04\x14\0", "FILE is a spreadsheet or a ZIP archive, whatever its name: save it as CSV UTF-8"),
        ("a.json", gzip.compress(b"[]", mtime=0), "FILE is compressed (gzip): unpack it"),
        ("a.json", b"PAR1\x15\0", "FILE is a Parquet file: save it as JSON Lines"),
        ("a.arrow", b"ARROW1\0\0", "FILE is an Arrow file: save it as JSON Lines"),
        ("data-00000-of-00001.arrow", b"\xff\xff\xff\xff\x08\x01\0\0", "FILE is an Arrow file: save it as JSON Lines"),
        ("a.jsonl.bz2", bz2.compress(b"[]"), "FILE is compressed (bzip2): unpack it"),
        ("a.jsonl.xz", lzma.compress(b"[]"), "FILE is compressed (xz): unpack it"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x04\0", "FILE is compressed (Zstandard): unpack it"),
        ("a.db", b"SQLite format 3\0", "FILE is an SQLite database: save the table as JSON Lines"),
        ("a.json", b"[" + b"9" * 5000 + b"]", "FILE is not valid JSON: it has a number of more than 4,300 digits"),
        ("a.jsonl", b"[" + b"9" * 5000 + b"]", "line 1: it has a number of more than 4,300 digits"),
        ("a.json", LFS.encode(), "FILE is a Git LFS pointer, not the data itself: run `git lfs pull`"),
        ("a.json", b'{"train": [{"input": "a"}], "train": []}', 'FILE is not valid JSON: an object has the key "train" twice'),
        ("a.jsonl", b'{"input": "a", "output": "A", "input": "b"}', 'line 1: an object has the key "input" twice'),
        ("a.jsonl", json.dumps(ROWS).encode(), "line 1: the file is JSON, not JSON Lines: name it .json"),
        ("a.jsonl", json.dumps(ROWS, indent=1).encode(), "; the file is JSON, not JSON Lines: name it .json"),
        ("a.json", b'{"train": []}\n{', "FILE is not valid JSON: line 2: Expecting property name"),
        ("a.json", b'["a"]["b"]', "FILE is not valid JSON: Extra data"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert message in problem(path)


def test_half_of_a_character() -> None:
    assert text_problem("a 🦊") is None
    assert text_problem("cut \ud83d") == (
        "has half of a character at position 5 (\\ud83d, a surrogate without its pair)"
    )


def test_a_config_that_names_a_file_twice_has_its_rows_twice(tmp_path: Path) -> None:
    """As its owner wrote it: in the summary, a file is named once."""
    path = tmp_path / "words.jsonl"
    path.write_text('{"input": "a"}\n')
    named = data_files([str(path), str(path)])
    assert [(one.number, one.row) for one in read_joined(named)["train"]] == [(1, {"input": "a"})] * 2
    assert split_hash(named, "train") == rows_hash([{"input": "a"}] * 2)


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["a", "01"], None),
        (["1", "2"], None),
        (["true story", "NAN"], None),
        (["7", "01"], (2, "01", "1")),
        (["1.50", "2"], (1, "1.50", "1.5")),
        (["1.5", "2"], (2, "2", "2.0")),
        (["True", "true"], (2, "true", "True")),
        (["word", "None"], (2, "None", "nothing")),
        (["", "a"], (1, "", "nothing")),
    ],
)
def test_cells_that_hugging_face_reads_otherwise(
    tmp_path: Path, cells: list[str], found: tuple[int, str, str] | None
) -> None:
    """Compared with what pandas itself reads, which datasets does it with."""
    assert read_otherwise(cells) == found
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "cells.csv"
    path.write_text("cell,other\n" + "".join(f"{cell},x\n" for cell in cells))
    read = ["nothing" if pandas.isna(value) else str(value) for value in pandas.read_csv(path)["cell"]]
    assert (read == cells) == (found is None)
    if found:
        assert read[found[0] - 1] == found[2]
