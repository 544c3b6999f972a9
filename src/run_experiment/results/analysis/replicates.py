"""Runs that differ only in their seed: replicates, compared by the spread between seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from run_experiment.common.json_files import canonical
from run_experiment.experiment.model import Experiment, Run
from run_experiment.experiment.records import DEFAULT_BACKEND
from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.comparisons import Cells, Comparison, other_backends, reference_of
from run_experiment.results.analysis.headline import Headline
from run_experiment.results.analysis.scores import Cell


@dataclass(frozen=True)
class SeedMean:
    """Mean and standard deviation of a task's headline metric over runs that differ only in their seed.

    All are of one `backend`; `parameters` are what the runs set beside it. The interval is Student's of the mean over
    seeds.
    """

    task: str
    epoch: int | None
    runs: tuple[str, ...]
    subjects: tuple[str, ...]
    parameters: Mapping[str, Any]
    metric: str | None
    better: str | None
    seeds: int
    mean: float
    sd: float
    low: float | None
    high: float | None
    method: str
    backend: str = DEFAULT_BACKEND
    by_seed: Mapping[int, float] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What the runs have in common: `lora_rank 8`, or their names."""
        return ", ".join(f"{name} {value}" for name, value in self.parameters.items()) or "/".join(self.runs)


@dataclass(frozen=True)
class SeedsAnswer:
    """The best of `cells` means over seeds beside its reference and the best mean of other runs.

    If all were equal, the best would show about `optimism` too much (None if that is not known). `each` are the
    comparisons of its runs with the reference, by sample. `is_all` says that every run that could be best is in a mean.
    """

    best: SeedMean
    cells: int
    optimism: float | None
    against_base: Comparison | None
    each: tuple[Comparison, ...]
    runner_up: SeedMean | None
    against_runner_up: Comparison | None
    is_all: bool


@dataclass(frozen=True)
class _Test:
    """Differences between seeds, tested: `n` seeds or pairs of seeds."""

    n: int
    delta: float
    wins: int
    losses: int
    p: float | None
    interval: statistics.Interval


def seed_means(cells: Sequence[Cell]) -> list[SeedMean]:
    """Means over seeds by task, epoch, backend, trainer and parameters, if several seeds have a value."""
    groups: dict[tuple[str, int | None, str, str], dict[int, Cell]] = {}
    for cell in cells:
        run = cell.evaluation.run
        if run.training and cell.score.value is not None:
            key = (cell.score.task, cell.score.epoch, cell.record.backend, _without_seed(run))
            groups.setdefault(key, {})[run.training.hyperparameters.seed] = cell
    return [_mean(of_seed) for of_seed in groups.values() if len(of_seed) > 1]


def _without_seed(run: Run) -> str:
    assert run.training
    hyperparameters = {**run.training.hyperparameters.used("json"), "seed": None}
    prompting = asdict(run.training.prompting)
    data = [str(file) for file in run.training.data]
    return canonical([run.model.name, data, run.training.trainer, hyperparameters, prompting])


def _mean(of_seed: Mapping[int, Cell]) -> SeedMean:
    cells = list(of_seed.values())
    score = cells[0].score
    by_seed = {seed: cell.score.value for seed, cell in of_seed.items() if cell.score.value is not None}
    values = np.array(list(by_seed.values()), dtype=np.float64)
    interval = statistics.mean_interval(values)
    return SeedMean(
        task=score.task,
        epoch=score.epoch,
        runs=tuple(cell.score.run for cell in cells),
        subjects=tuple(cell.score.subject for cell in cells),
        parameters={name: value for name, value in cells[0].evaluation.run.parameters.items() if name != "seed"},
        metric=score.metric,
        better=score.better,
        seeds=len(values),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)),
        low=interval.low,
        high=interval.high,
        method=interval.method,
        backend=cells[0].record.backend,
        by_seed=by_seed,
    )


def seed_comparisons(experiment: Experiment, cells: Cells, means: Sequence[SeedMean]) -> Iterator[Comparison]:
    """Every mean over seeds compared with its reference: a mean over seeds, or the one score of a single run."""
    of_run = {(one.task, run, one.epoch): one for one in means for run in one.runs}
    for one in means:
        name = reference_of(experiment, experiment.run_by_name[one.runs[0]])
        if not name or name in one.runs:
            continue
        other = of_run.get((one.task, name, one.epoch))
        cell = cells.get((one.task, name, one.epoch)) or cells.get((one.task, name, None))
        if other is not None:
            yield compare_seeds(one, other)
        elif cell is not None and cell.score.value is not None:
            yield _compare_with_one(one, name, cell, cell.score.value)


def _compare_with_one(one: SeedMean, name: str, cell: Cell, value: float) -> Comparison:
    if why := other_backends(one.backend, cell.record.backend):
        return _untested(one, name, cell.score.subject, one.mean - value, why)
    return _named(one, name, cell.score.subject, _differences(one, value), "t over {n} seeds")


def compare_seeds(one: SeedMean, other: SeedMean) -> Comparison:
    """Two means over seeds compared: by the pairs of equal seeds, else as two samples.

    Student's t-test of the paired differences, or Welch's (Welch 1947, Biometrika 34:28).
    """
    subject = ", ".join(other.subjects)
    if why := other_backends(one.backend, other.backend):
        return _untested(one, f"{other.name} ({other.seeds} seeds)", subject, one.mean - other.mean, why)
    shared = [seed for seed in one.by_seed if seed in other.by_seed]
    if len(shared) == one.seeds == other.seeds:
        found = _differences(one, {seed: other.by_seed[seed] for seed in shared})
        return _named(one, f"{other.name} ({other.seeds} seeds)", subject, found, "t over {n} pairs of seeds")
    method = f"Welch's t over {one.seeds} and {other.seeds} seeds"
    return _named(one, f"{other.name} ({other.seeds} seeds)", subject, _welch(one, other), method)


def _differences(one: SeedMean, other: Mapping[int, float] | float) -> _Test:
    """Student's t-test of the differences of each seed to the same seed of others, or to a single score."""
    # Here, since it takes a second.
    from scipy import stats

    reference = [other[seed] if isinstance(other, Mapping) else other for seed in one.by_seed]
    found = np.array(list(one.by_seed.values())) - np.array(reference)
    # Rounding of floats is no spread.
    spread = float(np.ptp(found)) > 1e-12
    p = float(stats.ttest_1samp(found, 0.0).pvalue) if spread else None
    interval = statistics.mean_interval(found) if spread else statistics.none("all seeds differ by the same")
    up, down = int((found > 1e-12).sum()), int((found < -1e-12).sum())
    wins, losses = (down, up) if one.better == "lower" else (up, down)
    return _Test(len(found), float(found.mean()), wins, losses, p, interval)


def _welch(one: SeedMean, other: SeedMean) -> _Test:
    # Here, since it takes a second.
    from scipy import stats

    values, others = list(one.by_seed.values()), list(other.by_seed.values())
    n, delta = min(one.seeds, other.seeds), one.mean - other.mean
    if one.sd == other.sd == 0:
        return _Test(n, delta, 0, 0, None, statistics.none("no spread between seeds"))
    found = stats.ttest_ind(values, others, equal_var=False)
    ends = found.confidence_interval(statistics.LEVEL)
    interval = statistics.Interval(float(ends.low), float(ends.high), "Welch")
    return _Test(n, delta, 0, 0, float(found.pvalue), interval)


def _named(one: SeedMean, reference: str, reference_subject: str, found: _Test, method: str) -> Comparison:
    return Comparison(
        task=one.task,
        epoch=one.epoch,
        run=f"{one.name} ({one.seeds} seeds)",
        subject=", ".join(one.subjects),
        reference=reference,
        reference_subject=reference_subject,
        metric=one.metric,
        paired=True,
        why="" if found.p is not None else "no spread between seeds, so nothing is tested",
        n=found.n,
        delta=found.delta,
        low=found.interval.low,
        high=found.interval.high,
        wins=found.wins,
        losses=found.losses,
        p=found.p,
        method=method.format(n=found.n),
    )


def _untested(one: SeedMean, reference: str, reference_subject: str, delta: float, why: str) -> Comparison:
    test = _Test(0, delta, 0, 0, None, statistics.none(why))
    return replace(_named(one, reference, reference_subject, test, ""), paired=False, why=why)


def seeds_answer(
    means: Sequence[SeedMean], headline: Headline, comparisons: Sequence[Comparison], candidates: Collection[str]
) -> SeedsAnswer | None:
    """What may be said of a task by its means over seeds; None without any, or without a direction.

    `candidates` are the runs that the best is chosen among; p-values against the runner-up count as one of as many
    comparisons as there are rivals.
    """
    if not means or headline.better is None:
        return None
    ordered = sorted(means, key=lambda one: -headline.sign * one.mean)
    best = ordered[0]
    by_subject = {one.subject: one for one in comparisons}
    # Another epoch of the same runs is no rival.
    rivals = [one for one in ordered if one.runs != best.runs]
    second = compare_seeds(best, rivals[0]) if rivals else None
    if second is not None and second.p is not None:
        second = replace(second, p_corrected=min(1.0, second.p * len(rivals)))
    return SeedsAnswer(
        best=best,
        cells=len(means),
        optimism=statistics.optimism_of_means([list(one.by_seed.values()) for one in means]),
        against_base=by_subject.get(", ".join(best.subjects)),
        each=tuple(by_subject[subject] for subject in best.subjects if subject in by_subject),
        runner_up=rivals[0] if rivals else None,
        against_runner_up=second,
        is_all=set(candidates) <= {run for one in means for run in one.runs},
    )
