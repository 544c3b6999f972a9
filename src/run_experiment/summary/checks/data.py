"""The training data that a summary names: files, splits, rows that can be trained on, and enough of them."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from run_experiment.common.suggestions import closest, did_you_mean
from run_experiment.common.text import counted
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.experiment.columns import DEFAULT_COLUMNS, Columns
from run_experiment.experiment.schema import RunEntry, TrainingData
from run_experiment.inputs.conversations import MESSAGES, as_pair, conversation_problem, is_conversation
from run_experiment.inputs.data_files import FORMATS, DataError, Row, read_splits, row_weight, text_problem
from run_experiment.summary.checks.training_rows import column_warnings, evaluated_rows, row_warnings
from run_experiment.summary.checks.trainings import check_steps
from run_experiment.summary.draft import Draft, Finding
from run_experiment.summary.path_hints import file_within, why_missing

Splits = Mapping[str, Sequence[Row]]

_SHARED: KeyPath = ("data", "training", "path")


@dataclass(frozen=True)
class _DataFile:
    """A data file, the key that names it, and the runs that are trained on it, by their paths in the summary."""

    place: KeyPath
    text: str
    path: Path
    runs: Mapping[KeyPath, RunEntry]


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
    for file in _data_files(draft, folder):
        missing = list(missing_file(file.place, file.path, file.text))
        yield from missing or _content(draft, folder, file)


def _data_files(draft: Draft, folder: Path) -> Iterator[_DataFile]:
    trained = {path: run for path, run in draft.runs.items() if run.type == "fine-tuned"}
    if draft.training:
        runs = {path: run for path, run in trained.items() if not run.data}
        yield _DataFile(_SHARED, draft.training.path, folder / draft.training.path, runs)
    for name in dict.fromkeys(run.data for run in trained.values() if run.data):
        runs = {path: run for path, run in trained.items() if run.data == name}
        yield _DataFile((*next(iter(runs)), "data"), name, folder / name, runs)


def _content(draft: Draft, folder: Path, file: _DataFile) -> Iterator[Finding]:
    shared = draft.training if file.place == _SHARED else None
    if shared:
        yield from _format(shared, file.path)
    columns = list(dict.fromkeys(draft.merged(run).columns for run in file.runs.values())) or [DEFAULT_COLUMNS]
    try:
        splits = read_splits(file.path, {name for pair in columns for name in pair})
    except DataError as error:
        yield Finding(file.place, shown(str(error), 500)[1:-1])
        return
    if shared:
        yield from _split_counts(shared, splits)
    if file.runs:
        yield from list(_used_splits(draft, file, splits, columns)) or _trained_on(draft, folder, file, splits)


def _format(training: TrainingData, path: Path) -> Iterator[Finding]:
    written = FORMATS.get(path.suffix.lower())
    # JSON Lines are often named .json, and are recognised.
    if training.format and written and (training.format, written) not in {(written, written), ("jsonl", "json")}:
        yield Finding(("data", "training", "format"), f"is {training.format}, but {path.name} ends in {path.suffix}")


def _split_counts(training: TrainingData, splits: Splits) -> Iterator[Finding]:
    for name, count in (training.splits or {}).items():
        path = ("data", "training", "splits", name)
        if name not in splits and count:
            yield Finding(path, f"the data file has no such split{did_you_mean(name, splits)}", warning=True)
        elif name in splits and len(splits[name]) != count:
            yield Finding(path, f"says {count}, but the data file has {len(splits[name])}", warning=True)


def _used_splits(draft: Draft, file: _DataFile, splits: Splits, columns: Sequence[Columns]) -> Iterator[Finding]:
    """The splits that training reads: there, and each row with the text it needs."""
    needed = ["train"]
    if any(draft.merged(run).validation_during_training for run in file.runs.values()):
        needed.append("validation")
    for name in needed:
        problem = _split_problem(name, splits, columns)
        if name == "train":
            problem = problem or _weight_problem(splits[name], _weight_keys(draft, file))
        if problem:
            reason = " (validation_during_training)" if name == "validation" else ""
            yield Finding(file.place, problem + reason)


def _split_problem(name: str, splits: Splits, columns: Sequence[Columns]) -> str | None:
    rows = splits.get(name)
    if not rows:
        there = "is empty" if name in splits else f"is missing; there is {', '.join(map(shown, splits))}"
        meant = None if name in splits else closest(name, splits)
        return f"split {name} {there}" + (f": rename {shown(meant)} to {name}" if meant else "")
    keys = [key for pair in columns for key in pair]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            return f"row {number} of split {name} is not an object with {' and '.join(dict.fromkeys(keys))}"
        for pair in columns:
            if problem := _row_problem(row, pair):
                return f"row {number} of split {name}: {problem}"
    return None


def _weight_problem(rows: Sequence[Row], keys: Sequence[str]) -> str | None:
    for key, (number, row) in product(keys, enumerate(rows, start=1)):
        try:
            row_weight(row, key)
        except DataError as error:
            return f"row {number} of split train: {error} (weight_key); leave out rows that are not to count"
    return None


def _weight_keys(draft: Draft, file: _DataFile) -> list[str]:
    """Columns with weights of rows, of all runs."""
    keys = (draft.merged(run).weight_key for run in file.runs.values())
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


def _trained_on(draft: Draft, folder: Path, file: _DataFile, file_splits: Splits) -> Iterator[Finding]:
    rows = file_splits["train"]
    yield from _more_than_there_are(draft, file, len(rows))
    yield from check_steps(draft, file.place, file.runs, len(rows))
    yield from _prompts_of_conversations(draft, file, rows)
    for columns in dict.fromkeys(draft.merged(run).columns for run in file.runs.values()):
        splits = {name: [as_pair(row, columns) for row in split] for name, split in file_splits.items()}
        rows = splits["train"]
        yield from column_warnings(draft, folder, file.place, file.path, rows, columns, _weight_keys(draft, file))
        trained = _rows_of_any_run(draft, file, rows, columns)
        yield from row_warnings(file.place, splits, trained, columns)
        names = {run.name for run in file.runs.values() if draft.merged(run).columns == columns}
        yield from evaluated_rows(draft, folder, file.path, names, trained, columns.input)


def _prompts_of_conversations(draft: Draft, file: _DataFile, rows: Sequence[Row]) -> Iterator[Finding]:
    """Prompts of runs that are trained on conversations, which have no input to put into one."""
    for path, run in file.runs.items():
        given = draft.merged(run)
        number = next((number for number, row in enumerate(rows, 1) if is_conversation(row, given.columns.input)), None)
        if number and given.prompt != "{input}":
            message = (
                f"row {number} of split train of {shown(file.path.name)} has {MESSAGES}, which are given as they are"
            )
            yield Finding(draft.place_of(path, run, "prompt"), f"{message}: leave prompt out")
            return


def _rows_of_any_run(draft: Draft, file: _DataFile, rows: Sequence[Row], columns: Columns) -> Sequence[Row]:
    """The rows that a run with these columns is trained on: all, or the most that `training_samples` asks for."""
    merged = [draft.merged(run) for run in file.runs.values()]
    return rows[: max(run.training_samples or len(rows) for run in merged if run.columns == columns)]


def _more_than_there_are(draft: Draft, file: _DataFile, rows: int) -> Iterator[Finding]:
    """Warn if fewer rows are there than a run is to be trained on."""
    asked = {
        draft.place_of(path, run, "training_samples"): draft.merged(run).training_samples or 0
        for path, run in file.runs.items()
    }
    for place, count in asked.items():
        if count > rows:
            yield Finding(place, f"is {count}, but split train has {counted(rows, 'row')}", warning=True)
