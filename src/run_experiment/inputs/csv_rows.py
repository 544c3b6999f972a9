"""Rows of CSV files as spreadsheets save them: comma, semicolon or tab between columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

# Of one cell, in characters; Python's own limit is 131,072.
_LARGEST_CELL = 2**31 - 1
_DELIMITERS = (",", ";", "\t")
# What pandas takes for a missing value.
_NOTHING = {
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
}
_WHOLE = re.compile(r"\s*[-+]?\d+\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)


def csv_rows(text: str, needed: Set[str]) -> list[dict[str, str]]:
    """Rows by the names of the first line. Raises ValueError or csv.Error, naming the row.

    Columns are separated by commas, unless only another separator makes the needed columns. Several columns without a
    name, which spreadsheets write, are left out.
    """
    csv.field_size_limit(_LARGEST_CELL)
    blank = len(text) - len(text.lstrip("\r\n"))
    reader = csv.DictReader(io.StringIO(text[blank:]), strict=True, delimiter=_delimiter(text[blank:], needed))
    twice = _repeated(list(reader.fieldnames or ()))
    rows: list[dict[str, str]] = []
    while (row := _next_row(reader, text.count("\n", 0, blank))) is not None:
        rows.append(row)
        _require_a_row(len(rows), row, needed)
    return [{name: value for name, value in row.items() if name not in twice} for row in rows]


def _repeated(columns: list[str]) -> list[str]:
    """What several columns are called, which may only be nothing. Raises ValueError."""
    if columns and columns[0].startswith("sep="):
        raise ValueError("the first line is Excel's sep=, not the names of the columns: delete it")
    twice = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
    if any(twice):
        raise ValueError(f"the first line has the column {next(filter(None, twice))!r} twice")
    return twice


def _next_row(reader: csv.DictReader[str], before: int) -> dict[str, str] | None:
    """The next row, None after the last; there are `before` lines before the header. Raises ValueError or csv.Error."""
    begin = before + reader.line_num + 1
    try:
        return next(reader, None)
    except csv.Error as error:
        if str(error) == "unexpected end of data":
            raise ValueError(f'a quote (") is opened in or after line {begin} and never closed') from error
        raise csv.Error(f"line {before + reader.reader.line_num}: {error}") from error


def _require_a_row(number: int, row: Mapping[Any, object], needed: Set[str]) -> None:
    """Raise ValueError for a row that is longer or shorter than the header, or is a header itself."""
    if None in row:
        raise ValueError(f"row {number} has more columns than the header")
    if any(row.get(name, "") is None for name in needed):
        raise ValueError(f"row {number} has fewer columns than the header")
    # The second file of two that were joined may begin with a byte order mark.
    if all(isinstance(value, str) and value.lstrip("\ufeff") == name for name, value in row.items()):
        raise ValueError(f"row {number} is the header again, as in files that were joined: remove it")


def _delimiter(text: str, needed: Set[str]) -> str:
    fitting = [delimiter for delimiter in _DELIMITERS if set(_header(text, delimiter)) >= needed]
    return fitting[0] if fitting else ","


def _header(text: str, delimiter: str) -> list[str]:
    # Not strict: with another delimiter than the file's, quoted names are no valid CSV.
    return next(csv.reader(io.StringIO(text), delimiter=delimiter), [])


def read_otherwise(cells: Sequence[str]) -> tuple[int, str, str] | None:
    """The first cell of a column that pandas, and so Hugging Face datasets, reads as other text than is written.

    As its number (from 1), its text, and what is read. None if all cells are read as written.
    """
    for number, cell in enumerate(cells, start=1):
        if cell in _NOTHING:
            return number, cell, "nothing"
    read = _numbers(cells) or _truths(cells)
    numbered = enumerate(zip(cells, read, strict=False), start=1)
    return next(((number, cell, value) for number, (cell, value) in numbered if cell != value), None)


def _numbers(cells: Sequence[str]) -> list[str]:
    """A column as pandas prints it if all of it are numbers, else nothing."""
    if all(_WHOLE.fullmatch(cell) for cell in cells):
        return [str(int(cell)) for cell in cells]
    return [str(float(cell)) for cell in cells] if all(_NUMBER.fullmatch(cell) for cell in cells) else []


def _truths(cells: Sequence[str]) -> list[str]:
    truths = all(cell.lower() in ("true", "false") for cell in cells)
    return [cell.capitalize() for cell in cells] if truths else []
