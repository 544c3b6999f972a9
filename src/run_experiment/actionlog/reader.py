"""Reads action logs, including those of other tools in the same format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from run_experiment.actionlog.entry import CUT_OFF, FIELDS, Log, unescape

COLUMNS = (
    "time",
    "action",
    "subject",
    "details",
    "result",
    "job_id",
    "duration",
    "command",
    "input",
    "calculation",
    "explanation",
    "recommendation",
    "truncated",
)

_HEADER = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] (\w+)(?:: ?(.*))?")
_TORN_HEADER = re.compile(r"\[[\d :-]*\]? ?$")
_FIELD = re.compile(rf"({'|'.join(FIELDS)}):(?: (.*))?$")

_Row = dict[str, str | bool | None]


def read_action_log(path: Path) -> pd.DataFrame:
    """Entries of a log in order, one per row, with COLUMNS; None or NaT for missing values. Raises OSError.

    `truncated` marks an incomplete entry, which is read as far as it goes. Times are local.
    """
    # After a crash the file may contain NULs in place of unwritten text.
    return _table(_rows(path.read_bytes().decode(errors="replace").replace("\0", "")))


def read_action_logs(folder: Path | str, logs: Iterable[Log] = tuple(Log)) -> pd.DataFrame:
    """Entries of an experiment's logs in time order, with a column `log`; a missing log is empty. Raises OSError."""
    tables = [_table([]).assign(log=None)]
    for log in logs:
        if (path := Path(folder, log.file)).exists():
            tables.append(read_action_log(path).assign(log=log.value))
    # An entry without a readable time follows the one before it.
    order = pd.concat([table["time"].ffill() for table in tables], ignore_index=True)
    table = pd.concat(tables, ignore_index=True)
    return table.loc[order.sort_values(kind="stable").index].reset_index(drop=True)


def _table(rows: list[_Row]) -> pd.DataFrame:
    # As objects, since pandas' string type cannot hold lone surrogates.
    table = pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in COLUMNS})
    table["time"] = pd.to_datetime(table["time"], format="%Y-%m-%d %H:%M:%S", errors="coerce")
    return table.astype({"truncated": bool})


def _rows(text: str) -> list[_Row]:
    """One row per entry; lines that belong to no entry or field are skipped."""
    rows: list[_Row] = []
    row: _Row | None = None
    # Other characters that `splitlines` splits at are part of the text.
    for line in text.removesuffix("\n").split("\n"):
        line = line.removesuffix("\r")
        if begun := _begun(line):
            row = begun
            rows.append(row)
        elif row is None or line == CUT_OFF:
            row = None
        elif not line:
            row["truncated"] = False
            row = None
        elif field := _FIELD.match(line):
            row[FIELDS[field[1]]] = unescape(field[2] or "")
    # After the last possible field only the empty line can be missing.
    if row is not None and "duration" in row and text.endswith("\n"):
        row["truncated"] = False
    return rows


def _begun(line: str) -> _Row | None:
    """The row of an entry that begins here, marked truncated until its end is found."""
    if header := _HEADER.match(line):
        time, action, subject = header.groups()
        return {"time": time, "action": action, "subject": unescape(subject) if subject else None, "truncated": True}
    return {"truncated": True} if _TORN_HEADER.match(line) else None
