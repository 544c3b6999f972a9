"""Runs that differ only in their seed: replicates, compared by the spread between seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from run_experiment.common.json_files import canonical
from run_experiment.experiment.model import Run
from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.headline import Headline
from run_experiment.results.analysis.scores import Cell


@dataclass(frozen=True)
class SeedMean:
    """Mean and standard deviation of a task's headline metric over runs that differ only in their seed.

    `parameters` are what the runs set beside it. The interval is Student's of the mean over seeds.
    """

    task: str
    epoch: int | None
    runs: tuple[str, ...]
    parameters: Mapping[str, Any]
    metric: str | None
    seeds: int
    mean: float
    sd: float
    low: float | None
    high: float | None
    method: str
    values: tuple[float, ...] = field(default=(), repr=False)


def seed_means(cells: Sequence[Cell]) -> list[SeedMean]:
    """Means over seeds by task, epoch and parameters, where several seeds have a value."""
    groups: dict[tuple[str, int | None, str], dict[int, Cell]] = {}
    for cell in cells:
        run = cell.evaluation.run
        if run.training and cell.score.value is not None:
            key = (cell.score.task, cell.score.epoch, _without_seed(run))
            groups.setdefault(key, {})[run.training.hyperparameters.seed] = cell
    return [_mean(list(of_seed.values())) for of_seed in groups.values() if len(of_seed) > 1]


def _without_seed(run: Run) -> str:
    assert run.training
    hyperparameters = run.training.hyperparameters.model_dump(mode="json", exclude={"seed"})
    prompting = [run.training.prompting.prompt, run.training.prompting.system_prompt]
    return canonical([run.model.name, str(run.training.data), hyperparameters, prompting])


def _mean(cells: Sequence[Cell]) -> SeedMean:
    score = cells[0].score
    values = np.array([cell.score.value for cell in cells], dtype=np.float64)
    interval = statistics.mean_interval(values)
    return SeedMean(
        task=score.task,
        epoch=score.epoch,
        runs=tuple(cell.score.run for cell in cells),
        parameters={name: value for name, value in cells[0].evaluation.run.parameters.items() if name != "seed"},
        metric=score.metric,
        seeds=len(values),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)),
        low=interval.low,
        high=interval.high,
        method=interval.method,
        values=tuple(map(float, values)),
    )


def between_seeds(one: SeedMean, other: SeedMean) -> float | None:
    """Two-sided p-value of Welch's t-test between the seeds of two groups (Welch 1947); None without spread."""
    if one.sd == other.sd == 0:
        return None
    # Here, since it takes a second.
    from scipy import stats

    return float(stats.ttest_ind(one.values, other.values, equal_var=False).pvalue)


def seeds_text(means: Sequence[SeedMean], headline: Headline) -> str:
    """Sentences on the best group of seeds of a task and its runner-up; empty without groups or a direction."""
    if not means or headline.better is None:
        return ""
    ordered = sorted(means, key=lambda one: -headline.sign * one.mean)
    best = ordered[0]
    text = f"Over seeds, {_name(best)} is best: mean {best.mean:.3f}, standard deviation {best.sd:.3f}."
    if len(ordered) == 1:
        return text
    second = ordered[1]
    p = between_seeds(best, second)
    verdict = "clear" if p is not None and p * (len(ordered) - 1) < statistics.ALPHA else "within noise"
    test = "" if p is None else f", Welch's p = {min(1.0, p * (len(ordered) - 1)):.2g}"
    return f"{text} Against {_name(second)}, mean {second.mean:.3f}: {verdict} between seeds{test}."


def _name(one: SeedMean) -> str:
    set_here = ", ".join(f"{name} {value}" for name, value in one.parameters.items()) or "/".join(one.runs)
    return f"{set_here} after epoch {one.epoch} ({one.seeds} seeds)"
