"""What the page says of evaluations: the answer in a sentence or two, whichever direction is better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from run_experiment.report.evaluations import _caution, lead
from run_experiment.results.analysis.answer import CLEAR, WITHIN_NOISE, Answer
from run_experiment.results.analysis.comparisons import Comparison
from run_experiment.results.analysis.replicates import SeedMean, SeedsAnswer
from run_experiment.results.analysis.scores import Score


def score(run: str, value: float, epoch: int | None = 1, **facts: Any) -> Score:
    known = {"metric": "match/accuracy", "better": "higher", "low": 0.8, "high": 0.95, "method": "Wilson"}
    subject = f"{run}/shout/epoch{epoch}"
    return Score(run=run, task="shout", epoch=epoch, subject=subject, value=value, n=50, n_scored=50, **known | facts)


def comparison(reference: str, delta: float | None, **facts: Any) -> Comparison:
    known = {"task": "shout", "epoch": 1, "run": "r8", "subject": "r8/shout/epoch1", "reference": reference}
    known |= {"reference_subject": f"{reference}/shout/base", "metric": "match/accuracy", "paired": True, "why": ""}
    return Comparison(**known | facts, delta=delta)


ANSWER = Answer(
    task="shout",
    metric="match/accuracy",
    better="higher",
    best=(score("r8", 0.9),),
    cells=4,
    against_base=(comparison("base", 0.7, p_corrected=0.001),),
    verdict_base=CLEAR,
    runner_up=score("r4", 0.88, 0),
    against_runner_up=(comparison("r4", 0.02, p_corrected=0.7),),
    verdict_runner_up=WITHIN_NOISE,
)


def test_the_best_run_stands_beside_the_base_and_the_runner_up() -> None:
    assert lead(ANSWER) == (
        "r8 after epoch 1 has the highest match/accuracy: 0.900 (95 % interval 0.800 to 0.950). "
        "It is clearly better than base (+0.700). "
        "Its difference to the runner-up, r4 after epoch 0, +0.020, is within noise."
    )


WORSE = comparison("base", -0.7, p_corrected=0.001)
TIED = (score("r8", 0.9), score("r4", 0.9, 0))


def seed_mean(rank: int, mean: float) -> SeedMean:
    runs, subjects = ("a", "b"), ("a/shout/epoch1", "b/shout/epoch1")
    known = {"metric": "match/accuracy", "better": "higher", "low": None, "high": None, "method": "t"}
    numbers = {"seeds": 2, "mean": mean, "sd": 0.05, "parameters": {"lora_rank": rank}}
    return SeedMean(task="shout", epoch=1, runs=runs, subjects=subjects, **known | numbers)


NEAR = comparison("base", 0.02, p_corrected=0.7)
SEEDS = SeedsAnswer(
    best=seed_mean(8, 0.9),
    cells=2,
    optimism=0.0173,
    against_base=None,
    each=(comparison("base", 0.7, p_corrected=0.001), comparison("base", 0.1, p_corrected=0.4)),
    runner_up=seed_mean(4, 0.8),
    against_runner_up=comparison("lora_rank 4 (2 seeds)", 0.1, p_corrected=0.2),
    is_all=False,
)


def test_if_all_runs_have_seeds_no_single_one_is_named_best() -> None:
    text = lead(replace(ANSWER, seeds=replace(SEEDS, is_all=True)))
    assert text.startswith("Over 2 seeds, lora_rank 8 after epoch 1 has the highest match/accuracy: 0.900 (standard")
    assert "r8" not in text


@pytest.mark.parametrize(
    ("change", "chosen", "optimistic"),
    [
        ({"optimism": 0.0416}, "4 results", "its score is optimistic, by up to about 0.042"),
        ({"optimism": None}, "4 results", "its score is optimistic"),
        ({"seeds": replace(SEEDS, is_all=True)}, "2 means", "it is optimistic, by up to about 0.017"),
        ({"seeds": replace(SEEDS, is_all=True, optimism=None)}, "2 means", "it is optimistic"),
    ],
)
def test_the_best_of_several_is_said_to_be_optimistic(change: dict[str, Any], chosen: str, optimistic: str) -> None:
    found = _caution(replace(ANSWER, **change))
    assert found == f"It was chosen among {chosen} on the samples that are reported, so {optimistic}."


@pytest.mark.parametrize("change", [{"chosen_on": "validation"}, {"cells": 1}, {"best": ()}])
def test_what_was_not_chosen_by_its_own_score_is_not_optimistic(change: dict[str, Any]) -> None:
    assert _caution(replace(ANSWER, **change)) == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"best": ()}, "No best run can be named: there is no metric."),
        ({"best": TIED}, "r8 after epoch 1, r4 after epoch 0 share the highest"),
        ({"best": TIED}, "All are clearly better than base (+0.700)."),
        ({"best": TIED}, "Their difference to the runner-up, r4 after epoch 0, +0.020, is within noise."),
        (
            {"best": TIED, "against_base": (NEAR, comparison("base", 0.7, p_corrected=0.001))},
            "The difference of r8 to base, +0.020, is within noise.",
        ),
        ({"chosen_on": "validation_loss"}, "Chosen on validation loss: r8 after epoch 1 0.900 (95 % interval 0.800"),
        ({"chosen_on": "val", "best": TIED}, "Chosen on val: a tie of r8 after epoch 1 0.900 (95 % interval 0.800"),
        ({"against_base": (WORSE,)}, "clearly worse than base (\N{MINUS SIGN}0.700)"),
        ({"against_base": (WORSE,), "better": "lower"}, "clearly better than base (\N{MINUS SIGN}0.700)"),
        ({"better": "lower"}, "has the lowest match/accuracy"),
        ({"against_base": (replace(WORSE, paired=False),)}, "It cannot be compared with base."),
        ({"best": TIED, "against_base": (replace(WORSE, paired=False),)}, "None can be compared with base."),
        ({"best": TIED, "against_base": (NEAR, replace(WORSE, paired=False))}, "Not all can be compared with base."),
        ({"against_base": ()}, "0.950). Its difference to the runner-up"),
        (
            {"seeds": SEEDS},
            "within noise. Over 2 seeds, lora_rank 8 after epoch 1 has the highest match/accuracy: 0.9",
        ),
        ({"seeds": SEEDS}, "(standard deviation 0.050). 1 of 2 seeds are clearly better than base."),
        ({"seeds": SEEDS}, "Its difference to lora_rank 4 after epoch 1, +0.100, is within noise between seeds."),
        ({"best": (score("r8", 0.9, low=None, high=None),)}, "accuracy: 0.900. It is"),
    ],
)
def test_what_may_not_be_said_is_not_said(change: dict[str, Any], expected: str) -> None:
    assert expected in lead(replace(ANSWER, why="there is no metric", **change))
