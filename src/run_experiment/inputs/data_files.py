"""Data files: splits, rows, and hashes that detect changed data."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


class DataError(Exception):
    """A data file cannot be read as asked; the message says which and why."""


def read_splits(path: Path) -> dict[str, Sequence[Row]]:
    """Read a data file by its ending: splits by name. JSON Lines, CSV and a JSON list are one split, `train`.

    Raises DataError where the file is missing, empty or not what its ending says.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    try:
        splits = _parse(text, path.suffix.lower())
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{path} is not valid {path.suffix.lstrip('.').upper() or 'data'}: {error}") from error
    if not any(splits.values()):
        raise DataError(f"{path} has no rows")
    return splits


def _parse(text: str, suffix: str) -> dict[str, Sequence[Row]]:
    if suffix == ".csv":
        return {"train": _csv_rows(text)}
    if suffix in (".jsonl", ".ndjson"):
        return {"train": _json_lines(text)}
    if suffix != ".json":
        raise ValueError("expected .json, .jsonl or .csv")
    content = json.loads(text)
    if isinstance(content, list):
        return {"train": content}
    if not isinstance(content, dict):
        raise ValueError("expected splits, each a list of objects, or one list")
    return {name: rows for name, rows in content.items() if isinstance(rows, list)}


def _json_lines(text: str) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}: {error.msg} (column {error.colno})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return rows


def split_hash(path: Path, split: str) -> str:
    """SHA-256 of one split's rows; of no rows if there is no such split. Raises DataError."""
    return rows_hash(read_splits(path).get(split, []))


def _csv_rows(text: str) -> list[Row]:
    rows: list[Row] = list(csv.DictReader(io.StringIO(text), strict=True))
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise ValueError(f"row {number} has more columns than the header")
    return rows


def rows_hash(rows: Sequence[Row]) -> str:
    """SHA-256 of rows: order counts, formatting of the file does not."""
    text = json.dumps(rows, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises DataError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
