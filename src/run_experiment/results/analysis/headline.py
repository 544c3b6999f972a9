"""Which metric stands for a task, and whether higher or lower is better."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from run_experiment.experiment.model import Task

Better = Literal["higher", "lower"]

# Leaves of metrics that say how uncertain another one is.
_SPREAD = re.compile(r"(.*_)?(stderr|std|stddev|var|variance|sem|lower|upper|ci_low|ci_high)", re.IGNORECASE)
# Leaves that say only how samples' scores are combined: the scorer's name tells what they are.
_COMBINED = frozenset({"mean", "avg", "average", "median", "sum", "total", "score", "value"})
_HIGHER = frozenset(
    (
        *("accuracy", "acc", "correct", "f1", "precision", "recall", "em", "exact", "exactmatch", "match", "includes"),
        *("pattern", "choice", "pass", "success", "auc", "auroc", "auprc", "mcc", "kappa", "r2", "pearson", "spearman"),
        *("bleu", "sacrebleu", "rouge", "rougel", "chrf", "meteor", "bertscore", "similarity"),
    )
)
_LOWER = frozenset(
    (
        *("mae", "mse", "rmse", "mape", "smape", "rmsle", "error", "errors", "wer", "cer", "ter", "distance"),
        *("loss", "nll", "crossentropy", "perplexity", "ppl", "bpb", "ece", "mce", "brier", "levenshtein"),
    )
)


@dataclass(frozen=True)
class Headline:
    """The metric that stands for a task (`match/accuracy`), None without any; which direction of it is better.

    `why` says why no best result is named: there is no metric, or its direction is not known.
    """

    metric: str | None
    better: Better | None
    why: str = ""

    @property
    def sign(self) -> int:
        """1 where higher is better or nothing is known, -1 where lower is."""
        return -1 if self.better == "lower" else 1


def headline(task: Task, found: Iterable[Mapping[str, float | None]]) -> Headline:
    """The headline of a task among the metrics of its evaluations: that of the summary, else the first that says no
    spread, if possible one with a value.
    """
    values = _values(found)
    given = task.metric
    if given and given.name:
        named = {one: of_each for one, of_each in values.items() if is_named(one, given.name)}
        # Who names a scorer does not mean its spread.
        name = given.name if given.name in named else _first(named) or next(iter(named), None)
        if name is None:
            return Headline(None, None, f"no evaluation has the metric {given.name} of evaluation.tasks")
    else:
        name = _first(values)
    if name is None:
        return Headline(None, None, "there is no metric")
    better = (given and given.better) or direction(name)
    why = "" if better else f"whether a higher {name} is better is not known: evaluation.tasks[].metric.better says it"
    return Headline(name, better, why)


def is_named(metric: str, name: str) -> bool:
    """Whether a name means a metric: all of it, its beginning, or its end (`match/accuracy`, `match`, `accuracy`)."""
    return metric == name or metric.startswith((f"{name}/", f"{name}@")) or metric.endswith(f"/{name}")


def direction(metric: str) -> Better | None:
    """Whether higher or lower is better, by the words of a metric's name; None if they do not say."""
    for part in reversed(metric.split("/")):
        name = part.partition("@")[0].lower()
        if name in _COMBINED:
            continue
        words = {*re.split(r"[^a-z0-9]+", name), re.sub(r"[^a-z0-9]+", "", name)}
        if words & _LOWER:
            return "lower"
        if words & _HIGHER:
            return "higher"
        # `accuracy` of an unknown scorer is known; a leaf that is not known says more than its scorer.
        return None
    return None


def _values(found: Iterable[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    values: dict[str, list[float | None]] = {}
    for metrics in found:
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    return values


def _first(values: Mapping[str, list[float | None]]) -> str | None:
    usable = {name: found for name, found in values.items() if not _SPREAD.fullmatch(name.rpartition("/")[2])}
    with_value = (name for name, found in usable.items() if any(value is not None for value in found))
    return next(with_value, next(iter(usable), None))
