"""An experiment with a task for each kind of scores that a page must not get wrong; logs are as inspect-ai has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiments import ExperimentFolder
from sample_logs import sample, samples_of, write_log
from small_experiment import cache, evaluate, make_small_experiment, plan_of, train_all
from wilson_by_hand import wilson

from run_experiment.common import paths
from run_experiment.experiment.model import Evaluation
from run_experiment.planning.plan import Plan

# Evaluations of every task: two epochs of a run, one of another, a model without training, an adapter made elsewhere.
CELLS = ("r4/epoch0", "r4/epoch1", "r8/epoch1", "base/base", "given/base")
Samples = list[dict[str, Any]]


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to; a log that is not readable is torn."""

    metrics: Mapping[str, float | None]
    samples: Samples
    reductions: Sequence[Any] | None = None
    readable: bool = True


@dataclass(frozen=True)
class Case:
    """A task: how it came out in each of `CELLS` (None: it was not made), and what the summary says of it."""

    of: Callable[[int], Evaluated | None]
    task: Mapping[str, Any] = field(default_factory=dict)


def marks(right: int, wrong: int) -> list[Any]:
    """Scores of as many samples."""
    return ["C"] * right + ["I"] * wrong


def accuracy(right: int, wrong: int) -> Evaluated:
    """An evaluation by `match`."""
    return Evaluated({"match/accuracy": right / (right + wrong)}, samples_of(marks(right, wrong)))


def _errors(cell: int) -> Evaluated:
    """A regression: the second evaluation has the smallest errors, the last one the largest."""
    scale = (0.5, 0.1, 0.3, 0.8, 1.0)[cell]
    values = [round(scale * (1 + 0.1 * (number % 5)), 4) for number in range(10)]
    return Evaluated({"score/mae": fmean(values)}, samples_of(values, scorer="score"))


def _with_bounds(cell: int) -> Evaluated:
    """`ci_wilson` is listed first, as tasks may."""
    right = (20, 30, 25, 10, 15)[cell]
    low, high = wilson(right, 40)
    return Evaluated(
        {"match/lower": low, "match/upper": high, "match/accuracy": right / 40}, samples_of(marks(right, 40 - right))
    )


def _with_nan(cell: int) -> Evaluated:
    """Some scores are NaN, which inspect-ai leaves out of the mean."""
    values = [*marks(6 + cell % 2, 4 - cell % 2), math.nan, math.nan]
    return Evaluated({"match/accuracy": (6 + cell % 2) / 10}, samples_of(values))


def _with_keys(cell: int) -> Evaluated:
    """A judge gives a tone from 1 to 5, and whether the facts are right."""
    tones = [1 + (number + cell) % 5 for number in range(12)]
    values = [{"facts": "C" if tone > 2 else "I", "tone": tone} for tone in tones]
    means = {"judge/facts/accuracy": fmean(tone > 2 for tone in tones), "judge/tone/mean": fmean(tones)}
    return Evaluated(means, samples_of(values, scorer="judge"))


def _by_several(cell: int) -> Evaluated:
    """Two scorers, of which the first one counts."""
    samples = samples_of(marks(4 + cell, 8 - cell), scorer="exact")
    for one in samples:
        one["scores"]["includes"] = {"value": "C", "answer": "an answer"}
    return Evaluated({"exact/accuracy": (4 + cell) / 12, "includes/accuracy": 1.0}, samples)


def _repeated(cell: int) -> Evaluated:
    """Each of ten samples three times; reduced by the mean."""
    right = {name: (name * 7 + cell * 3) % 4 for name in range(1, 11)}
    samples = [sample(name, "C" if epoch <= right[name] else "I", epoch=epoch) for name in right for epoch in (1, 2, 3)]
    reduced = [{"sample_id": name, "value": count / 3} for name, count in right.items()]
    metrics = {"match/accuracy": fmean(right.values()) / 3}
    return Evaluated(metrics, samples, [{"scorer": "match", "reducer": "mean", "samples": reduced}])


def _with_errors(cell: int) -> Evaluated:
    """Some samples failed, which the task tolerates."""
    samples = [*samples_of(marks(5 + cell, 5 - cell)), sample(11, None, error="boom"), sample(12, None, error="boom")]
    return Evaluated({"match/accuracy": (5 + cell) / 10}, samples)


def _without_samples(cell: int) -> Evaluated:
    """Logs that cannot be read; records have the standard error."""
    values = [1.0] * (5 + cell) + [0.0] * (15 - cell)
    metrics = {"match/accuracy": fmean(values), "match/stderr": stdev(values) / math.sqrt(20)}
    return Evaluated(metrics, samples_of(values), readable=False)


CASES = {
    "plain": Case(lambda cell: accuracy((40, 46, 45, 10, 20)[cell], (10, 4, 5, 40, 30)[cell])),
    "lower": Case(_errors),
    "bounds": Case(_with_bounds),
    "tie": Case(lambda cell: accuracy((6, 9, 9, 5, 5)[cell], (4, 1, 1, 5, 5)[cell])),
    "one": Case(lambda cell: accuracy(cell % 2, 1 - cell % 2)),
    "right": Case(lambda cell: accuracy(20, 0)),
    "wrong": Case(lambda cell: accuracy(0, 20)),
    "with_nan": Case(_with_nan),
    "only_nan": Case(lambda cell: Evaluated({"match/accuracy": None}, samples_of([math.nan] * 3))),
    "keys": Case(_with_keys, {"metric": {"name": "judge/tone", "better": "higher"}}),
    "scorers": Case(_by_several),
    "repeated": Case(_repeated),
    "nometric": Case(lambda cell: Evaluated({}, samples_of(marks(3, 1)))),
    "unknown": Case(lambda cell: Evaluated({"match/length": 2.0 + cell}, samples_of([1.0 + cell, 3.0 + cell]))),
    "errors": Case(_with_errors),
    # 9 of 16 are 0.5625, which lies between two numbers of three digits.
    "nobase": Case(lambda cell: None if CELLS[cell] == "base/base" else accuracy(7 + cell, 9 - cell)),
    "unread": Case(_without_samples),
}


def make_page_cases(folder: Path) -> ExperimentFolder:
    """An experiment with all cases."""
    experiment = make_small_experiment(folder / "experiment")
    values = experiment.read()
    values["evaluation"]["tasks"] = [
        {"name": name, "script": "shout.py@shout", "dataset": "words.json", **case.task} for name, case in CASES.items()
    ]
    for row in values["evaluation"]["matrix"]:
        row["tasks"] = list(CASES)
    experiment.write(values)
    train_all(experiment)
    plan = plan_of(experiment)
    for item in plan.experiment.evaluations:
        cell = CELLS.index(f"{item.run.name}/{item.subject.rpartition('/')[2]}")
        if found := CASES[item.task.name].of(cell):
            leave(experiment, item, found, plan)
    cache(experiment)
    return experiment


def leave(experiment: ExperimentFolder, item: Evaluation, found: Evaluated, plan: Plan) -> None:
    """Leave the record and the log of an evaluation that came to this."""
    completed = sum("error" not in one for one in found.samples)
    counts = {"completed_samples": completed, "total_samples": len(found.samples)}
    evaluate(experiment, [item], plan, metrics=dict(found.metrics), **counts)
    log = experiment.path / paths.eval_log(item.run.name, item.cell)
    if found.readable:
        write_log(log, found.samples, found.reductions)
    else:
        log.write_bytes(b"torn")
