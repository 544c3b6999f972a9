"""Checks on the page: losses, classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from run_experiment.report.checks import _losses, _unchanged
from run_experiment.report.class_checks import class_figures
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


def classified(answers: Sequence[tuple[str, str]], value: Callable[[bool], Any] = float) -> LogSamples:
    """Samples with these targets and answers; right are equal ones."""
    return LogSamples(
        tuple(
            SampleScores(place, target, scores={"match": value(said == target)}, label=target, answers={"match": said})
            for place, (target, said) in enumerate(answers)
        )
    )


def test_figures_of_classes_by_hand() -> None:
    # Of yes 90 right, 6 "no", 4 nothing; of no 2 right, 8 "yes".
    counts = {("yes", "yes"): 90, ("yes", "no"): 6, ("yes", "I think so"): 4, ("no", "no"): 2, ("no", "yes"): 8}
    read = classified([pair for pair, count in counts.items() for _ in range(count)])
    found = class_figures(read, "match")
    assert found is not None
    assert (found.classes, found.most, found.share) == (2, "yes", pytest.approx(100 / 110))
    # Recalls 0.9 and 0.2, while accuracy is 92 of 110.
    assert found.balanced_accuracy == pytest.approx(0.55)
    # 2·90 / (100 + 98) and 2·2 / (10 + 8)
    assert found.f1 == pytest.approx((180 / 198 + 4 / 18) / 2)
    assert found.parsed == pytest.approx(106 / 110)


def test_figures_of_classes_of_a_publication() -> None:
    """The examples in scikit-learn's documentation of `f1_score` (macro) and `balanced_accuracy_score`."""
    found = class_figures(classified(list(zip("abcabc", "acbaab", strict=True)) * 5), "match")
    assert found is not None
    assert found.f1 == pytest.approx(0.267, abs=5e-4)
    found = class_figures(classified(list(zip("abaaba", "abaaab", strict=True)) * 5), "match")
    assert found is not None
    assert found.balanced_accuracy == pytest.approx(0.625)


def test_what_is_right_within_a_long_answer_is_of_its_class() -> None:
    read = classified([("yes", "yes")] * 5 + [("no", "no")] * 5)
    long = LogSamples(tuple(replace(one, answers={"match": ""}) for one in read.samples))
    found = class_figures(long, "match")
    assert found is not None
    assert (found.f1, found.parsed, found.balanced_accuracy) == (1, 1, 1)


@pytest.mark.parametrize(
    "read",
    [
        classified([(str(number), "x") for number in range(20)]),
        classified([("yes", "yes")] * 20),
        classified([("yes", "yes")] * 20 + [("no", "no")] * 4),
        classified([("", "yes")] * 20 + [("no", "no")] * 20),
        LogSamples(()),
    ],
    ids=["each its own", "one", "one is rare", "too long", "no sample"],
)
def test_targets_that_are_no_classes_have_no_such_figures(read: LogSamples) -> None:
    assert class_figures(read, "match") is None


def test_scores_between_right_and_wrong_have_the_balance_alone() -> None:
    found = class_figures(classified([("a", "a")] * 6 + [("b", "a")] * 6, lambda right: 0.5), "match")
    assert found is not None
    assert (found.share, found.balanced_accuracy, found.f1, found.parsed) == (0.5, None, None, None)


def test_an_epoch_that_changed_nothing_is_said() -> None:
    hashes = {("r4", epoch): {"a": {"sha256": name}} for epoch, name in enumerate("xxy")}
    assert [(row["subject"], row["found"]) for row in _unchanged(hashes)] == [
        ("r4", "the checkpoint of epoch 1 is that of epoch 0")
    ]
