"""Rows of training data: columns that training leaves out or evaluations read as other text, rows that evaluations ask
about as well, rows that disagree.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from pathlib import Path

from run_experiment.common.files import regular
from run_experiment.common.paths import told_apart
from run_experiment.common.text import counted
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.experiment.columns import Columns
from run_experiment.experiment.resolve import split_script
from run_experiment.inputs.csv_rows import read_otherwise
from run_experiment.inputs.data_files import DataError, JoinedRow, Row, read_joined
from run_experiment.summary.draft import Draft, Finding

# What a model would be given, in the formats of other trainers: an evaluation that reads them is no reason to train
# without them.
_OF_A_PROMPT = re.compile(
    r"instructions?|context|system(_prompt)?|messages|conversations?|history|prompt|question|query|passage|documents?",
    re.IGNORECASE,
)
# What describes a row and is no part of its prompt.
_DESCRIPTION = re.compile(
    r"(.*_)?(id|uuid|index|idx|name|source|url|split|label|category|type|topic|tags?|lang(uage)?|difficulty|level|"
    r"meta(data)?|notes?|comments?|date|license|version|hash|score|count|length)|unnamed: \d+",
    re.IGNORECASE,
)
# Of the rows; below it, empty inputs are thought to be meant.
_MANY_EMPTY = 0.1
# Splits that say how well a model does on rows that it was not trained on.
_HELD_OUT = ("validation", "test")
# Bytes; larger files would take planning too long to read.
_LARGEST = 50_000_000


def column_warnings(
    draft: Draft,
    folder: Path,
    place: KeyPath,
    path: Path,
    rows: Sequence[Row],
    columns: Columns,
    weight_keys: Collection[str],
) -> Iterator[Finding]:
    """One warning about what training leaves out of its rows, and one about cells that tasks may read otherwise.

    `columns` are the ones that are trained on; some run reads each of `weight_keys`, too.
    """
    sources = _task_sources(draft, folder)
    filled = dict.fromkeys(name for row in rows for name, value in row.items() if value not in ("", None, [], {}))
    dropped = [name for name in filled if name not in {*columns, *weight_keys} and _is_dropped(name, sources)]
    blank = [number for number, row in enumerate(rows, start=1) if not any(str(row[key]).strip() for key in columns)]
    if blank:
        message = f"{' and '.join(columns)} are empty in {counted(len(blank), 'row')} of split train (row {blank[0]})"
        yield Finding(place, f"{message}: each trains an empty answer; remove such rows", warning=True)
    unanswered = sum(not str(row[columns.output]).strip() for row in rows) - len(blank)
    # Some may be meant, as where there is nothing to find.
    if unanswered * 2 > len(rows):
        message = f"{unanswered} of {len(rows)} outputs of split train are empty: each trains an empty answer"
        yield Finding(place, message, warning=True)
    empty = sum(not str(row[columns.input]).strip() for row in rows) - len(blank)
    many_empty = f"{empty} of {len(rows)} inputs of split train are empty" if empty >= _MANY_EMPTY * len(rows) else ""
    if dropped:
        also = f"; {many_empty}" if empty and many_empty else ""
        message = f"training reads {' and '.join(columns)} only, and leaves out {', '.join(map(shown, dropped))}{also}"
        yield Finding(place, f"{message}; put into {columns.input} what belongs to the prompt", warning=True)
    elif empty and many_empty:
        yield Finding(place, many_empty, warning=True)
    if path.suffix.lower() in (".csv", ".tsv") and any(re.search(r"""["']csv["']""", text) for text in sources):
        yield from _read_as_values(place, rows, columns)


def _is_dropped(name: str, sources: Sequence[str]) -> bool:
    # Without a name: the numbers of rows, which pandas writes.
    if not name or _DESCRIPTION.fullmatch(name):
        return False
    quoted = (f'"{name}"', f"'{name}'")
    return bool(_OF_A_PROMPT.fullmatch(name)) or not any(text in source for source in sources for text in quoted)


def _task_sources(draft: Draft, folder: Path) -> list[str]:
    """Text of the tasks' scripts, as far as they can be read."""
    sources = []
    for script in {split_script(task.script)[0] for task in draft.tasks.values()}:
        try:
            sources.append(regular(folder / script).read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError):
            continue
    return sources


def _read_as_values(place: KeyPath, rows: Sequence[Row], columns: Columns) -> Iterator[Finding]:
    """Cells that are text in training, and numbers or nothing where a task reads CSV with Hugging Face datasets."""
    for column in columns:
        if found := read_otherwise([str(row[column]) for row in rows]):
            number, cell, value = found
            message = (
                f"row {number}: training reads {column} as the text {shown(cell)}, hf_dataset reads CSV as {value}"
            )
            way_out = "use inspect-ai's csv_dataset in the task, or save the data as JSON"
            yield Finding(place, f"{message}; {way_out}", warning=True)
            return


def row_warnings(
    place: KeyPath,
    splits: Mapping[str, Sequence[JoinedRow]],
    trained: Sequence[JoinedRow],
    columns: Columns,
    named: Callable[[Path], str],
) -> Iterator[Finding]:
    """One warning of held-out rows that are trained on, and one of inputs that have several outputs.

    `trained` are the rows of split train that are trained on, each with text in both columns; `named` is what is said
    of a row's file.
    """
    yield from _held_out_rows(place, splits, trained, columns.input, named)
    yield from _disagreeing_rows(place, trained, columns, named)


def _held_out_rows(
    place: KeyPath,
    splits: Mapping[str, Sequence[JoinedRow]],
    trained: Sequence[JoinedRow],
    key: str,
    named: Callable[[Path], str],
) -> Iterator[Finding]:
    inputs = {_text(one.row, key) for one in trained} - {""}
    found = (_known(name, splits.get(name, ()), inputs, key, "row", named) for name in _HELD_OUT)
    if parts := list(filter(None, found)):
        message = f"split train has the {key} of {' and '.join(parts)} as well"
        yield Finding(place, f"{message}: results there may show memory; remove such rows from train", warning=True)


def _disagreeing_rows(
    place: KeyPath, trained: Sequence[JoinedRow], columns: Columns, named: Callable[[Path], str]
) -> Iterator[Finding]:
    outputs: dict[str, str] = {}
    found: dict[str, JoinedRow] = {}
    for one in trained:
        text, output = _text(one.row, columns.input), _text(one.row, columns.output)
        # Empty inputs have a warning of their own.
        if text and outputs.setdefault(text, output) != output:
            found.setdefault(text, one)
    # If most inputs have several outputs, the data is made so, such as draws from a distribution.
    if found and len(found) * 2 <= len(outputs):
        have = "has" if len(found) == 1 else "have"
        message = f"{counted(len(found), columns.input)} of split train {have} more than one {columns.output}"
        first = next(iter(found.values()))
        advice = "unless that is meant, keep one of them"
        yield Finding(place, f"{message} (row {first.number}{named(first.file)}): {advice}", warning=True)


def evaluated_rows(
    draft: Draft,
    folder: Path,
    training: Sequence[Path],
    runs: Collection[str],
    trained: Sequence[JoinedRow],
    key: str,
) -> Iterator[Finding]:
    """One warning for each task whose data file has inputs that these runs are trained on, from their files.

    A file that is none of our formats is left to its task.
    """
    names = {name for entry in draft.matrix.values() if entry.run in runs for name in entry.tasks}
    inputs: dict[str, Path] | None = None
    for place, task in draft.tasks.items():
        file = folder / (task.dataset or "")
        if task.name not in names or task.dataset in (None, "same") or not _is_another(file, training):
            continue
        if inputs is None:
            inputs = {text: one.file for one in trained if (text := _text(one.row, key))}
        splits = _splits(file, key)
        found = (_known(name, rows, inputs, key, "input") for name, rows in splits.items())
        if parts := list(filter(None, found)):
            texts = (_text(one.row, key) for rows in splits.values() for one in rows)
            named = dict(zip(training, told_apart(training), strict=True))
            sources = " and ".join(dict.fromkeys(shown(named[inputs[text]]) for text in texts if text in inputs))
            message = f"{' and '.join(parts)} of {shown(file.name)} are in split train of {sources} as well"
            advice = f"results there may show memory; remove such rows from {sources}"
            yield Finding((*place, "dataset"), f"{message}: {advice}", warning=True)


def _is_another(file: Path, training: Sequence[Path]) -> bool:
    if not os.path.isfile(file) or os.path.getsize(file) > _LARGEST:
        return False
    return not any(os.path.samefile(file, one) for one in training)


def _splits(file: Path, key: str) -> Mapping[str, Sequence[JoinedRow]]:
    """The splits that say how well a model does on new rows, else all of them."""
    try:
        splits = read_joined([file], [key])
    except DataError:
        return {}
    return {name: splits[name] for name in _HELD_OUT if name in splits} or splits


def _known(
    name: str,
    rows: Sequence[JoinedRow],
    inputs: Container[str],
    key: str,
    noun: str,
    named: Callable[[Path], str] = lambda _: "",
) -> str:
    """How many rows of a split have an input that is trained on, and the first; empty if none has."""
    known = [one for one in rows if _text(one.row, key) in inputs]
    if not known:
        return ""
    first = f"row {known[0].number}{named(known[0].file)}"
    return f"{counted(len(known), noun, of=len(rows))} of split {name} ({first})"


def _text(row: Row, key: str) -> str:
    """The text of a row as people see it: without white space around it, accents in one form; empty if it has none."""
    value = row.get(key) if isinstance(row, dict) else None
    return unicodedata.normalize("NFC", value.strip()) if isinstance(value, str) else ""
