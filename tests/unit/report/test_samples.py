"""Samples on the page: which are shown, and what of them."""

from __future__ import annotations

import pytest
from report_data import VERDICTS

from run_experiment.report.samples import _chosen, _kind, said
from run_experiment.report.values import cut


@pytest.mark.parametrize(
    ("scores", "kind", "of_errors"),
    [
        ([1.0, 0.0], "differs", "differs"),
        ([1.0, 1.0], "right", "same"),
        ([0.0], "wrong", "same"),
        ([0.5, 0.5], "same", "same"),
        ([1.0, None], "not scored", "not scored"),
    ],
)
def test_a_sample_is_what_the_two_best_results_did_with_it(
    scores: list[float | None], kind: str, of_errors: str
) -> None:
    assert _kind(scores, VERDICTS) == kind
    assert _kind(scores, {}) == of_errors


def test_of_many_samples_some_of_each_kind_are_shown_those_that_differ_first() -> None:
    kinds = {number: ("right", "wrong", "differs", "not scored")[number % 4] for number in range(400)}
    chosen = [kinds[name] for name in _chosen(kinds, 20)]
    assert chosen == sorted(chosen, key=["differs", "wrong", "right", "not scored"].index)
    assert len(chosen) == 20
    assert {"differs", "wrong", "right"} <= set(chosen)
    assert chosen.count("differs") > 8


def test_rare_kinds_leave_their_room_to_others() -> None:
    kinds = {number: "differs" if number == 7 else "right" for number in range(100)}
    assert len(_chosen(kinds, 20)) == 20
    assert _chosen(kinds, 20)[0] == 7
    assert len(_chosen({1: "right"}, 20)) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a prompt", "a prompt"),
        (["A", "B"], "A\nB"),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"text": "Hi"}]}], "Be brief.\nHi"),
        (None, ""),
        (7, "7"),
    ],
)
def test_a_text_is_found_in_what_logs_have(value: object, text: str) -> None:
    assert said(value) == text


def test_a_megabyte_of_text_is_cut() -> None:
    shown = cut("x" * 1_000_000)
    assert len(shown) < 700
    assert shown.endswith("… (1,000,000 characters)")
