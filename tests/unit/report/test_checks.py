"""Checks on the page: losses, classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from run_experiment.report.checks.checks import _is_cut, _limited, _saturation, _shortened, _texts, _unchanged
from run_experiment.report.checks.classes import class_figures
from run_experiment.report.checks.losses import loss_checks
from run_experiment.report.values import check_row
from run_experiment.results.analysis.answer import Answer
from run_experiment.results.analysis.samples import LogSamples, SampleScores
from run_experiment.results.analysis.scores import Score


def curve(train: list[float | None], validation: list[float | None]) -> dict[str, object]:
    return {
        "run": "r4",
        "train": [[step, loss] for step, loss in enumerate(train)],
        "validation": [[epoch, epoch, loss] for epoch, loss in enumerate(validation)],
    }


FALLING = [2.0 - step / 40 for step in range(60)]
LEVEL = [2.0, *[1.0, 1.01] * 20]


@pytest.mark.parametrize(
    ("train", "validation", "verdicts"),
    [
        ([2.0, 1.0, 0.5], [0.5, 0.495], ["ok"]),
        ([2.0, 1.0, 0.5], [0.5, 0.4], ["still falling: more epochs may help", "ok"]),
        ([2.0, 1.0, 0.5], [0.4, 0.5], ["rises: an earlier epoch may be better", "ok"]),
        ([2.0, 1.0, 0.5], [0.5, 0.501], ["ok"]),
        ([2.0, 1.0, 0.5], [0.8], ["far apart: it may have learned its data by heart", "ok"]),
        ([2.0, 2.0, 3.0], [], ["did not fall: look at the learning rate and the data"]),
        ([2.0, 2.0], [], ["did not fall: look at the learning rate and the data"]),
        ([2.0, 1.999], [], ["hardly moved: try a higher learning rate or more steps", "ok"]),
        (FALLING, [], ["still falling: more epochs may help", "ok"]),
        (LEVEL, [], ["ok"]),
        ([2.0], [], []),
        ([], [0.5], []),
        ([], [], []),
        ([2.0, None], [], ["diverged: try a lower learning rate"]),
        ([2.0], [None], ["diverged: try a lower learning rate"]),
    ],
)
def test_the_course_of_losses(train: list[float | None], validation: list[float | None], verdicts: list[str]) -> None:
    assert [row["verdict"] for row in loss_checks([curve(train, validation)])] == verdicts


def test_a_finding_on_losses_has_its_numbers() -> None:
    rises, _ = loss_checks([curve([2.0, 0.2], [0.4, 0.435])])
    assert rises["found"] == "lowest after epoch 0 (0.4000), 0.4350 at the end"
    far, _ = loss_checks([curve([2.0, 0.2], [0.435])])
    assert far["found"] == "train 0.2000, validation 0.4350 at the end"


def test_many_findings_of_a_kind_are_a_few_rows() -> None:
    rows = [check_row(f"r{number}", "loss", "2 to 3", "did not fall") for number in range(200)]
    assert [row["subject"] for row in _shortened(rows)] == ["r0", "r1", "r2", "197 more"]
    assert list(_shortened(rows[:4])) == rows[:4]


@pytest.mark.parametrize(
    ("used", "facts", "is_cut"),
    [
        (7, {}, False),
        (8, {}, True),
        (8, {"turn_count": 1}, True),
        (12, {"turn_count": 2}, False),
        (16, {"turn_count": 2}, True),
        (8, {"role_usage": {"grader": {"output_tokens": 5}}}, False),
        (None, {"model_usage": None}, False),
    ],
)
def test_an_answer_that_used_all_its_tokens_may_be_cut(used: int | None, facts: dict[str, Any], is_cut: bool) -> None:
    """A conversation may use more in all, and a grader writes its own."""
    assert _is_cut({"model_usage": {"tiny": {"output_tokens": used}}, **facts}, 8) is is_cut


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.5, 0.96], "ok"),
        ([0.96, 0.97, 0.5], "saturated: differences near the top are hard to see"),
        ([0.0, 0.02], "hardly anything is solved: look at the format of answers"),
        ([0.95], "saturated: differences near the top are hard to see"),
    ],
)
def test_a_task_that_is_too_easy_or_too_hard(values: list[float], verdict: str) -> None:
    answer = Answer("shout", "match/accuracy", "higher")
    scores = [
        Score("r4", "shout", 0, "r4/shout/epoch0", "match/accuracy", "higher", value, 9, 9, None, None, "none")
        for value in values
    ]
    assert [row["verdict"] for row in _saturation(answer, scores)] == [verdict]
    assert list(_saturation(replace(answer, better="lower"), scores)) == []


def test_samples_that_a_limit_ended_are_counted() -> None:
    ended = tuple(SampleScores(place, "", limit=limit) for place, limit in enumerate(["token", "", "time", "token"]))
    logs = {"r4/shout/epoch0": LogSamples(ended[:2]), "r4/shout/epoch1": LogSamples(ended)}
    assert list(_limited("shout", {**logs, "base/shout/base": LogSamples(ended[1:2])})) == [
        check_row(
            "shout",
            "ended by a limit",
            "in 2 of 3 results; most in r4/shout/epoch1: 3 of 4 samples (time, token)",
            "scored as far as they came: raise the limit in the task, or ask for less",
        )
    ]
    assert list(_limited("shout", {"base/shout/base": LogSamples(ended[1:2])})) == []


def test_texts_among_scores_are_counted() -> None:
    """inspect-ai counts them as 0, so the mean hides them."""
    answer = Answer("shout", "judge@mode/tone/mean", "higher")
    logs = {"r4/shout/epoch0": LogSamples((SampleScores(1, ""), SampleScores(2, "", texts=["judge/tone"])))}
    assert list(_texts(replace(answer, metric="match/accuracy"), logs)) == []
    assert list(_texts(answer, {"r4/shout/epoch0": LogSamples(logs["r4/shout/epoch0"].samples[1:])})) == []
    found = "in 1 of 1 results; most in r4/shout/epoch0: 1 of 2 samples"
    verdict = "count as 0: have the scorer give numbers, or C, P, I and N"
    assert list(_texts(answer, logs)) == list(_texts(replace(answer, metric="judge/tone/mean"), logs))
    assert list(_texts(answer, logs)) == [check_row("shout", "texts as scores", found, verdict)]


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
