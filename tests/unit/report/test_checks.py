"""Checks on the page: losses, classes."""

from __future__ import annotations

import pytest

from run_experiment.report.checks import _losses, balanced_accuracy
from run_experiment.results.analysis.samples import LogSamples, SampleScores


def curve(train: list[float | None], validation: list[float | None]) -> dict[str, object]:
    return {
        "run": "r4",
        "train": [[step, loss] for step, loss in enumerate(train)],
        "validation": [[epoch, epoch, loss] for epoch, loss in enumerate(validation)],
    }


@pytest.mark.parametrize(
    ("train", "validation", "verdicts"),
    [
        ([2.0, 1.0, 0.5], [0.5, 0.4], ["as it should be"]),
        ([2.0, 1.0, 0.5], [0.4, 0.5], ["rises: later epochs may overfit", "as it should be"]),
        ([2.0, 2.0, 3.0], [], ["did not fall"]),
        ([2.0, None], [], ["diverged"]),
        ([2.0], [None], ["diverged"]),
    ],
)
def test_losses_fall_or_it_is_said(
    train: list[float | None], validation: list[float | None], verdicts: list[str]
) -> None:
    assert [row["verdict"] for row in _losses([curve(train, validation)])] == verdicts


def test_balanced_accuracy_is_the_mean_of_the_recalls() -> None:
    def samples(target: str, right: int, wrong: int) -> list[SampleScores]:
        scores = [1.0] * right + [0.0] * wrong
        return [SampleScores(f"{target}{place}", target, scores={"match": score}) for place, score in enumerate(scores)]

    # Recalls 0.9 and 0.2, while accuracy is 92 of 110.
    read = LogSamples((*samples("yes", 90, 10), *samples("no", 2, 8)))
    assert balanced_accuracy(read, "match") == pytest.approx(0.55)
    assert balanced_accuracy(read, "other") is None
    assert balanced_accuracy(LogSamples((SampleScores("a", "yes", scores={"match": 0.5}),)), "match") is None
