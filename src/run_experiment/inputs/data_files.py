"""Data files: splits, rows, and hashes that detect changed data."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from run_experiment.common.text import clipped
from run_experiment.inputs.csv_rows import csv_rows
from run_experiment.inputs.safetensors_header import LFS_SIGNATURE

Row = Mapping[str, Any]
Named = TypeVar("Named")

# Formats by a file's ending, in lower case; a file called .json may hold JSON Lines.
FORMATS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}

# How files begin that are no text, or not the text that they stand for.
_SIGNATURES = {
    LFS_SIGNATURE: "is a Git LFS pointer, not the data itself: run `git lfs pull` where it came from",
    b"\x1f\x8b": "is compressed (gzip): unpack it",
    b"PK\x03\x04": "is a spreadsheet or a ZIP archive, whatever its name: save it as CSV UTF-8",
    b"PAR1": "is a Parquet file: save it as JSON Lines",
    b"ARROW1": "is an Arrow file: save it as JSON Lines",
    b"\xff\xff\xff\xff": "is an Arrow file: save it as JSON Lines",
    b"BZh": "is compressed (bzip2): unpack it",
    b"\xfd7zXZ": "is compressed (xz): unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed (Zstandard): unpack it",
    b"SQLite format 3": "is an SQLite database: save the table as JSON Lines",
    b"\xff\xfe": "is UTF-16, not UTF-8: save it as UTF-8",
    b"\xfe\xff": "is UTF-16, not UTF-8: save it as UTF-8",
}


class DataError(Exception):
    """A data file cannot be read as asked; the message says which and why."""


class JoinedRow(NamedTuple):
    """A row of data files that are joined: its file, its number there (from 1), and what it has."""

    file: Path
    number: int
    row: Row


def read_joined(files: Sequence[Path], columns: Iterable[str] = ("input", "output")) -> dict[str, list[JoinedRow]]:
    """Read data files as `read_splits` does: the rows of each split, file after file. Raises DataError."""
    return joined((file, read_splits(file, columns)) for file in files)


def joined(parts: Iterable[tuple[Path, Mapping[str, Sequence[Row]]]]) -> dict[str, list[JoinedRow]]:
    """The rows of each split, file after file."""
    found: dict[str, list[JoinedRow]] = {}
    for file, splits in parts:
        for name, rows in splits.items():
            found.setdefault(name, []).extend(map(JoinedRow, repeat(file), count(1), rows))
    return found


def data_files(value: str | Sequence[str | Sequence[str]]) -> list[Path]:
    """Data files as a config names them: one, or a list; a path in the list may be in pieces (a list)."""
    return [Path("".join(part)) for part in ([value] if isinstance(value, str) else value)]


def as_named(files: Sequence[Named]) -> Named | list[Named]:
    """Data files as configs name them, which `data_files` reads."""
    return files[0] if len(files) == 1 else list(files)


def read_splits(path: Path, columns: Iterable[str] = ("input", "output")) -> dict[str, Sequence[Row]]:
    """Read a data file by its ending: splits by name. JSON Lines, CSV and a JSON list are one split, `train`.

    Text is UTF-8, with or without a byte order mark. The `columns` that are needed tell what separates those of CSV.
    Raises DataError if the file is missing, empty or not what its ending says.
    """
    text = _read_text(path)
    try:
        splits = _parse(text, path.suffix.lower(), frozenset(columns))
    except (ValueError, RecursionError, csv.Error) as error:
        kind = path.suffix.lstrip(".").upper() or "data"
        raise DataError(f"{path} is not valid {kind}: {_reason(error)}") from error
    if not any(splits.values()):
        raise DataError(f"{path} has no rows")
    return splits


def _reason(error: Exception) -> str:
    """What is wrong with a file's text, where Python's words are about Python."""
    if isinstance(error, RecursionError):
        return "brackets are nested too deeply"
    return "it has a number of more than 4,300 digits" if "integer string conversion" in str(error) else str(error)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            beginning = file.read(32)
        for signature, problem in _SIGNATURES.items():
            if beginning.startswith(signature):
                raise DataError(f"{path} {problem}")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if "\0" in text:
        raise DataError(f"{path} has NUL characters: if it is UTF-16, save it as UTF-8; else it is damaged")
    return text


def _parse(text: str, suffix: str, columns: frozenset[str]) -> dict[str, Sequence[Row]]:
    kind = FORMATS.get(suffix)
    if kind is None:
        raise ValueError("expected .json, .jsonl or .csv")
    if kind == "csv":
        return {"train": csv_rows(text, columns)}
    return {"train": _json_lines(text)} if kind == "jsonl" else _json(text)


def _json(text: str) -> dict[str, Sequence[Row]]:
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        # As the Hugging Face Hub has them: JSON Lines, named .json.
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return {"train": _json_lines(text)}
        raise ValueError(f"{error}{_not_json(text, error.pos)}") from error
    if isinstance(content, list):
        return {"train": content}
    if not isinstance(content, dict):
        raise ValueError("expected splits, each a list of objects, or one list")
    if isinstance(content.get("input"), str):
        return {"train": [content]}
    splits: dict[str, Sequence[Row]] = {name: rows for name, rows in content.items() if isinstance(rows, list)}
    if any(_has_columns(part) for part in (content, *content.values())):
        raise ValueError('it has a list for each column; write a list of rows, as pandas does with orient="records"')
    if content and not splits:
        names = ", ".join(json.dumps(name, ensure_ascii=False) for name in list(content)[:5])
        raise ValueError(f"it has {names}, none of them a list; expected splits, each a list of objects")
    return splits


def _has_columns(part: Any) -> bool:
    """Whether a part of a file is a table by columns, as pandas and datasets write it."""
    return isinstance(part, dict) and all(isinstance(part.get(name), list | dict) for name in ("input", "output"))


def _not_json(text: str, position: int) -> str:
    """Hint at what other notations have and JSON has not, at the place of an error."""
    rest = text[position:].lstrip()
    if rest.startswith(("//", "/*", "#")):
        return "; JSON has no comments"
    if rest.startswith("'"):
        return "; JSON has text in double quotes"
    # The error is behind the comma, or at it.
    before = text[: position + 1].rstrip()
    if rest.startswith(("]", "}")) or (before.endswith(",") and rest[1:].lstrip().startswith(("]", "}"))):
        return "; JSON has no comma after the last value"
    return ""


def _json_lines(text: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [json.loads(line, object_pairs_hook=_object)] if line.strip() else []
        except json.JSONDecodeError as error:
            hint = "; the file is JSON, not JSON Lines: name it .json" if number == 1 and _is_json(text) else ""
            hint = hint or _not_json_line(line, error.pos)
            raise ValueError(f"line {number}: {error.msg} (column {error.colno}){hint}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {_reason(error)}") from error
    if len(rows) == 1 and isinstance(rows[0], list):
        raise ValueError("line 1: the file is JSON, not JSON Lines: name it .json")
    return rows


def _not_json_line(line: str, position: int) -> str:
    """Hint at what makes a line of JSON Lines invalid."""
    if line.startswith("\ufeff"):
        return "; the line begins with a byte order mark, as in files that were joined: remove it"
    return "; JSON Lines have no comma after an object" if line[position:].strip() == "," else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; readers differ in which value of a repeated key they take, so there must be none."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {json.dumps(twice)} twice")
    return values


def text_problem(text: str) -> str | None:
    """Why a text cannot be encoded; None if it can. JSON can hold halves of characters: a cut emoji."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        return f"has half of a character at position {error.start + 1} ({half}, a surrogate without its pair)"
    return None


def row_weight(row: Row, key: str) -> float:
    """How much a row counts in the loss; CSV has numbers as text. Raises DataError unless it is a number above 0."""
    value = row.get(key)
    try:
        weight = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not 0 < weight < math.inf:
        found = json.dumps(value) if key in row else "missing"
        raise DataError(f"{key} is {clipped(found, 40)}; expected a number above 0")
    return weight


def rows_of(path: Path, split: str | None) -> list[Row]:
    """Rows of a split of a data file, of all its splits with None. Raises DataError."""
    return [row for name, rows in read_splits(path).items() if split in (None, name) for row in rows]


def split_hash(files: Sequence[Path], split: str, first: int | None = None) -> str:
    """SHA-256 of a split's rows in joined files, or of the `first` ones; of none without such a split.

    Raises DataError.
    """
    return rows_hash([row for file in files for row in rows_of(file, split)][:first])


def rows_hash(rows: Sequence[Row]) -> str:
    """SHA-256 of rows: order counts, formatting of the file does not."""
    text = json.dumps(rows, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
