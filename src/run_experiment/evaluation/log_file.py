"""The file of an inspect-ai log: its header and the summaries of its samples, read without importing inspect-ai.

The import costs more than a second of CPU time, which each evaluation would spend while it holds a GPU.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from run_experiment.evaluation.errors import EvalError

# A log that is still being written has the second ones in place of the first.
_HEADER, _START = "header.json", "_journal/start.json"
_SAMPLES = "samples/"
_SUMMARIES, _JOURNALED = "summaries.json", re.compile(r"_journal/summaries/(\d+)\.json")

T = TypeVar("T")


class _Part(BaseModel):
    """Part of a log; inspect-ai writes more than what is read."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Dataset(_Part):
    """What the samples were read from."""

    samples: int | None = None
    sample_ids: list[int | str] | None = None


class Spec(_Part):
    """What was evaluated, and with what settings."""

    created: str
    task_id: str = ""
    task_registry_name: str | None = None
    # Early logs do not tell apart which arguments were passed.
    task_args_passed: dict[str, Any] = Field(
        default_factory=dict, validation_alias=AliasChoices("task_args_passed", "task_args")
    )
    solver: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    dataset: Dataset
    model: str
    model_args: dict[str, Any] = {}
    model_generate_config: dict[str, Any] = {}
    config: dict[str, Any]
    packages: dict[str, str] = {}


class Metric(_Part):
    """Value of a metric, which may be NaN."""

    value: float


class Score(_Part):
    """Metrics of a scorer, or of one key of its scores."""

    name: str
    scorer: str
    reducer: str | None = None
    metrics: dict[str, Metric] = {}


class EarlyStopping(_Part):
    """Samples that a task's own `early_stopping` left out."""

    early_stops: list[Any] = []


class Results(_Part):
    """Metrics of an evaluation, and how many samples they are of."""

    total_samples: int = 0
    completed_samples: int = 0
    early_stopping: EarlyStopping | None = None
    scores: list[Score] = []


class Error(_Part):
    """What ended an evaluation."""

    message: str
    traceback: str


class Stats(_Part):
    """Times in ISO 8601, empty if unknown."""

    started_at: str = ""
    completed_at: str = ""


class Header(_Part):
    """A log without its samples, in the version of the format that is read here."""

    version: Literal[2]
    status: Literal["started", "success", "cancelled", "error"] = "started"
    eval: Spec
    results: Results | None = None
    stats: Stats = Stats()
    error: Error | None = None


class SampleScore(_Part):
    """Score that a scorer gave to a sample."""

    value: Any


class Summary(_Part):
    """A sample in one epoch, without what was said."""

    id: int | str
    epoch: int
    uuid: str | None = None
    scores: dict[str, SampleScore] | None = None
    error: str | None = None
    completed: bool = False


_SUMMARY_LIST = TypeAdapter(list[Summary])


def open_log(log: Path) -> zipfile.ZipFile:
    """The files of a log."""
    # It teaches zipfile the compression of logs, as inspect-ai itself does; Python 3.14 knows it.
    with suppress(ImportError):
        import zipfile_zstd  # noqa: F401
    return zipfile.ZipFile(log)


def read_header(log: Path) -> Header:
    """The header of a log, also of one that is still being written. Raises EvalError."""
    try:
        return Header.model_validate_json(*_read(log, lambda names: [_HEADER if _HEADER in names else _START]))
    except ValidationError:
        return _by_inspect(log, _header_by_inspect)


def read_summaries(log: Path) -> list[Summary]:
    """Summaries of a log's samples; of a sample that was evaluated again the last one. Raises EvalError."""
    texts = _read(log, lambda names: [_SUMMARIES] if _SUMMARIES in names else _journaled(names))
    try:
        found = [summary for text in texts for summary in _SUMMARY_LIST.validate_json(text)]
    except ValidationError:
        found = _by_inspect(log, _summaries_by_inspect)
    return list({(str(one.id), one.epoch): one for one in found}.values())


def samples_written(log: Path) -> tuple[int, int | None] | None:
    """How many samples an unfinished log has, and of how many (None if it does not say); None if it cannot be read."""
    try:
        with open_log(log) as file:
            written = sum(name.startswith(_SAMPLES) for name in file.namelist())
            spec = Header.model_validate_json(file.read(_START)).eval
    # It is replaced again and again while it is written, and its compression may fail in exceptions of its own.
    except Exception:
        return None
    count = len(spec.dataset.sample_ids or []) or spec.dataset.samples
    return written, count and count * (spec.config.get("epochs") or 1)


def _journaled(names: Iterable[str]) -> list[str]:
    """Files of summaries, in the order in which they were written."""
    numbers = {int(match[1]): name for name in names if (match := _JOURNALED.fullmatch(name))}
    return [numbers[number] for number in sorted(numbers)]


def _read(log: Path, choose: Callable[[Iterable[str]], list[str]]) -> list[bytes]:
    """Texts of the files that are chosen from all of a log. Raises EvalError for a missing or torn log."""
    try:
        with open_log(log) as file:
            return [file.read(name) for name in choose(file.namelist())]
    # A torn file fails in zipfile or in the decompressor, each with exceptions of its own.
    except Exception as error:
        raise EvalError(f"cannot read {log}: {error}") from error


def _by_inspect(log: Path, read: Callable[[Path], T]) -> T:
    """What inspect-ai reads in a log of another version. Raises EvalError."""
    try:
        return read(log)
    # inspect-ai documents none of its exceptions.
    except Exception as error:
        raise EvalError(f"cannot read {log}: {error}") from error


def _header_by_inspect(log: Path) -> Header:
    from inspect_ai.log import read_eval_log

    found = read_eval_log(str(log), header_only=True).model_dump(exclude_none=True)
    return Header.model_validate({**found, "version": 2})


def _summaries_by_inspect(log: Path) -> list[Summary]:
    from inspect_ai.log import read_eval_log_sample_summaries

    found = read_eval_log_sample_summaries(str(log))
    return [Summary.model_validate(one.model_dump(exclude_none=True)) for one in found]
