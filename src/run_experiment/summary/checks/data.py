"""The training data that a summary names: files, splits, rows that can be trained on, and enough of them."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from run_experiment.common.suggestions import closest, did_you_mean
from run_experiment.common.text import counted
from run_experiment.common.yaml_lines import KeyPath, dotted, shown
from run_experiment.experiment.columns import DEFAULT_COLUMNS, Columns
from run_experiment.experiment.schema import RunEntry, TrainingData
from run_experiment.inputs.conversations import MESSAGES, as_pair, conversation_problem, is_conversation
from run_experiment.inputs.data_files import (
    FORMATS,
    DataError,
    JoinedRow,
    Row,
    joined,
    read_splits,
    row_weight,
    text_problem,
)
from run_experiment.summary.checks.training_rows import column_warnings, evaluated_rows, row_warnings
from run_experiment.summary.checks.trainings import check_steps
from run_experiment.summary.draft import Draft, Finding, file_places
from run_experiment.summary.path_hints import file_within, why_missing, why_no_data

Splits = Mapping[str, Sequence[Row]]
JoinedSplits = Mapping[str, Sequence[JoinedRow]]

_SHARED: KeyPath = ("data", "training", "path")


class _DataFile(NamedTuple):
    """A data file, where it is named, and how it is written there."""

    place: KeyPath
    text: str
    path: Path


@dataclass(frozen=True)
class _Data:
    """Data files that are joined, the key that names them, and the runs that are trained on them, by their paths."""

    place: KeyPath
    files: Sequence[_DataFile]
    runs: Mapping[KeyPath, RunEntry]

    def named(self, file: Path) -> str:
        """` of FILE`, as it is written, where there are several."""
        return f" of {self.written(file)}" if len(self.files) > 1 else ""

    def written(self, file: Path) -> str:
        """A file's path as it is written."""
        return next(one.text for one in self.files if one.path == file)


def missing_file(
    path: KeyPath, file: Path, text: str, hint: Callable[[str, Path], str] = why_missing
) -> Iterator[Finding]:
    """What keeps a path, written as `text`, from being a file with something in it; `hint` is for one that is not."""
    if os.path.isdir(file):
        yield Finding(path, f"{shown(str(file), 200)} is a folder; expected a file{file_within(file)}")
    elif not os.path.isfile(file):
        yield Finding(path, f"there is no file {shown(str(file), 200)}{hint(text, file)}")
    elif os.path.getsize(file) == 0:
        yield Finding(path, f"{shown(str(file), 200)} is empty")


def check_training_data(draft: Draft, folder: Path) -> Iterator[Finding]:
    """What keeps runs from being trained on their data files, and what training would make of them unexpectedly."""
    for data in _all_data(draft, folder):
        faulty = [*_named_twice(data), *_missing_files(data, folder)]
        yield from faulty or _content(draft, folder, data)


def _all_data(draft: Draft, folder: Path) -> Iterator[_Data]:
    trained = {path: run for path, run in draft.runs.items() if run.type == "fine-tuned"}
    if draft.training:
        runs = {path: run for path, run in trained.items() if not run.data}
        yield _Data(_SHARED, _files(_SHARED, draft.training.path, folder), runs)
    for names in dict.fromkeys(tuple(run.data) for run in trained.values() if run.data):
        runs = {path: run for path, run in trained.items() if tuple(run.data or ()) == names}
        place: KeyPath = (*next(iter(runs)), "data")
        yield _Data(place, _files(place, names, folder), runs)


def _files(place: KeyPath, names: Sequence[str], folder: Path) -> list[_DataFile]:
    return [_DataFile(where, name, folder / name) for where, name in file_places(place, names)]


def _named_twice(data: _Data) -> Iterator[Finding]:
    places: dict[str, KeyPath] = {}
    for file in filter(lambda one: os.path.isfile(one.path), data.files):
        first = places.setdefault(os.path.realpath(file.path), file.place)
        if first != file.place:
            yield Finding(file.place, f"{shown(file.text)} is the file of {dotted(first)} already; name each file once")


def _missing_files(data: _Data, folder: Path) -> Iterator[Finding]:
    for file in data.files:
        yield from missing_file(file.place, file.path, file.text, partial(why_no_data, folder=folder))


def _content(draft: Draft, folder: Path, data: _Data) -> Iterator[Finding]:
    shared = draft.training if data.place == _SHARED else None
    columns = list(dict.fromkeys(draft.merged(run).columns for run in data.runs.values())) or [DEFAULT_COLUMNS]
    read: dict[Path, Splits] = {}
    for file in data.files:
        if shared:
            yield from _format(shared, file.path)
        try:
            read[file.path] = read_splits(file.path, {name for pair in columns for name in pair})
        except DataError as error:
            yield Finding(file.place, shown(str(error), 500)[1:-1])
    if len(read) < len(data.files):
        return
    splits = joined(read.items())
    if shared:
        yield from _split_counts(shared, splits)
    if data.runs:
        yield from list(_used_splits(draft, data, read, splits, columns)) or _trained_on(
            draft, folder, data, read, splits["train"]
        )


def _format(training: TrainingData, path: Path) -> Iterator[Finding]:
    written = FORMATS.get(path.suffix.lower())
    # JSON Lines are often named .json, and are recognised.
    if training.format and written and (training.format, written) not in {(written, written), ("jsonl", "json")}:
        yield Finding(("data", "training", "format"), f"is {training.format}, but {path.name} ends in {path.suffix}")


def _split_counts(training: TrainingData, splits: JoinedSplits) -> Iterator[Finding]:
    files, has = ("data file", "has") if len(training.path) == 1 else ("data files", "have")
    for name, count in (training.splits or {}).items():
        path = ("data", "training", "splits", name)
        if name not in splits and count:
            yield Finding(path, f"the {files} {has} no such split{did_you_mean(name, splits)}", warning=True)
        elif name in splits and len(splits[name]) != count:
            yield Finding(path, f"says {count}, but the {files} {has} {len(splits[name])}", warning=True)


def _used_splits(
    draft: Draft, data: _Data, read: Mapping[Path, Splits], splits: JoinedSplits, columns: Sequence[Columns]
) -> Iterator[Finding]:
    """The splits that training reads: there, and each row with the text it needs."""
    validates = any(draft.merged(run).validation_during_training for run in data.runs.values())
    needed = {"train": "", "validation": " (validation_during_training)"} if validates else {"train": ""}
    missing = [f"{_missing(name, splits)}{why}" for name, why in needed.items() if not splits.get(name)]
    yield from (Finding(data.place, problem) for problem in missing)
    weight_keys = _weight_keys(draft, data)
    for file in data.files:
        there = read[file.path]
        if not missing and not any(there.get(name) for name in needed):
            yield Finding(file.place, f"{shown(file.text)} {_only_others(there, needed)}")
        for name, why in needed.items():
            rows, where = there.get(name, ()), f"of split {name}{data.named(file.path)}"
            problem = _rows_problem(where, rows, columns)
            if name == "train":
                problem = problem or _weight_problem(where, rows, weight_keys)
            if problem:
                yield Finding(file.place, problem + why)


def _missing(name: str, splits: JoinedSplits) -> str:
    there = "is empty" if name in splits else f"is missing; there is {', '.join(map(shown, splits))}"
    return f"split {name} {there}" + ("" if name in splits else _rename(name, splits))


def _rename(name: str, splits: Iterable[str]) -> str:
    meant = closest(name, splits)
    return f": rename {shown(meant)} to {name}" if meant else ""


def _only_others(splits: Splits, needed: Iterable[str]) -> str:
    """What is said of a file without a row that training reads."""
    others = [name for name, rows in splits.items() if rows]
    unread = "validation" in others
    leave = ": leave it out" + (", or write validation_during_training: true" if unread else "")
    instead = next(filter(None, (_rename(name, others) for name in needed)), leave)
    return f"has no rows of split {' or '.join(needed)}, only of {', '.join(map(shown, others))}{instead}"


def _rows_problem(where: str, rows: Sequence[Row], columns: Sequence[Columns]) -> str | None:
    keys = [key for pair in columns for key in pair]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            return f"row {number} {where} is not an object with {' and '.join(dict.fromkeys(keys))}"
        for pair in columns:
            if problem := _row_problem(row, pair):
                return f"row {number} {where}: {problem}"
    return None


def _weight_problem(where: str, rows: Sequence[Row], keys: Sequence[str]) -> str | None:
    for key, (number, row) in product(keys, enumerate(rows, start=1)):
        try:
            row_weight(row, key)
        except DataError as error:
            return f"row {number} {where}: {error} (weight_key); leave out rows that are not to count"
    return None


def _weight_keys(draft: Draft, data: _Data) -> list[str]:
    """Columns with weights of rows, of all runs."""
    keys = (draft.merged(run).weight_key for run in data.runs.values())
    return list(dict.fromkeys(key for key in keys if key))


def _row_problem(row: Row, columns: Columns) -> str | None:
    if is_conversation(row, columns.input):
        problem = conversation_problem(row[MESSAGES])
        return f"{MESSAGES} {problem}" if problem else None
    found = ((key, _value_problem(row, key)) for key in columns)
    return next((f"{key} {problem}" for key, problem in found if problem), None)


def _value_problem(row: Row, key: str) -> str | None:
    if key not in row:
        other = f"; {key}_key names another column" if row and key in DEFAULT_COLUMNS else ""
        if isinstance(row.get("conversations"), list):
            other = f"; write a conversation as {MESSAGES}, each with role and content"
        return f"is missing; the row has {', '.join(map(shown, row)) or 'nothing'}{other}"
    value = row[key]
    return text_problem(value) if isinstance(value, str) else f"is {shown(value)}, not text"


def _trained_on(
    draft: Draft, folder: Path, data: _Data, read: Mapping[Path, Splits], rows: Sequence[JoinedRow]
) -> Iterator[Finding]:
    yield from _more_than_there_are(draft, data, len(rows))
    yield from check_steps(draft, data.place, data.runs, len(rows))
    yield from _prompts_of_conversations(draft, data, rows)
    weight_keys = _weight_keys(draft, data)
    for columns in dict.fromkeys(draft.merged(run).columns for run in data.runs.values()):
        pairs = {
            file: {name: [as_pair(row, columns) for row in rows] for name, rows in splits.items()}
            for file, splits in read.items()
        }
        for file in data.files:
            own = pairs[file.path].get("train", [])
            yield from column_warnings(draft, folder, file.place, file.path, own, columns, weight_keys)
        splits = joined(pairs.items())
        trained = _rows_of_any_run(draft, data, splits["train"], columns)
        yield from row_warnings(data.place, splits, trained, columns, data.named)
        names = {run.name for run in data.runs.values() if draft.merged(run).columns == columns}
        yield from evaluated_rows(draft, folder, [file.path for file in data.files], names, trained, columns.input)


def _prompts_of_conversations(draft: Draft, data: _Data, rows: Sequence[JoinedRow]) -> Iterator[Finding]:
    """Prompts of runs that are trained on conversations, which have no input to put into one."""
    for path, run in data.runs.items():
        given = draft.merged(run)
        key = given.columns.input
        found = next((one for one in rows if is_conversation(one.row, key)), None)
        if found and given.prompt != "{input}":
            where = f"row {found.number} of split train of {shown(data.written(found.file))}"
            message = f"{where} has {MESSAGES}, which are given as they are"
            yield Finding(draft.place_of(path, run, "prompt"), f"{message}: leave prompt out")
            return


def _rows_of_any_run(draft: Draft, data: _Data, rows: Sequence[JoinedRow], columns: Columns) -> Sequence[JoinedRow]:
    """The rows that a run with these columns is trained on: all, or the most that `training_samples` asks for."""
    merged = [draft.merged(run) for run in data.runs.values()]
    return rows[: max(run.training_samples or len(rows) for run in merged if run.columns == columns)]


def _more_than_there_are(draft: Draft, data: _Data, rows: int) -> Iterator[Finding]:
    """Warn if fewer rows are there than a run is to be trained on."""
    asked = {
        draft.place_of(path, run, "training_samples"): draft.merged(run).training_samples or 0
        for path, run in data.runs.items()
    }
    for place, count in asked.items():
        if count > rows:
            yield Finding(place, f"is {count}, but split train has {counted(rows, 'row')}", warning=True)
