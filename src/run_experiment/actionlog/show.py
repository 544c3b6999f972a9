"""Shows entries of the action logs, filtered, as a table or as JSON (`run-experiment log`)."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from run_experiment.actionlog.entry import Action, Log, escape
from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.errors import CommandError
from run_experiment.common.suggestions import did_you_mean
from run_experiment.slurm.states import first_word, is_live, succeeded

# Widths: of the narrowest table, of a time, of the narrowest subject column, and of the narrowest text.
_NARROWEST, _TIME, _NARROWEST_SUBJECT, _ROOM = 80, 19, 16, 36
_GAP, _BETWEEN = "  ", " | "
_INDENT = " " * 4
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Filters:
    """Entries are shown if they pass all filters; an empty filter passes everything."""

    actions: Sequence[str] = ()
    # A shell pattern for the whole subject; `*` matches slashes too.
    subject: str | None = None
    # A time, or how long ago.
    since: str | None = None
    log: str | None = None


def entries(folder: Path, filters: Filters, now: datetime) -> pd.DataFrame:
    """Entries of an experiment's logs that pass the filters, in time order. Raises CommandError."""
    since = None if filters.since is None else parse_since(filters.since, now)
    table = _read(folder, _logs(filters.log))
    actions = _actions(filters.actions, table)
    if actions:
        table = table[table["action"].isin(actions)]
    if filters.subject is not None:
        pattern = filters.subject
        table = table[[subject is not None and fnmatchcase(subject, pattern) for subject in table["subject"]]]
    return table if since is None else table[table["time"] >= since]


def as_json(table: pd.DataFrame) -> str:
    """Entries as a JSON array of objects: times in ISO format, null for missing values."""
    rows = [{**row, "time": row["time"] and row["time"].isoformat()} for row in _records(table)]
    return json.dumps(rows, indent=2)


def as_text(table: pd.DataFrame, width: int) -> str:
    """Entries as a table for a terminal of `width` columns, at least 80.

    One line per entry, shortened if necessary; the full text of a failure follows below it.
    """
    rows = [_texts(row) for row in _records(table)]
    width = max(width, _NARROWEST)
    action = max((len(row["action"]) for row in rows), default=0)
    longest = max((len(row["subject"]) for row in rows), default=0)
    subject = min(longest, max(_NARROWEST_SUBJECT, width - _TIME - action - len(_GAP) * 3 - _ROOM))
    lines = []
    for row in rows:
        columns = [
            f"{row['time']:<{_TIME}}",
            f"{row['action']:<{action}}",
            f"{_middle_cut(row['subject'], subject):<{subject}}",
            "",
        ]
        lines += _lines(_GAP.join(columns), row, width)
    return "\n".join(lines)


def terminal_width() -> int:
    """Columns of the terminal, or COLUMNS; without a terminal practically unlimited, since another program reads it."""
    return shutil.get_terminal_size((100_000, 0)).columns


def parse_since(text: str, now: datetime) -> datetime:
    """The local time that `10m`, `2h`, `2025-01-31` or `2025-01-31 10:00` means. Raises CommandError."""
    try:
        if ago := re.fullmatch(r"(\d+)([smhd])", text.strip(), re.ASCII):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        message = f"--since {escape(text)}: not a time; write 10m, 2h, 3d, 2025-01-31 or '2025-01-31 10:00'"
        raise CommandError(message) from None


def _read(folder: Path, logs: Sequence[Log]) -> pd.DataFrame:
    found = [log for log in logs if (folder / log.file).exists()]
    if not found:
        names = " or ".join(log.file for log in logs)
        raise CommandError(f"{escape(str(folder))}: no {names}; has an experiment been run in this folder?")
    try:
        return read_action_logs(folder, found)
    except OSError as error:
        raise CommandError(f"{escape(str(error.filename))}: cannot be read: {error.strerror}") from error


def _logs(name: str | None) -> Sequence[Log]:
    if name is None:
        return tuple(Log)
    if name not in tuple(Log):
        raise CommandError(f"--log {escape(name)}: no such log{did_you_mean(name, Log)}")
    return (Log(name),)


def _actions(names: Sequence[str], table: pd.DataFrame) -> list[str]:
    """Names of actions as written in the logs, ours or another tool's."""
    known = [*Action, *table["action"].dropna()]
    for name in names:
        if name.upper() not in known:
            raise CommandError(f"--action {escape(name)}: no such action{did_you_mean(name, known)}")
    return [name.upper() for name in names]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows, with None for missing values."""
    values = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in values.to_dict("records")]


def _texts(row: dict[str, Any]) -> dict[str, str]:
    """Values of a row as text, before line breaking."""
    texts = {name: str(value) for name, value in row.items() if value is not None}
    extra = [f" ({texts['duration']})"] if "duration" in texts else []
    extra += [" (cut off)"] if row["truncated"] else []
    return {
        "time": texts.get("time", "?"),
        "action": escape(texts.get("action", "?")),
        "subject": escape(texts.get("subject", f"({texts['log']})")),
        "details": texts.get("details", ""),
        "result": (texts.get("result", "") + "".join(extra)).strip(),
        "recommendation": texts.get("recommendation", ""),
    }


def _lines(head: str, row: dict[str, str], width: int) -> list[str]:
    """The lines of an entry, the first of which begins with `head`, its other columns."""
    room = width - len(head)
    said = [row[name] for name in ("details", "result", "recommendation") if row[name]]
    parts = [escape(line) for text in said for line in text.split("\n") if line]
    whole = _BETWEEN.join(parts)
    if len(whole) <= room:
        return [(head + whole).rstrip()]
    if not _failed(row):
        return [head + _cut_to(escape(row["details"]), escape(row["result"]), room)]
    first, below = (parts[0], parts[1:]) if len(parts[0]) <= room else ("", parts)
    wrapped = [line for part in below for line in textwrap.wrap(part, width - len(_INDENT), break_on_hyphens=False)]
    return [(head + first).rstrip(), *(_INDENT + line for line in wrapped)]


def _failed(row: dict[str, str]) -> bool:
    """True if an entry reports a failure."""
    if row["action"] == Action.STATE_CHANGE:
        state = first_word(row["details"].rpartition("→")[2].strip())
        return not is_live(state) and not succeeded(state)
    return row["action"] == Action.CHECKPOINT_MISSING or row["result"].lower().startswith("failed")


def _cut_to(details: str, result: str, room: int) -> str:
    """Both in one line; the result gets up to two thirds of the room."""
    if not result or not details:
        return _cut(details or result, room)
    left = room - len(_BETWEEN)
    for_result = min(len(result), max(left - len(details), left * 2 // 3))
    return _cut(details, left - for_result) + _BETWEEN + _cut(result, for_result)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _middle_cut(text: str, width: int) -> str:
    """Cut in the middle, since the epoch at the end distinguishes evaluations."""
    if len(text) <= width:
        return text
    end = width // 2
    return text[: width - 1 - end] + "…" + text[-end:]
