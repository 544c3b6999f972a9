"""`redo=` moves records away: the plan before is the plan afterwards, wherever it is cut off."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import plan_of

from run_experiment.attempts.files import note_not_submitted
from run_experiment.common import paths
from run_experiment.common.clock import now, stamp
from run_experiment.common.json_files import config_hash, write_record
from run_experiment.machine.processes import locked
from run_experiment.planning.plan import Plan
from run_experiment.planning.redone.move import move_records
from run_experiment.session.plan import session_plan
from run_experiment.slurm.ledger import PATH, Ledger, Submission

R8, R4_EVAL, R8_EVAL = "r8/finetune.json", "r4/eval/shout_epoch1.json", "r8/eval/shout_epoch1.json"
ASKED = r"asked for \(redo\) on \d{4}-\d\d-\d\d \d\d:\d\d"
REDOS = f"{paths.MEMORY}/redos.json"
AGAIN = "its run is trained again: "
LATER = "2999-01-01T00:00:00+00:00"


@pytest.fixture
def done(done: ExperimentFolder) -> ExperimentFolder:
    """Complete, with the copies of records that jobs leave, and an evaluation that was cut off once."""
    for run in ("r4", "r8"):
        shutil.copy(done.path / run / "finetune.json", done.path / run / "artifacts/record.json")
    for name in ("shout_epoch1.abc", "shout_epoch1.x_epoch1.abc"):
        (done.path / "r8/eval/.unfinished" / name).mkdir(parents=True)
    return done


def redo(experiment: ExperimentFolder, *patterns: str, outputs: Collection[str] | None = None) -> list[str]:
    """Move what is named, as a session does that makes all of it, or only some outputs."""
    plan = plan_of(experiment, redo=patterns)
    return move_records(plan, plan.targets if outputs is None else outputs)


def moved(experiment: ExperimentFolder) -> list[str]:
    """Files and folders in the folders of what was moved away."""
    found = experiment.path.glob("*/attempts/redo-*/*/*")
    return sorted(f"{path.parent.name}/{path.name}" for path in found if path.name != "before.json")


def wanted(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {path: target.needs for path, target in plan.targets.items() if target.wanted}


@pytest.mark.parametrize("patterns", [("r8",), ("*/*/*",), ("r8", "r4/shout/epoch1"), ("*", "*/*/*")], ids=",".join)
def test_the_plan_shows_what_the_move_brings(done: ExperimentFolder, patterns: tuple[str, ...]) -> None:
    before = plan_of(done, redo=patterns)
    assert moved(done) == []
    assert sorted(redo(done, *patterns)) == sorted(before.redone)
    after = plan_of(done)
    assert wanted(after) == wanted(before)
    for path in before.redone:
        assert not (done.path / path).exists()
        assert before[path].why.removeprefix(AGAIN) == "asked for (redo)"
        assert re.fullmatch(ASKED, after[path].why.removeprefix(AGAIN))


def test_all_that_a_result_would_come_back_from_is_moved(done: ExperimentFolder) -> None:
    assert redo(done, "r8", "r8/shout/epoch1") == [R8_EVAL, R8]
    assert moved(done) == [
        "finetune/artifacts.record.json",
        "finetune/finetune.json",
        "shout_epoch1/shout_epoch1.abc",
        "shout_epoch1/shout_epoch1.json",
    ]
    assert [path.name for path in (done.path / "r8/eval/.unfinished").iterdir()] == ["shout_epoch1.x_epoch1.abc"]
    plan = plan_of(done)
    assert plan["r8/checkpoints/epoch_0.json"].why == f"its run is trained again: {plan[R8].why}"


def test_a_training_that_was_cut_off_is_not_resumed(done: ExperimentFolder) -> None:
    folder = done.path / "r8/trainings" / config_hash(plan_of(done)[R8].config)[:12]
    (done.path / "r8/artifacts/record.json").unlink()
    write_record(folder / "unfinished.json", {"config": done.record(R8)["config"]})
    (done.path / R8).unlink()
    assert redo(done, "r8") == [R8]
    assert moved(done) == [f"finetune/{folder.name}.unfinished.json"]


def test_only_what_the_session_makes_is_moved(done: ExperimentFolder) -> None:
    assert redo(done, "*/*/*", outputs={R8_EVAL, "r8/checkpoints/epoch_1.json"}) == [R8_EVAL]
    assert list(wanted(plan_of(done))) == [R8_EVAL]


def test_the_same_again_means_again(done: ExperimentFolder) -> None:
    record = (done.path / R8_EVAL).read_text()
    for count in (1, 2, 3):
        redo(done, "r8/*/*")
        (done.path / R8_EVAL).write_text(record)
        assert moved(done).count("shout_epoch1/shout_epoch1.json") == count
    assert plan_of(done)[R8_EVAL].why == "done"


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(minutes=10), timedelta(minutes=-10)], ids=str)
def test_the_reason_outlives_an_interruption_until_an_attempt(done: ExperimentFolder, ahead: timedelta) -> None:
    """Whichever clocks of nodes are ahead or behind."""

    def attempt(number: int, ended: timedelta) -> None:
        facts = {"target": "shout_epoch1", "job_id": str(number), "error": "no", "ended": stamp(now() + ended)}
        write_record(done.path / f"r8/attempts/{number}/attempt.json", facts)
        Ledger(done.path / PATH).accepted(Submission(R8_EVAL, "", "name", "comment", 0, LATER), str(number))
        Ledger(done.path / PATH).settled(R8_EVAL, str(number), "FAILED")

    attempt(1, ahead)
    redo(done, "r8/*/*")
    assert re.fullmatch(ASKED, session_plan(plan_of(done), {R8_EVAL}, "local").again[R8_EVAL])
    attempt(2, timedelta(minutes=1) - ahead)
    assert plan_of(done)[R8_EVAL].why == "failed as job 2: no"


def test_what_left_no_attempt_before_it_is_no_reason(done: ExperimentFolder) -> None:
    """Neither a job that was cancelled while it waited, nor one that SLURM did not accept."""
    ledger = Ledger(done.path / PATH)
    ledger.accepted(Submission(R8_EVAL, "", "name", "comment", 0, LATER), "17")
    ledger.settled(R8_EVAL, "17", "CANCELLED")
    note_not_submitted(done.path, R8_EVAL, "", "no such account")
    redo(done, "r8/*/*")
    assert re.fullmatch(ASKED, plan_of(done)[R8_EVAL].why)
    ledger.accepted(Submission(R8_EVAL, "", "name", "comment", 0, LATER), "18")
    ledger.settled(R8_EVAL, "18", "CANCELLED")
    assert plan_of(done)[R8_EVAL].why.startswith("was cancelled as job 18")


def test_what_a_job_is_making_is_not_made_twice(done: ExperimentFolder) -> None:
    ledger = Ledger(done.path / PATH)
    for target in (R8, R4_EVAL):
        ledger.accepted(Submission(target, "hash", "name", "comment", 0, stamp(now())), "17")
    (done.path / R8).unlink()
    assert redo(done, "r8", "r4/shout/epoch1") == [R4_EVAL], "whose job has ended"
    assert moved(done) == ["shout_epoch1/shout_epoch1.json"]
    with locked(done.path / paths.lock(R8_EVAL)):
        assert redo(done, "r8/shout/epoch1") == []


class Killed(BaseException):
    """As kill -9: nothing handles it."""


@pytest.mark.parametrize("moves", range(5))
def test_a_kill_between_two_moves_costs_nothing(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """What has its record is done, what has none is made anew, and the same command does the rest."""
    patterns, move, count = ("r8", "r8/*/*", "r4/shout/epoch1"), shutil.move, 0

    def moves_some(*arguments: Any) -> Any:
        nonlocal count
        if count == moves:
            raise Killed
        count += 1
        return move(*arguments)

    monkeypatch.setattr(shutil, "move", moves_some)
    with pytest.raises(Killed):
        redo(done, *patterns)
    plan = plan_of(done)
    for path in (R8, R8_EVAL, R4_EVAL):
        there = (done.path / path).exists()
        assert re.fullmatch(r"done|its run is trained again: .*" if there else ASKED, plan[path].why), path

    monkeypatch.setattr(shutil, "move", move)
    redo(done, *patterns)
    assert not any((done.path / path).exists() for path in (R8, R8_EVAL, R4_EVAL))
    assert len(moved(done)) == 5
    assert re.fullmatch(ASKED, plan_of(done)[R8].why), "not restored"


def test_what_cannot_be_moved_is_an_error(done: ExperimentFolder) -> None:
    (done.path / "r8/attempts").write_text("in the way")
    with pytest.raises(OSError, match="r8/attempts"):
        redo(done, "r8")
    assert plan_of(done)[R8].why == "done"


def remember(experiment: ExperimentFolder, *targets: str, config: Any = None) -> None:
    """Leave what an older version remembered of a redo."""
    plan = plan_of(experiment)
    hashes = {target: config_hash(config or plan[target].config) for target in targets}
    redos = [{"patterns": ["r8"], "since": "2026-01-31T10:00:00+01:00", "targets": hashes}]
    (experiment.path / REDOS).parent.mkdir(parents=True, exist_ok=True)
    (experiment.path / REDOS).write_text(json.dumps(redos))


def test_what_an_older_version_remembered_is_carried_over_once(done: ExperimentFolder) -> None:
    """What was not made again since, whether this session makes it or not; then the file goes."""
    remember(done, R8, R8_EVAL, R4_EVAL)
    write_record(done.path / R4_EVAL, {**done.record(R4_EVAL), "redo": LATER})
    # Begun again by the older version, which had removed its record.
    (done.path / R8).unlink()
    unfinished = done.path / "r8/trainings" / config_hash(plan_of(done)[R8].config)[:12] / "unfinished.json"
    config = json.loads((done.path / "r8/artifacts/record.json").read_text())["config"]
    write_record(unfinished, {"config": config, "redo": LATER})
    before = plan_of(done)
    assert (done.path / REDOS).exists()
    assert before.redone == {R8, R8_EVAL}
    assert redo(done, outputs=()) == [R8_EVAL, R8]
    assert not (done.path / REDOS).exists()
    assert "finetune/artifacts.record.json" in moved(done)
    assert unfinished.exists(), "it is resumed"
    assert wanted(plan_of(done)) == wanted(before)
    assert plan_of(done)[R4_EVAL].why == "done"
    assert redo(done) == []


def test_what_an_older_version_remembered_of_another_configuration_is_dropped(done: ExperimentFolder) -> None:
    remember(done, R8, config={"lr": 1})
    assert redo(done) == []
    assert not (done.path / REDOS).exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"since": 1}]', '[{"patterns": [], "since": "x", "targets": {}}]', "null"]
)
def test_what_cannot_be_read_is_dropped(done: ExperimentFolder, text: str) -> None:
    (done.path / REDOS).parent.mkdir(parents=True)
    (done.path / REDOS).write_text(text)
    assert wanted(plan_of(done)) == {}
    assert redo(done) == []
    assert not (done.path / REDOS).exists()


def test_names_of_what_was_moved_that_are_not_ours_say_nothing(done: ExperimentFolder) -> None:
    for name in ("redo-mine", "redo-20261399T000000Z"):
        (Path(done.path) / "r8/attempts" / name / "shout_epoch1").mkdir(parents=True)
    (done.path / R8_EVAL).unlink()
    assert plan_of(done)[R8_EVAL].why == "not done yet"
