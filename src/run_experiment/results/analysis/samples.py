"""Scores of the samples of an inspect-ai log; what was read is kept by the log's hash.

Logs are read as the ZIP files of JSON that they are: importing inspect-ai takes seconds, and it may not be installed
where results are collected.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from run_experiment.common import paths
from run_experiment.common.json_files import write_atomically
from run_experiment.evaluation.eval_log import number
from run_experiment.evaluation.log_file import open_log
from run_experiment.inputs.data_files import DataError
from run_experiment.inputs.file_hashes import HashMemory

# Where the cache of an experiment is, and the version of what it holds.
CACHE = f"{paths.MEMORY}/samples"
_VERSION = 4

# Metadata longer than this name no cluster.
_LONGEST = 100
# Longer targets are no names of classes; what may stand around a name.
_LONGEST_CLASS, _AROUND = 40, " \t\r\n.,:;!?\"'`*()[]{}"
Scalar = str | int | float | bool | None


class SamplesError(Exception):
    """The samples of a log cannot be read."""


@dataclass(frozen=True)
class SampleScores:
    """Scores of one sample, reduced over its `epochs` (inspect-ai's, not those of a training).

    Scores are named as metrics begin: `match`, `judge/tone`, `match@mode`; None if there is no number. `target` is a
    short hash of the target. `error` says that at least one of its epochs failed; `limit` is the kind of limit
    (`token`, `time`, …) that ended one of them, empty if none did. `label` is the target as the name of a class,
    `answers` are the answers of the first epoch likewise, by scorer; empty if they are too long for one. `texts` names
    the scores whose value is a text that inspect-ai counts as 0.
    """

    id: int | str
    target: str
    epochs: int = 1
    error: bool = False
    limit: str = ""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    label: str = ""
    answers: Mapping[str, str] = field(default_factory=dict)
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class LogSamples:
    """The samples of a log, one entry a sample, in the log's order."""

    samples: tuple[SampleScores, ...]

    @property
    def limited(self) -> Counter[str]:
        """How many samples were ended by a limit, by its kind."""
        return Counter(one.limit for one in self.samples if one.limit)

    def texts(self, name: str) -> int:
        """How many samples have a text in place of a number as this score."""
        return sum(name in one.texts for one in self.samples)


def read_samples(log: Path, memory: HashMemory, cache: Path) -> LogSamples:
    """Scores of a log's samples, from the cache folder if it has them. Raises SamplesError."""
    try:
        kept = cache / f"{memory.file(log)}.json"
    except (OSError, DataError) as error:
        raise SamplesError(str(error) or type(error).__name__) from error
    if found := _from_cache(kept):
        return found
    found = LogSamples(tuple(_samples(log)))
    # What cannot be kept is read again.
    with suppress(OSError):
        # Not `asdict`, which copies all that is in them: it would take longer than reading the log.
        write_atomically(kept, json.dumps({"version": _VERSION, "samples": [vars(one) for one in found.samples]}))
    return found


def _from_cache(path: Path) -> LogSamples | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["version"] != _VERSION:
            return None
        return LogSamples(tuple(SampleScores(**one) for one in kept["samples"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def summaries(log: Path) -> list[dict[str, Any]]:
    """Summaries of a log's samples, one a sample and epoch, as inspect-ai wrote them. Raises SamplesError.

    What models and data sets wrote is in them: text to escape.
    """
    return _summaries(_members(log, "summaries.json")[0])


def _summaries(found: list[Any] | None) -> list[dict[str, Any]]:
    if found is None:
        raise SamplesError("the log has no summaries of its samples")
    return [one for one in found if isinstance(one, dict) and "id" in one]


def _members(log: Path, *names: str) -> list[list[Any] | None]:
    """Lists in a log by the names of its members; None if it has none of a name. Raises SamplesError."""
    try:
        with open_log(log) as file:
            there = set(file.namelist())
            found = [json.loads(file.read(name)) if name in there else None for name in names]
    # A torn file fails in zipfile, in the decompressor or in the parser, each with exceptions of its own.
    except Exception as error:
        raise SamplesError(str(error) or type(error).__name__) from error
    return [one if isinstance(one, list) else None for one in found]


def _samples(log: Path) -> Iterator[SampleScores]:
    found, reductions = _members(log, "summaries.json", "reductions.json")
    by_id: dict[int | str, list[dict[str, Any]]] = {}
    for one in _summaries(found):
        by_id.setdefault(one["id"], []).append(one)
    reduced = _reduced(reductions or [])
    for name, epochs in by_id.items():
        yield SampleScores(
            id=name,
            target=hashlib.sha256(json.dumps(epochs[0].get("target")).encode()).hexdigest()[:16],
            epochs=len(epochs),
            error=any(one.get("error") for one in epochs),
            limit=next((str(one["limit"]) for one in epochs if one.get("limit")), ""),
            scores=_means(epochs) | reduced.get(name, {}),
            metadata=_scalars(epochs[0].get("metadata")),
            label=label(epochs[0].get("target")),
            answers=_answers(epochs[0].get("scores")),
            texts=_texts(epochs),
        )


def label(text: Any) -> str:
    """A target or an answer as the name of a class: without case, quotes and punctuation around it; empty if it is too
    long, or no text.
    """
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if not isinstance(text, str) or len(text) > 2 * _LONGEST_CLASS:
        return ""
    found = text.strip().strip(_AROUND).casefold()
    return found if len(found) <= _LONGEST_CLASS else ""


def _answers(scores: Any) -> dict[str, str]:
    """The answer that each scorer took from a sample's output."""
    found = scores.items() if isinstance(scores, Mapping) else ()
    return {name: label(one.get("answer")) for name, one in found if isinstance(one, Mapping)}


def _reduced(reductions: Iterable[Any]) -> dict[int | str, dict[str, float | None]]:
    """Scores as inspect-ai reduced them, by the sample; a metric of one reducer of several names it."""
    found: dict[int | str, dict[str, float | None]] = {}
    entries = [one for one in reductions if isinstance(one, dict) and isinstance(one.get("samples"), list)]
    scorers = [one.get("scorer") for one in entries]
    for entry in entries:
        name, reducer = str(entry.get("scorer")), entry.get("reducer")
        for sample in entry["samples"]:
            numbers = found.setdefault(sample.get("sample_id"), {})
            values = _numbers(name, sample.get("value"))
            numbers |= {} if scorers.count(name) > 1 and name in numbers else values
            if reducer:
                numbers |= _numbers(f"{name}@{reducer}", sample.get("value"))
    return found


def _means(epochs: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the epochs of a sample that have a value, as inspect-ai counts them: failed ones too, if they were
    scored. Used for logs without reductions.
    """
    values: dict[str, list[float | None]] = {}
    for name, value in _values(epochs):
        values.setdefault(name, []).append(number(value))
    scored = {name: [value for value in found if value is not None] for name, found in values.items()}
    return {name: fmean(found) if found else None for name, found in scored.items()}


def _texts(epochs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the scores of a sample that are no number in one of its epochs, but a text."""
    return sorted({name for name, value in _values(epochs) if isinstance(value, str) and number(value) is None})


def _values(epochs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Scores of a sample's epochs as its scorers gave them, by name."""
    for one in epochs:
        for scorer, score in (one.get("scores") or {}).items():
            yield from _parts(scorer, score.get("value") if isinstance(score, Mapping) else None).items()


def _numbers(name: str, value: Any) -> dict[str, float | None]:
    return {part: number(one) for part, one in _parts(name, value).items()}


def _parts(name: str, value: Any) -> dict[str, Any]:
    """A score by name: one of each key if it has keys."""
    return {f"{name}/{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}


def _scalars(metadata: Any) -> dict[str, Scalar]:
    if not isinstance(metadata, Mapping):
        return {}
    return {
        str(key): value
        for key, value in metadata.items()
        if value is None or (isinstance(value, str | int | float | bool) and len(str(value)) <= _LONGEST)
    }
