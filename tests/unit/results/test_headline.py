"""Which metric stands for a task, and which direction of it is better."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_experiment.experiment.evaluation_section import TaskMetric
from run_experiment.experiment.model import Task
from run_experiment.results.analysis.headline import Headline, direction, headline


def of(*metrics: str, metric: TaskMetric | None = None) -> Headline:
    task = Task("t", Path("t.py"), None, None, own_data=False, args={}, metric=metric)
    return headline(task, [dict.fromkeys(metrics, 0.5)])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        *((f"judge/{name}", "lower") for name in ("mae", "rmse", "loss", "ece", "brier", "perplexity", "brier_score")),
        *((f"judge/{name}", "higher") for name in ("accuracy", "f1", "balanced_accuracy", "macro_f1")),
        *((name, "higher") for name in ("f1@mean/mean", "match/mean", "exact_match/mean", "rouge-l/mean")),
        *((name, "lower") for name in ("mae/mean", "regression/MAE/mean", "wer@median/median")),
        *((name, None) for name in ("judge/mean", "match/length", "tone", "judge/", "judge/tone/mean")),
    ],
)
def test_known_directions(metric: str, expected: str | None) -> None:
    assert direction(metric) == expected


def test_interval_ends_and_spreads_are_no_headline() -> None:
    names = ("lower", "upper", "stderr", "bootstrap_stderr", "std", "var", "ci_low")
    assert of(*(f"m1/{name}" for name in names), "m1/mean").metric == "m1/mean"
    assert of("m1/lower", "m1/upper") == Headline(None, None, "there is no metric")


def test_first_metric_with_a_value() -> None:
    task = Task("t", Path("t.py"), None, None, own_data=False, args={})
    found = headline(task, [{"a/mae": None, "a/rmse": 2.0}])
    assert (found.metric, found.better, found.sign) == ("a/rmse", "lower", -1)
    assert headline(task, [{"a/mae": None}]).metric == "a/mae"
    assert headline(task, []).metric is None


@pytest.mark.parametrize("name", ["judge/tone/mean", "judge/tone", "judge", "mean"])
def test_the_summary_names_the_metric(name: str) -> None:
    found = of("match/accuracy", "judge/tone/mean", metric=TaskMetric(name=name, better="lower"))
    assert found == Headline("judge/tone/mean", "lower")


def test_a_scorer_s_name_does_not_mean_its_spread() -> None:
    """A task may list its metrics in any order."""
    names = ("match/stderr", "match/accuracy")
    assert of(*names, metric=TaskMetric(name="match")).metric == "match/accuracy"
    assert of(*names, metric=TaskMetric(name="match/stderr")).metric == "match/stderr"
    assert of(*names, metric=TaskMetric(name="stderr")).metric == "match/stderr"


def test_what_the_summary_leaves_out_is_known_or_not() -> None:
    assert of("match/accuracy", "x/mae", metric=TaskMetric(name="mae")) == Headline("x/mae", "lower")
    assert of("judge/mean", metric=TaskMetric(better="higher")) == Headline("judge/mean", "higher")
    assert "no evaluation has the metric speed" in of("match/accuracy", metric=TaskMetric(name="speed")).why
    unknown = of("judge/mean")
    assert (unknown.metric, unknown.better) == ("judge/mean", None)
    assert "judge/mean is better is not known" in unknown.why
