"""The results of a task on the page: a table of its runs and epochs, and which of them is best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from run_experiment.common.text import counted
from run_experiment.experiment.model import Evaluation, Task
from run_experiment.experiment.records import ERROR_SUFFIXES, EvaluationRecord
from run_experiment.planning.results_state import Records
from run_experiment.results.markdown import markdown_table

_UNTRAINED = {"control": "without training", "eval-only": "trained elsewhere"}


@dataclass(frozen=True, eq=False)
class Result:
    """An evaluation that was made, with its record."""

    evaluation: Evaluation
    record: EvaluationRecord

    @property
    def column(self) -> str:
        """The column of the table that it stands in."""
        if self.evaluation.epoch is not None:
            return f"epoch {self.evaluation.epoch}"
        return "eval-only" if self.evaluation.run.type == "eval-only" else "base"

    @property
    def name(self) -> str:
        """What was evaluated, in words."""
        where = _UNTRAINED.get(self.evaluation.run.type) or f"after epoch {self.evaluation.epoch}"
        return f"**{self.evaluation.run.name}** {where}"

    def value(self, metric: str) -> float | None:
        """A metric if it is a finite number."""
        value = self.record.metrics.get(metric)
        return value if isinstance(value, int | float) and math.isfinite(value) else None

    def samples(self, metric: str) -> str:
        """How many samples a metric is of: `6 samples`, or `5 of 6 samples` if not all have a value."""
        number, total = self.record.counted(metric), self.record.total
        return "" if number is None else counted(number, "sample", None if total == number else total)


def task_part(records: Records, task: Task) -> list[str]:
    """The part of the page on a task; empty if no evaluation of it was made."""
    results = list(_results(records, task))
    if not results:
        return []
    metric = headline_metric([result.record for result in results])
    if metric is None:
        return [f"### {task.name}: no metric", _table(records, results, "")]
    return [f"### {task.name}: {metric}", _table(records, results, metric), _best(results, metric)]


def _results(records: Records, task: Task) -> Iterator[Result]:
    for evaluation in records.experiment.evaluations:
        if evaluation.task.name == task.name and (record := records.evaluation(evaluation)):
            yield Result(evaluation, record)


def headline_metric(records: Sequence[EvaluationRecord]) -> str | None:
    """The metric that stands for an evaluation: the first that is no measure of error, if possible one with a value."""
    values: dict[str, list[float | None]] = {}
    for record in records:
        for name, value in record.metrics.items():
            if not name.endswith(ERROR_SUFFIXES):
                values.setdefault(name, []).append(value)
    with_value = (name for name, found in values.items() if any(value is not None for value in found))
    return next(with_value, next(iter(values), None))


def _table(records: Records, results: Sequence[Result], metric: str) -> str:
    """A line for each run, a column for each epoch; with the standard error if there is one."""
    epochs = sorted({one.epoch for one in records.experiment.evaluations if one.epoch is not None})
    cells: dict[str, dict[str, str]] = {}
    for result in results:
        cells.setdefault(result.evaluation.run.name, {})[result.column] = _cell(result, metric)
    columns = ["base", "eval-only", *(f"epoch {epoch}" for epoch in epochs)]
    used = [name for name in columns if any(name in row for row in cells.values())]
    lines = [[run, *(row.get(name, "") for name in used)] for run, row in cells.items()]
    return markdown_table(["run", *used], lines)


def _cell(result: Result, metric: str) -> str:
    if not metric:
        return result.samples(metric)
    value, error = result.value(metric), result.value(f"{metric.rpartition('/')[0]}/stderr")
    text = "n/a" if value is None else f"{value:.3f}"
    spread = "" if error is None else f" ± {error:.3f}"
    samples = result.samples(metric)
    return f"{text}{spread} ({samples})" if " of " in samples else f"{text}{spread}"


def _best(results: Sequence[Result], metric: str) -> str:
    """Which result is highest; a tie has no winner."""
    values = {result: value for result in results if (value := result.value(metric)) is not None}
    if not values:
        return ""
    top = max(values.values())
    winners = [result for result, value in values.items() if value == top]
    if len(winners) == len(values) > 1:
        return f"All {len(values)} have the same {metric}: {top:.3f}."
    names = " and ".join(filter(None, [", ".join(one.name for one in winners[:-1]), winners[-1].name]))
    counts = dict.fromkeys(result.samples(metric) for result in winners)
    return f"Highest {metric}: {names}, {top:.3f} ({', '.join(counts)})."
