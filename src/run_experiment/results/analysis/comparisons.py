"""Paired differences of evaluations to their reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from run_experiment.experiment.model import Experiment, Run
from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.scores import Cell

# Cells by task, run and epoch.
Cells = Mapping[tuple[str, str, int | None], Cell]


@dataclass(frozen=True)
class Comparison:
    """An evaluation compared with another one of the same task: `delta` is its score minus the reference's.

    `wins` and `losses` count samples on which the run is better and worse than the reference. If it is not `paired`,
    `why` says why, and nothing is tested; else it says which samples were left out, if any.
    `smallest` is the smallest difference that 0/1 scores with as many differing samples could show; None if none.
    Between runs that are repeated with several seeds, `n`, `wins` and `losses` count seeds; `method` says so.
    """

    task: str
    epoch: int | None
    run: str
    subject: str
    reference: str
    reference_subject: str
    metric: str | None
    paired: bool
    why: str
    n: int = 0
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    wins: int = 0
    losses: int = 0
    p: float | None = None
    p_corrected: float | None = None
    method: str = ""
    smallest: float | None = None


def compare(one: Cell, other: Cell) -> Comparison:
    """Compare an evaluation with another one, by the samples that both scored."""
    values = (one.score.value, other.score.value)
    delta = None if values[0] is None or values[1] is None else values[0] - values[1]
    pairs = [name for name in one.by_sample if name in other.by_sample]
    if why := _why_unpaired(one, other, pairs):
        return replace(_named(one, other), why=why, delta=delta)
    total = max(len(one.by_sample), len(other.by_sample))
    part = "" if len(pairs) == total else f"{len(pairs)} of {total} samples are in both"
    clusters = None if one.clusters is None else [one.clusters[name] for name in pairs]
    return _tested(replace(_named(one, other), why=part), one, other, pairs, clusters)


def _tested(
    named: Comparison, one: Cell, other: Cell, pairs: Sequence[int | str], clusters: Sequence[object] | None
) -> Comparison:
    left, right = (np.array([cell.by_sample[name] for name in pairs]) for cell in (one, other))
    differences, binary = left - right, one.binary and other.binary
    up, down = int((differences > 0).sum()), int((differences < 0).sum())
    interval = statistics.difference_interval(differences, binary, clusters)
    exact = binary and clusters is None
    p = statistics.mcnemar(up, down) if exact else statistics.permutation(differences, clusters)
    kind = "clustered" if clusters is not None else "paired"
    wins, losses = (down, up) if one.score.better == "lower" else (up, down)
    return replace(
        named,
        paired=True,
        n=len(pairs),
        delta=float(differences.mean()),
        low=interval.low,
        high=interval.high,
        wins=wins,
        losses=losses,
        p=p,
        method="exact McNemar" if exact else f"{kind} permutation",
        smallest=statistics.smallest_difference(len(pairs), up + down) if exact else None,
    )


def _named(one: Cell, other: Cell) -> Comparison:
    score, reference = one.score, other.score
    return Comparison(
        task=score.task,
        epoch=score.epoch,
        run=score.run,
        subject=score.subject,
        reference=reference.run,
        reference_subject=reference.subject,
        metric=score.metric,
        paired=False,
        why="",
    )


def _why_unpaired(one: Cell, other: Cell, pairs: Sequence[int | str]) -> str:
    if why := other_backends(one.record.backend, other.record.backend):
        return why
    for cell in (one, other):
        if cell.samples is None:
            return f"the samples of {cell.score.subject} could not be read"
        if not cell.by_sample:
            return f"{cell.score.metric or 'its metric'} of {cell.score.subject} is not a mean of samples' scores"
    if not pairs:
        return "no sample id is in both"
    if any(one.targets[name] != other.targets[name] for name in pairs):
        return "samples with the same id have different targets"
    return ""


def other_backends(one: str, other: str) -> str:
    """Why results of two backends are not tested against each other; empty if it is one."""
    return "" if one == other else f"results of two backends: {one} and {other}"


def reference_of(experiment: Experiment, run: Run) -> str:
    """The run that a run is compared with: the summary's, else the control of its model; empty if there is none."""
    if experiment.reference:
        return experiment.reference
    controls = (one.name for one in experiment.runs if one.type == "control" and one.model == run.model)
    return next(controls, "")


def corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons with their p-values corrected for the number of all (Holm)."""
    p_values = statistics.holm([one.p for one in found])
    return [replace(one, p_corrected=p) for one, p in zip(found, p_values, strict=True)]


def comparisons(experiment: Experiment, cells: Cells) -> Iterator[Comparison]:
    """Every evaluation compared with its reference; p-values are not corrected yet."""
    for (task, run, epoch), one in cells.items():
        name = reference_of(experiment, one.evaluation.run)
        if not name or name == run:
            continue
        if other := cells.get((task, name, epoch)) or cells.get((task, name, None)):
            yield compare(one, other)
        else:
            score, after = one.score, "" if experiment.run_by_name[name].training is None else f" after epoch {epoch}"
            why = f"there is no result of {name} on {task}{after}"
            yield Comparison(task, epoch, run, score.subject, name, "", score.metric, paired=False, why=why)
