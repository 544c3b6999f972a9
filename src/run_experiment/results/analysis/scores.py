"""The score of every evaluation: its task's headline metric, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from run_experiment.experiment.model import Evaluation
from run_experiment.experiment.records import EvaluationRecord
from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.headline import Better, Headline
from run_experiment.results.analysis.samples import LogSamples, SampleScores

# Rounding of metrics in logs.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Score:
    """The headline metric of an evaluation. `n` counts samples, `n_scored` those with a value (without a metric those
    that were computed), each once however often inspect-ai repeated it; None if that is not known. The interval is a
    95 % one; `method` names it, or says why there is none.
    """

    run: str
    task: str
    epoch: int | None
    subject: str
    metric: str | None
    better: Better | None
    value: float | None
    n: int | None
    n_scored: int | None
    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True, eq=False)
class Cell:
    """An evaluation that was made, with its score and its samples (None if its log could not be read).

    `by_sample` are the scores that the metric is the mean of; empty if it is no mean of samples' scores. `binary` says
    whether scores of the task are 0 or 1. `clusters` are the samples' clusters if the task names a key.
    """

    evaluation: Evaluation
    record: EvaluationRecord
    score: Score
    samples: LogSamples | None
    by_sample: dict[int | str, float]
    binary: bool
    clusters: dict[int | str, object] | None

    @cached_property
    def targets(self) -> dict[int | str, str]:
        """Hash of each sample's target."""
        return {one.id: one.target for one in self.samples.samples} if self.samples else {}


def backends_of(cells: Iterable[Cell]) -> list[str]:
    """Backends that computed evaluations, by name."""
    return sorted({one.record.backend for one in cells})


def is_binary(metric: str | None, logs: Iterable[LogSamples]) -> bool:
    """Whether scores of a task are 0 or 1, by all its logs: one alone may have no others by chance."""
    return all(value in (0.0, 1.0) for log in logs for value in _by_sample(log.samples, metric).values())


def cell(
    evaluation: Evaluation, record: EvaluationRecord, headline: Headline, samples: LogSamples | None, binary: bool
) -> Cell:
    """An evaluation with its score; `binary` says whether scores of its task are 0 or 1."""
    value = _finite(record.metrics.get(headline.metric or ""))
    found = samples.samples if samples else ()
    by_sample = _by_sample(found, headline.metric)
    clusters = _clusters(found, evaluation.task.cluster)
    is_mean = value is not None and _is_mean(value, list(by_sample.values()))
    interval = (
        statistics.interval(list(by_sample.values()), _groups(by_sample, clusters), binary)
        if is_mean
        else _recorded_interval(record, headline.metric, value, samples is not None)
    )
    score = Score(
        run=evaluation.run.name,
        task=evaluation.task.name,
        epoch=evaluation.epoch,
        subject=evaluation.subject,
        metric=headline.metric,
        better=headline.better,
        value=value,
        n=len(found) if samples else record.total,
        n_scored=len(by_sample) if samples and headline.metric else record.counted(headline.metric or ""),
        low=interval.low,
        high=interval.high,
        method=interval.method,
    )
    return Cell(evaluation, record, score, samples, by_sample if is_mean else {}, binary, clusters)


def _groups(by_sample: Iterable[int | str], clusters: dict[int | str, object] | None) -> list[object] | None:
    return None if clusters is None else [clusters[name] for name in by_sample]


def _recorded_interval(
    record: EvaluationRecord, metric: str | None, value: float | None, has_samples: bool
) -> statistics.Interval:
    """Interval by the standard error that the record has, where scores of samples tell none."""
    if metric is None or value is None:
        return statistics.none("no value")
    stderr, n = _finite(record.metrics.get(f"{metric.rpartition('/')[0]}/stderr")), record.counted(metric)
    if stderr and n and metric.rpartition("/")[2] in ("accuracy", "mean"):
        return _from_stderr(value, stderr, n, metric.endswith("/accuracy"))
    return statistics.none("not the mean of samples' scores" if has_samples else "the samples were not read")


def _from_stderr(value: float, stderr: float, n: int, is_share: bool) -> statistics.Interval:
    found = statistics.from_stderr(value, stderr, n, "t from stderr")
    if not is_share or found.low is None or found.high is None:
        return found
    return statistics.Interval(max(found.low, 0.0), min(found.high, 1.0), found.method)


def _by_sample(samples: Sequence[SampleScores], metric: str | None) -> dict[int | str, float]:
    name = (metric or "").rpartition("/")[0]
    return {one.id: value for one in samples if (value := one.scores.get(name)) is not None}


def _clusters(samples: Sequence[SampleScores], key: str | None) -> dict[int | str, object] | None:
    """The cluster of each sample; one without the key is a cluster of its own."""
    if key is None or not any(key in one.metadata for one in samples):
        return None
    return {one.id: one.metadata.get(key, ("alone", one.id)) for one in samples}


def _is_mean(value: float, scores: Sequence[float]) -> bool:
    return bool(scores) and math.isclose(value, math.fsum(scores) / len(scores), rel_tol=_ROUNDING, abs_tol=_ROUNDING)


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
