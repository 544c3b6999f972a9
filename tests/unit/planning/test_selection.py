"""Choosing by hand: what patterns stand for, what `only=` leaves out, what `redo=` makes again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import make_small_experiment, plan_of

from run_experiment.actionlog.entry import Log
from run_experiment.common import paths
from run_experiment.common.errors import InputError
from run_experiment.planning.plan import Plan, Row
from run_experiment.planning.selection import matches
from run_experiment.planning.target import Kind
from run_experiment.session.plan import session_plan

CACHE = "cache/shout.json"
R4, R8 = "r4/finetune.json", "r8/finetune.json"
R8_CHECKPOINTS = {f"r8/checkpoints/epoch_{epoch}.json" for epoch in (0, 1)}
R4_EVAL, R8_EVAL = "r4/eval/shout_epoch1.json", "r8/eval/shout_epoch1.json"
BASE_EVAL, GIVEN_EVAL = "base/eval/shout_base.json", "given/eval/shout_base.json"


@pytest.fixture
def new(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def planned(plan: Plan) -> set[str]:
    """What would be made: what is wanted for itself, and what that needs; without the checks of models."""
    todo = [path for path in plan.finals() if plan[path].wanted]
    found = set(todo)
    while todo:
        needs = set(plan[todo.pop()].needs) - found
        found |= needs
        todo += needs
    return {path for path in found if plan[path].kind is not Kind.CHECK}


MATCHES = {
    "r8": ("r8", True),
    "r8 ": ("r8", False),
    "R8": ("r8", False),
    "r*": ("r8", True),
    "*": ("r8", True),
    "?8": ("r8", True),
    "r[48]": ("r8", True),
    "r[!4]": ("r8", True),
    "r8/*": ("r8/shout/epoch1", False),
    "r*1": ("r8/shout/epoch1", False),
    "r8/*/*": ("r8/shout/epoch1", True),
    "*/shout/epoch1": ("r8/shout/epoch1", True),
    "*/shout/epoch?": ("r8/shout/epoch10", False),
    "*/*/base": ("r8/shout/base", True),
    "r8/shout/epoch1/": ("r8/shout/epoch1", False),
}


@pytest.mark.parametrize(("pattern", "subject", "expected"), [(key, *value) for key, value in MATCHES.items()])
def test_pattern(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected


ONLY = {
    "an evaluation": (("r8/shout/epoch1",), {R8, "r8/checkpoints/epoch_1.json", CACHE, R8_EVAL}),
    "a training": (("r8",), {R8, *R8_CHECKPOINTS}),
    "an evaluation without a checkpoint": (("base/*/*",), {CACHE, BASE_EVAL}),
    "one made elsewhere": (("given/shout/base",), {"given/checkpoints/given.json", CACHE, GIVEN_EVAL}),
    "a training and an evaluation": (("r8", "base/shout/base"), {R8, *R8_CHECKPOINTS, CACHE, BASE_EVAL}),
}


@pytest.mark.parametrize(("only", "expected"), ONLY.values(), ids=ONLY)
def test_only_plans_what_is_named_and_what_it_needs(
    new: ExperimentFolder, only: tuple[str, ...], expected: set[str]
) -> None:
    assert planned(plan_of(new, only=only)) == expected


def test_only_of_all_is_all(new: ExperimentFolder) -> None:
    assert planned(plan_of(new, only=("*", "*/*/*"))) == planned(plan_of(new))


def test_only_makes_nothing_that_is_there(done: ExperimentFolder) -> None:
    (done.path / R4_EVAL).unlink()
    assert planned(plan_of(done, only=("r8", "r8/*/*"))) == set()
    assert planned(plan_of(done, only=("*/shout/epoch1",))) == {R4_EVAL}
    done.set_parameters("r4", lora_rank=2)
    assert planned(plan_of(done, only=("*/shout/epoch1",))) == {R4, "r4/checkpoints/epoch_1.json", R4_EVAL}


def test_results_are_of_what_is_there_and_what_is_chosen(done: ExperimentFolder) -> None:
    """An evaluation that is neither must not be made for the results."""
    for path in (R4_EVAL, BASE_EVAL):
        (done.path / path).unlink()
    assert {R4_EVAL, BASE_EVAL} <= set(plan_of(done)[paths.SUMMARY_PAGE].needs)
    needs = plan_of(done, only=("base/shout/base",))[paths.SUMMARY_PAGE].needs
    assert set(needs) == {R4, R8, "r4/eval/shout_epoch0.json", R8_EVAL, BASE_EVAL, GIVEN_EVAL}


def test_what_is_left_out_is_told(done: ExperimentFolder) -> None:
    for path in (R4_EVAL, BASE_EVAL):
        (done.path / path).unlink()
    plan = plan_of(done, only=("r8", "base/shout/base"))
    rows = {row.subject: row for row in plan.rows()}
    assert rows["r4/shout/epoch1"] == Row("r4/shout/epoch1", R4_EVAL, True, "only=r8,base/shout/base")
    assert rows["r4"] == Row("r4", R4, False, "done")
    assert rows["base/shout/base"] == Row("base/shout/base", BASE_EVAL, True, "not done yet")
    skipped = dict(session_plan(plan, {BASE_EVAL}, "local").skipped[Log.INSPECT])
    assert skipped["r4/shout/epoch1"] == "not asked for (only=r8,base/shout/base)"
    assert skipped["r8/shout/epoch1"] == "already complete"
    assert "base/shout/base" not in skipped
    assert dict(session_plan(plan_of(done), (), "local").skipped[Log.INSPECT])["r4/shout/epoch1"] == "not asked for"


def test_what_was_made_since_the_plan_looked_is_complete(done: ExperimentFolder) -> None:
    record = (done.path / R4_EVAL).read_text()
    (done.path / R4_EVAL).unlink()
    plan = plan_of(done)
    (done.path / R4_EVAL).write_text(record)
    session = session_plan(plan, (), "local")
    assert dict(session.skipped[Log.INSPECT])["r4/shout/epoch1"] == "already complete"
    assert R4_EVAL in session.complete[Log.INSPECT]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name like another": (
        {"only": ("r9/shout/epoch1",)},
        "--config: only: r9/shout/epoch1 matches nothing that is trained or evaluated here; did you mean "
        "r8/shout/epoch1? There are r4/shout/epoch0, r4/shout/epoch1, r8/shout/epoch1, base/shout/base, "
        "given/shout/base",
    ),
    "too few names": (
        {"redo": ("r8/shout",)},
        "--config: redo: r8/shout matches nothing that is trained or evaluated here; did you mean r8/shout/epoch1? "
        "There are r4, r8, r4/shout/epoch0, r4/shout/epoch1, r8/shout/epoch1, base/shout/base and 1 more",
    ),
    "nothing like it": (
        {"only": ("zzz",)},
        "--config: only: zzz matches nothing that is trained or evaluated here. There are r4, r8",
    ),
    "a number": (
        {"only": ("10",)},
        "--config: only: 10 matches nothing that is trained or evaluated here. A name that looks like a number goes in "
        "brackets, [010]. There are r4, r8",
    ),
    "a run that is not trained": (
        {"only": ("base",)},
        "--config: only: base is not trained here; the evaluations of base are base/*/*",
    ),
    "one of several": (
        {"only": ("r8", "r9")},
        "--config: only: r9 matches nothing that is trained or evaluated here. There are r4, r8",
    ),
    "something left out": (
        {"only": ("r8", "r8/*/*"), "redo": ("r8", "r4")},
        "--config: redo: r4 matches nothing of what only=r8,r8/*/* asks for. There are r8",
    ),
}


@pytest.mark.parametrize(("choice", "expected"), WRONG.values(), ids=WRONG)
def test_pattern_that_stands_for_nothing_is_refused(
    done: ExperimentFolder, choice: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        plan_of(done, **choice)
    assert str(caught.value) == expected


def test_all_patterns_that_stand_for_nothing_are_named(done: ExperimentFolder) -> None:
    with pytest.raises(InputError) as caught:
        plan_of(done, only=("x", "y"))
    assert [problem.message[0] for problem in caught.value.problems] == ["x", "y"]


def test_redo_of_an_evaluation(done: ExperimentFolder) -> None:
    plan = plan_of(done, redo=("r8/shout/epoch1",))
    assert planned(plan) == {R8_EVAL}
    assert (plan[R8_EVAL].state.value, plan[R8_EVAL].why) == ("stale", "asked for (redo)")
    assert plan[R8_EVAL].marker in plan[R8_EVAL].inputs
    assert plan.redone == {R8_EVAL}


def test_redo_of_a_training_is_a_redo_of_what_it_makes(done: ExperimentFolder) -> None:
    plan = plan_of(done, redo=("r8",))
    assert planned(plan) == {R8, *R8_CHECKPOINTS, R8_EVAL}
    assert plan[R8_EVAL].why == "its run is trained again: asked for (redo)"
    assert planned(plan_of(done, redo=("r8",), only=("r8",))) == {R8, *R8_CHECKPOINTS}


def test_redo_is_limited_by_only(done: ExperimentFolder) -> None:
    assert planned(plan_of(done, redo=("*/*/*",), only=("r8/*/*",))) == {R8_EVAL}
    assert planned(plan_of(done, redo=("*", "r8/*/*"), only=("r4", "r8/*/*"))) == {
        R4,
        *(path.replace("r8", "r4") for path in R8_CHECKPOINTS),
        R8_EVAL,
    }


def test_redo_keeps_the_reason_of_what_is_made_anyway(done: ExperimentFolder) -> None:
    done.set_parameters("r8", lora_rank=2)
    (done.path / BASE_EVAL).unlink()
    plan = plan_of(done, redo=("r8", "base/shout/base"))
    assert plan[R8].why.startswith("lora_rank: 8 → 2")
    assert plan[BASE_EVAL].why == "not done yet"
    assert plan.redone == {R8, BASE_EVAL}
    assert planned(plan) == {R8, *R8_CHECKPOINTS, R8_EVAL, BASE_EVAL}
