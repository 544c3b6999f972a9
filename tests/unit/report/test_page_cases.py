"""The page of an experiment with every kind of scores; expected numbers are worked out here, from the samples alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from experiments import ExperimentFolder
from page_cases import CASES, CELLS, Evaluated, accuracy, leave, marks
from page_reading import data_of
from sample_logs import samples_of
from scipy.stats import permutation_test, t
from small_experiment import make_small_experiment, plan_of, train_all
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from wilson_by_hand import wilson

from run_experiment.report.collect import collect

Row = dict[str, Any]
CANNOT = "No best run can be named: "


@pytest.fixture(scope="module")
def page(cases: ExperimentFolder) -> dict[str, Any]:
    """The data of the page."""
    return data_of(cases)


def scores(page: dict[str, Any], task: str) -> list[Row]:
    """The rows of a task, in the order of CELLS."""
    places = {("r4", 0): 0, ("r4", 1): 1, ("r8", 1): 2, ("base", None): 3, ("given", None): 4}
    found = [row for row in page["scores"] if row["task"] == task]
    return sorted(found, key=lambda row: places[row["run"], row["epoch"]])


def of(page: dict[str, Any], section: str, task: str) -> list[Row]:
    return [row for row in page[section] if row["task"] == task]


def answer(page: dict[str, Any], task: str) -> Row:
    (found,) = of(page, "tasks", task)
    return found


def ends(row: Row) -> tuple[float, float]:
    return row["low"], row["high"]


def student(values: Sequence[float]) -> tuple[float, float]:
    """The t-interval of a mean, as scipy has it."""
    low, high = t.interval(0.95, len(values) - 1, fmean(values), stdev(values) / len(values) ** 0.5)
    return float(low), float(high)


def values_of(task: str, cell: int, scorer: str = "match") -> list[Any]:
    found = CASES[task].of(cell)
    assert found
    return [one["scores"][scorer]["value"] for one in found.samples if one["scores"]]


def test_shares_of_right_samples_have_wilsons_interval_and_exact_tests(page: dict[str, Any]) -> None:
    rows = scores(page, "plain")
    assert [row["value"] for row in rows] == [0.8, 0.92, 0.9, 0.2, 0.4]
    for row, right in zip(rows, (40, 46, 45, 10, 20), strict=True):
        assert (row["n"], row["method"], row["metric"]) == (50, "Wilson", "match/accuracy")
        assert ends(row) == pytest.approx(wilson(right, 50))
    compared = of(page, "comparisons", "plain")
    assert [(row["wins"], row["losses"], row["n"]) for row in compared] == [
        (30, 0, 50),
        (36, 0, 50),
        (35, 0, 50),
        (10, 0, 50),
    ]
    for row in compared:
        expected = mcnemar([[0, row["wins"]], [row["losses"], 0]], exact=True).pvalue
        assert row["p"] == pytest.approx(float(expected), rel=1e-9)


def test_092_against_090_is_within_noise_and_both_beat_the_base(page: dict[str, Any]) -> None:
    assert answer(page, "plain")["answer"] == (
        "r4 after epoch 1 has the highest match/accuracy: 0.920 (95 % interval 0.812 to 0.968). "
        "It is clearly better than base (+0.720). "
        "Its difference to the runner-up, r8 after epoch 1, +0.020, is within noise."
    )
    clear = {(row["run"], row["epoch"]): row["clear"] for row in of(page, "comparisons", "plain")}
    assert clear["r4", 1]
    assert clear["r8", 1]
    assert "chosen among 4 results on the samples that are reported" in answer(page, "plain")["caution"]


def test_where_lower_is_better_the_lowest_is_best(page: dict[str, Any]) -> None:
    found = answer(page, "lower")
    assert (found["best_runs"], found["best_epoch"], found["better"]) == (["r4"], 1, "lower")
    assert found["answer"].startswith("r4 after epoch 1 has the lowest score/mae: 0.120 (95 % interval 0.109 to 0.131)")
    assert "clearly better than the runner-up, r8 after epoch 1 (\N{MINUS SIGN}0.240)" in found["answer"]
    row = scores(page, "lower")[1]
    assert ends(row) == pytest.approx(student(values_of("lower", 1, "score")))
    assert row["method"] == "t"
    compared = of(page, "comparisons", "lower")[1]
    # All ten errors are smaller than the base's: of the 2¹⁰ signs two are as extreme.
    assert (compared["wins"], compared["losses"], compared["p"]) == (10, 0, pytest.approx(2 / 2**10))
    assert compared["delta"] == pytest.approx(0.12 - 0.96)


def test_only_shares_of_right_samples_have_right_ones(page: dict[str, Any]) -> None:
    """An error of 1 is not right, one of 0 not wrong; nor is the lowest mark of a judge right."""
    for task, verdicts in {"plain": {"right", "wrong"}, "lower": {""}, "keys": {""}, "unknown": {""}}.items():
        answers = [answer for sample in of(page, "samples", task) for answer in sample["answers"]]
        assert {answer["verdict"] for answer in answers} == verdicts


def test_ends_of_intervals_are_no_scores(page: dict[str, Any]) -> None:
    rows = scores(page, "bounds")
    assert {row["metric"] for row in rows} == {"match/accuracy"}
    assert [row["value"] for row in rows] == [0.5, 0.75, 0.625, 0.25, 0.375]
    assert ends(rows[1]) == pytest.approx(wilson(30, 40))


def test_a_tie_names_all_and_marks_none(page: dict[str, Any]) -> None:
    found = answer(page, "tie")
    assert found["answer"].startswith("r4 after epoch 1, r8 after epoch 1 share the highest match/accuracy: 0.900")
    assert found["best_runs"] == []
    assert "Their difference to base, +0.400, is within noise." in found["answer"]


def test_one_sample_says_next_to_nothing(page: dict[str, Any]) -> None:
    rows = scores(page, "one")
    assert [ends(row) for row in rows[:2]] == [pytest.approx(wilson(0, 1)), pytest.approx(wilson(1, 1))]
    found = answer(page, "one")
    assert "+1.000, is within noise" in found["answer"]
    assert "better on 1 and worse on 0 of 1 sample;" in found["details"]
    assert "With 1 sample of which 1 differs, no difference can be seen." in found["details"]


@pytest.mark.parametrize(("task", "right"), [("right", 20), ("wrong", 0)])
def test_all_right_and_all_wrong_are_ties_that_are_not_certain(page: dict[str, Any], task: str, right: int) -> None:
    for row in scores(page, task):
        assert (row["value"], row["n"]) == (right / 20, 20)
        assert ends(row) == pytest.approx(wilson(right, 20))
    found = answer(page, task)
    assert found["answer"].startswith(f"All 4 results have the same match/accuracy: {right / 20:.3f} (95 %")
    assert "Their difference to base, +0.000, is within noise." in found["answer"]
    # Nothing was chosen.
    assert found["caution"] == ""
    assert "optimistic" not in found["details"]
    assert {row["p_corrected"] for row in of(page, "comparisons", task)} == {1.0}


def test_nan_is_no_score(page: dict[str, Any]) -> None:
    row = scores(page, "with_nan")[1]
    assert (row["value"], row["n"], row["unscored"]) == (0.7, 10, 2)
    assert ends(row) == pytest.approx(wilson(7, 10))
    assert {row["n"] for row in of(page, "comparisons", "with_nan")} == {10}


def test_nothing_but_nan_has_no_best(page: dict[str, Any]) -> None:
    assert answer(page, "only_nan")["answer"] == f"{CANNOT}no evaluation has a value."
    for row in scores(page, "only_nan"):
        assert (row["value"], row["n"], row["unscored"], row["method"]) == (None, 0, 3, "none: no value")


def test_scores_with_keys_are_those_of_the_key_that_the_summary_names(page: dict[str, Any]) -> None:
    for cell, row in enumerate(scores(page, "keys")):
        tones = [value["tone"] for value in values_of("keys", cell, "judge")]
        assert (row["metric"], row["value"]) == ("judge/tone/mean", pytest.approx(fmean(tones)))
        assert ends(row) == pytest.approx(student(tones))
    one, base = ([value["tone"] for value in values_of("keys", cell, "judge")] for cell in (2, 3))
    compared = of(page, "comparisons", "keys")[2]
    expected = permutation_test(
        (one, base), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", n_resamples=10_000
    )
    assert compared["p"] == pytest.approx(float(expected.pvalue), abs=0.02)
    assert compared["wins"] == sum(x > y for x, y in zip(one, base, strict=True))


def test_of_several_scorers_the_first_counts(page: dict[str, Any]) -> None:
    rows = scores(page, "scorers")
    assert {row["metric"] for row in rows} == {"exact/accuracy"}
    assert [row["value"] for row in rows] == pytest.approx([right / 12 for right in range(4, 9)])
    assert ends(rows[4]) == pytest.approx(wilson(8, 12))


def test_a_sample_that_was_repeated_is_one_sample(page: dict[str, Any]) -> None:
    for cell, row in enumerate(scores(page, "repeated")):
        found = CASES["repeated"].of(cell)
        assert found
        assert found.reductions
        assert len(found.samples) == 30
        means = [one["value"] for one in found.reductions[0]["samples"]]
        assert (row["n"], row["method"], row["value"]) == (10, "t", pytest.approx(fmean(means)))
        assert ends(row) == pytest.approx(student(means))
    assert {row["n"] for row in of(page, "comparisons", "repeated")} == {10}


def test_a_task_without_a_metric_is_named_in_the_answer_alone(page: dict[str, Any]) -> None:
    assert answer(page, "nometric")["answer"] == f"{CANNOT}there is no metric."
    assert scores(page, "nometric") == []
    assert {row["p"] for row in of(page, "comparisons", "nometric")} == {None}


def test_a_direction_that_is_not_known_is_asked_for(page: dict[str, Any]) -> None:
    found = answer(page, "unknown")
    assert found["answer"].startswith(f"{CANNOT}whether a higher match/length is better is not known: ")
    assert found["best_runs"] == []
    assert [row["value"] for row in scores(page, "unknown")] == [2, 3, 4, 5, 6]


def test_samples_with_errors_are_counted_apart(page: dict[str, Any]) -> None:
    row = scores(page, "errors")[4]
    assert (row["value"], row["n"], row["unscored"]) == (0.9, 10, 2)
    assert ends(row) == pytest.approx(wilson(9, 10))
    (found,) = [
        one for one in page["sanity"] if (one["subject"], one["check"]) == ("errors", "samples without a score")
    ]
    assert found["found"] == "in 5 of 5 results; most in r4/errors/epoch0: 2 of 12"


def test_a_missing_base_is_said(page: dict[str, Any]) -> None:
    assert " It cannot be compared with base. " in answer(page, "nobase")["answer"]
    rows = of(page, "comparisons", "nobase")
    assert {(row["why"], row["p"], row["n"]) for row in rows} == {("there is no result of base on nobase", None, None)}
    assert [row["subject"] for row in page["problems"]] == ["base/nobase/base"]


def test_logs_that_cannot_be_read_leave_the_records_score(page: dict[str, Any]) -> None:
    for cell, row in enumerate(scores(page, "unread")):
        values = values_of("unread", cell)
        assert (row["value"], row["method"]) == (pytest.approx(fmean(values)), "t from stderr")
        assert ends(row) == pytest.approx(student(values))
    assert "It cannot be compared with base." in answer(page, "unread")["answer"]
    assert sum("/unread/" in warning for warning in page["warnings"]) == len(CELLS)


def test_p_values_are_corrected_together(page: dict[str, Any]) -> None:
    tested = [row for row in page["comparisons"] if row["p"] is not None]
    assert len(tested) == 4 * 13
    expected = multipletests([row["p"] for row in tested], method="holm")[1]
    assert [row["p_corrected"] for row in tested] == pytest.approx(list(expected))
    assert [row["clear"] for row in tested] == [row["p_corrected"] < 0.05 for row in tested]
    assert f"{len(tested)} p-values, corrected together (Holm)" in page["notes"]["comparisons"]


def evaluations_alone(folder: Path, *names: str) -> dict[str, Any]:
    """The page of an experiment that trains nothing and evaluates these runs."""
    experiment = make_small_experiment(folder / "experiment")
    values = experiment.read()
    values["runs"] = [run for run in values["runs"] if run["name"] in names]
    values["evaluation"]["matrix"] = [row for row in values["evaluation"]["matrix"] if row["run"] in names]
    experiment.write(values)
    train_all(experiment)
    plan = plan_of(experiment)
    for item in plan.experiment.evaluations:
        leave(experiment, item, accuracy(18, 2) if item.run.name == "given" else accuracy(2, 18), plan)
    collect(experiment.path)
    return data_of(experiment)


def test_an_experiment_that_only_evaluates(tmp_path: Path) -> None:
    page = evaluations_alone(tmp_path, "given", "base")
    (found,) = page["tasks"]
    assert found["answer"] == (
        "given has the highest match/accuracy: 0.900 (95 % interval 0.699 to 0.972). "
        "It is clearly better than base (+0.800)."
    )
    assert (found["caution"], page["experiment"]["trainings"], page["curves"]) == ("", 0, [])


def test_an_experiment_without_a_control(tmp_path: Path) -> None:
    page = evaluations_alone(tmp_path, "given")
    (found,) = page["tasks"]
    assert found["answer"] == "given has the highest match/accuracy: 0.900 (95 % interval 0.699 to 0.972)."
    assert page["comparisons"] == []


def test_cases_are_what_they_are_called() -> None:
    """What the tests above rest on."""
    assert CASES["plain"].of(1) == Evaluated({"match/accuracy": 0.92}, samples_of(marks(46, 4)))
    assert len(CASES) == 17
