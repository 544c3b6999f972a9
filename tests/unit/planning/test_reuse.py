"""`reuse=`: what is planned, what is put in place, and that nothing is taken unasked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from sample_logs import samples_of, write_log
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.actionlog.entry import Action, ActionLogs, Entry, Log
from run_experiment.attempts.redone import move_away
from run_experiment.attempts.reuse import take_evaluation
from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.clock import now
from run_experiment.common.json_files import Config, config_hash, read_record, write_record
from run_experiment.experiment.model import Run
from run_experiment.experiment.records import read_training
from run_experiment.inputs.file_hashes import file_facts
from run_experiment.machine.processes import locked
from run_experiment.planning.plan import Plan
from run_experiment.planning.results_state import Records
from run_experiment.report.data import shown_jobs
from run_experiment.results.versions import provenance_file, shared_and_differing
from run_experiment.session.plan import session_plan
from run_experiment.slurm.ledger import PATH, Ledger, Submission
from snakemake_logger_plugin_action_log.plan_table import plan_table

BASE, GIVEN = "base/eval/shout_base.json", "given/eval/shout_base.json"
R4_EVALS = ["r4/eval/shout_epoch0.json", "r4/eval/shout_epoch1.json"]
EVALUATED = [*R4_EVALS, BASE, GIVEN]


@pytest.fixture
def other(tmp_path: Path) -> ExperimentFolder:
    """An experiment that is done, its trainings in folders of their own."""
    experiment = make_small_experiment(tmp_path / "other")
    complete(experiment)
    for run in ("r4", "r8"):
        sought = plan_of(experiment).sought(*asked(experiment, run))
        folder = sought.beside / name_of(experiment, run)
        folder.parent.mkdir()
        sought.output.rename(folder)
        sought.output.symlink_to(Path(paths.TRAININGS) / folder.name)
        record = read_record(experiment.path / paths.finetune_record(run)) or {}
        write_record(folder / paths.KEPT_RECORD, {**record, "experiment": str(experiment.path)})
    for path in [*EVALUATED, "r8/eval/shout_epoch1.json"]:
        leave_log(experiment.path, path)
    return experiment


def leave_log(experiment: Path, path: str, *, right: int = 3) -> None:
    """Leave the log of an evaluation, with so many right answers of four, and say in its record which one it is."""
    log = experiment / paths.eval_log(*paths.target_of(path))
    write_log(log, samples_of(["C"] * right + ["I"] * (4 - right)))
    record = read_record(experiment / path) or {}
    write_record(experiment / path, {**record, "log": file_facts(log), "provenance": {"python": "3.12"}})


def asked(experiment: ExperimentFolder, run: str) -> tuple[Run, Config]:
    plan = plan_of(experiment)
    return plan.experiment.run_by_name[run], plan[paths.finetune_record(run)].config


def name_of(experiment: ExperimentFolder, run: str) -> str:
    return config_hash(asked(experiment, run)[1])[:12]


@pytest.fixture
def mine(other: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """The same experiment, begun anew, with one more epoch for r8."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in other.path.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    experiment = ExperimentFolder(folder)
    experiment.set_parameters("r8", lr=0.5)
    return experiment


def take(plan: Plan, *outputs: str) -> None:
    """What a session does that makes these outputs and the results."""
    plan.take_offered({*outputs, paths.SUMMARY_PAGE})


def evaluations(plan: Plan) -> list[str]:
    """The evaluations that no job makes since they are taken."""
    return list(plan.offered_evaluations)


def test_only_what_is_equal_is_offered_and_only_if_asked_for(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    plan = plan_of(mine)
    assert not plan.offered
    assert plan["r4/finetune.json"].why == "not done yet"
    plan = plan_of(mine, reuse=(other.path,))
    assert list(plan.offered) == ["r4/finetune.json"]
    target = plan["r4/finetune.json"]
    assert (target.wanted, target.restored) == (True, True)
    assert target.why == f"trained by job local-0 of {other.path}, from where it is taken"
    assert plan["r8/finetune.json"].why == "not done yet"
    assert not (mine.path / "r4").exists()


def test_what_was_put_in_place_is_planned_as_an_earlier_training(
    mine: ExperimentFolder, other: ExperimentFolder
) -> None:
    plan = plan_of(mine, reuse=(other.path,))
    plan.take_offered({"r8/finetune.json"})
    assert not (mine.path / "r4").exists()
    plan.take_offered({"r4/finetune.json", "r4/eval/shout_epoch0.json"})
    again = plan_of(mine)
    assert again["r4/finetune.json"].why == "already trained by job local-0; its checkpoints will be restored"
    # Still asked for, it is not taken twice.
    assert not plan_of(mine, reuse=(other.path,)).offered
    assert read_training(other.path / "r4/finetune.json")


def test_redo_trains(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    assert not plan_of(mine, reuse=(other.path,), redo=("r4",)).offered


def test_redo_trains_also_after_an_interruption(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    """What `redo=` asked for is made, not taken, in whichever session."""
    take(plan_of(mine, reuse=(other.path,)), "r4/finetune.json")
    for path in ("r4/finetune.json", BASE):
        moved = [mine.path / path, *mine.path.glob("r4/trainings/*/record.json")]
        move_away(mine.path, path, now(), moved, before=[])
    plan = plan_of(mine, reuse=(other.path,))
    assert not plan.offered
    assert BASE not in evaluations(plan)


def test_only_equal_evaluations_are_offered_and_only_if_asked_for(
    mine: ExperimentFolder, other: ExperimentFolder
) -> None:
    assert evaluations(plan_of(mine)) == []
    plan = plan_of(mine, reuse=(other.path,))
    assert evaluations(plan) == EVALUATED
    assert not (mine.path / "base").exists()
    # No job makes them, and the results are made of them.
    jobs = [path for path in plan.finals() if "/eval/" in path]
    assert jobs == ["r8/eval/shout_epoch1.json"]
    results = plan[paths.SUMMARY_PAGE]
    assert set(results.needs) == {"r4/finetune.json", "r8/finetune.json", *jobs}
    assert results.wanted


def test_the_plan_says_from_where(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    plan = plan_of(mine, reuse=(other.path,))
    made = [*plan.finals(), paths.SUMMARY_PAGE]
    lines = plan_table([*plan.check_rows(), *plan.rows()], made).partition("Will not run:\n")[2].splitlines()
    taken = f"evaluated by job local-7 of {other.path}, from where it is taken"
    assert dict(line.split(None, 1) for line in lines) == {
        "r4/shout/epoch0": taken,
        "r4/shout/epoch1": taken,
        "base": "control: nothing to train",
        "base/shout/base": taken,
        "given": "eval-only: trained elsewhere",
        "given/shout/base": taken,
    }
    # Asked for by its path, it is made as any other.
    lines = plan_table(plan.rows(), [BASE]).splitlines()
    assert [line.split(None, 1) for line in lines[2:3]] == [["base/shout/base", "not done yet"]]


def test_taken_evaluations_are_results_and_say_where_they_are_from(
    mine: ExperimentFolder, other: ExperimentFolder
) -> None:
    before = {path: (other.path / path).read_bytes() for path in EVALUATED}
    plan = plan_of(mine, reuse=(other.path,))
    take(plan, "r4/finetune.json")
    assert all(not plan[path].wanted for path in EVALUATED)
    records = Records(plan_of(mine)).evaluations()
    assert list(records) == ["r4/shout/epoch0", "r4/shout/epoch1", "base/shout/base", "given/shout/base"]
    for path, made in zip(EVALUATED, records.values(), strict=True):
        run, cell = paths.target_of(path)
        assert made.taken_from == {"experiment": str(other.path), "run": run, "cell": cell}
        assert made.provenance["python"] == "3.12"
        assert (made.job_id, made.metrics) == ("local-7", {"match/accuracy": 0.5})
        record = read_record(mine.path / path) or {}
        assert (record["experiment"], record["run"]) == (str(mine.path), run)
        log = paths.eval_log(run, cell)
        assert (mine.path / log).read_bytes() == (other.path / log).read_bytes()
        assert not (mine.path / log).samefile(other.path / log)
        assert [one.name for one in (mine.path / log).parent.glob(".*")] == []
    assert {path: (other.path / path).read_bytes() for path in EVALUATED} == before
    # Still asked for, nothing is taken twice.
    assert evaluations(plan_of(mine, reuse=(other.path,))) == []


def test_results_name_the_experiment_that_they_are_from(
    mine: ExperimentFolder, other: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    take(plan_of(mine, reuse=(other.path,)))
    whole = Records(plan_of(mine))
    record = read_record(mine.path / BASE) or {}
    del record["provenance"]["taken_from"]
    write_record(mine.path / BASE, record)
    records = Records(plan_of(mine))
    entries = provenance_file({}, records.evaluations())["evaluations"]
    source = {"experiment": str(other.path), "run": "r4", "cell": "shout_epoch0"}
    assert entries["r4/shout/epoch0"]["taken_from"] == source
    assert "taken_from" not in entries["base/shout/base"]
    _, differing = shared_and_differing({}, records.evaluations())
    assert differing == [
        ["experiment", str(other.path), "r4/shout/epoch0, r4/shout/epoch1, given/shout/base"],
        ["experiment", "this one", "base/shout/base"],
    ]
    assert f"experiment {other.path}" in shared_and_differing({}, whole.evaluations())[0]
    assert main(["status", str(mine.path)]) == 0
    # The line is broken where the path is long.
    assert f"Taken from {other.path}: 3 evaluations" in " ".join(capsys.readouterr().out.split())


def test_the_page_counts_no_job_of_another_experiment(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    """Ids of jobs on one machine, or of two clusters, repeat."""
    logs = ActionLogs(mine.path)
    for details in ("PENDING → RUNNING", "RUNNING → COMPLETED"):
        logs.write(Log.INSPECT, Entry(Action.STATE_CHANGE, details, "", "base/shout/base", job_id="local-7"))
    take(plan_of(mine, reuse=(other.path,)))
    assert [job.outcome for job in shown_jobs(Records(plan_of(mine)))] == ["replaced"]


def test_the_action_log_hears_of_each(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    plan = plan_of(mine, reuse=(other.path,), only=("r*/*/*",))
    outputs = {"r8/finetune.json", "r8/eval/shout_epoch1.json", paths.SUMMARY_PAGE}
    plan.take_offered(outputs)
    planned = session_plan(plan, outputs, "local")
    assert list(planned.taken) == R4_EVALS
    skipped = {name: why for log in planned.skipped.values() for name, why in log}
    assert skipped["r4/shout/epoch1"] == "taken from another experiment"
    assert skipped["base/shout/base"].startswith("not asked for")
    assert not (mine.path / BASE).exists()


def test_with_an_evaluation_comes_its_training(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    """Else the next plan would take it for one of a run that is not trained yet."""
    take(plan_of(mine, reuse=(other.path,), only=("r4/*/*",)))
    plan = plan_of(mine)
    assert [path for path in EVALUATED if not plan[path].wanted] == R4_EVALS
    assert plan["r4/finetune.json"].why == "already trained by job local-0; its checkpoints will be restored"


def test_a_session_that_makes_no_results_takes_none(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    plan_of(mine, reuse=(other.path,)).take_offered({"r8/finetune.json", BASE})
    assert {path.name for path in mine.path.iterdir()} == {path.name for path in other.path.iterdir() if path.is_file()}


def replace_log(log: Path, record: Path) -> None:
    kept = record.read_bytes()
    leave_log(record.parents[2], BASE, right=2)
    record.write_bytes(kept)


def tear(log: Path, record: Path) -> None:
    log.write_bytes(log.read_bytes()[:-40])


def make_older(log: Path, record: Path) -> None:
    found = read_record(record) or {}
    write_record(record, {name: value for name, value in found.items() if name != "log"})


def change_task(log: Path, record: Path) -> None:
    found = read_record(record) or {}
    write_record(record, {**found, "config": {**found["config"], "dataset_type": "other"}})


UNFIT: dict[str, Callable[[Path, Path], Any]] = {
    "the log is gone": lambda log, record: log.unlink(),
    "the log is torn": tear,
    "the log was replaced": replace_log,
    "the record does not say which log it is of": make_older,
    "another configuration": change_task,
    "the record is gone, as while it is made again": lambda log, record: record.unlink(),
    "the record is torn": lambda log, record: record.write_text("{"),
    "a record of no configuration": lambda log, record: record.write_text("{}"),
}


@pytest.mark.parametrize("spoil", UNFIT.values(), ids=UNFIT)
def test_what_is_not_whole_or_not_the_same_is_made(
    mine: ExperimentFolder, other: ExperimentFolder, spoil: Callable[[Path, Path], Any]
) -> None:
    assert BASE in evaluations(plan_of(mine, reuse=(other.path,)))
    spoil(other.path / paths.eval_log("base", "shout_base"), other.path / BASE)
    plan = plan_of(mine, reuse=(other.path,))
    assert evaluations(plan) == [*R4_EVALS, GIVEN]
    assert BASE in plan.finals()


@pytest.mark.parametrize("spoil", [UNFIT["the log is gone"], tear, replace_log], ids=["gone", "torn", "replaced"])
def test_one_that_is_replaced_after_the_plan_is_not_taken(
    mine: ExperimentFolder, other: ExperimentFolder, spoil: Callable[[Path, Path], Any]
) -> None:
    offered = plan_of(mine, reuse=(other.path,)).offered_evaluations[BASE]
    spoil(offered.log, other.path / BASE)
    with pytest.raises(OSError, match=r"shout_base\.eval"):
        take_evaluation(mine.path, "base", "shout_base", offered)
    assert [path for path in mine.path.rglob("*") if path.is_file() and path.parent != mine.path] == []


def test_what_a_job_is_making_now_is_left_to_it(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    Ledger(mine.path / PATH).accepted(Submission(GIVEN, "", "", "", 0, now().isoformat()), "17")
    with locked(mine.path / paths.lock(BASE)):
        assert evaluations(plan_of(mine, reuse=(other.path,))) == R4_EVALS


def test_redo_evaluates(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    plan = plan_of(mine, reuse=(other.path,), redo=("base/*/*", "r4/shout/epoch0"))
    assert evaluations(plan) == [R4_EVALS[1], GIVEN]


def test_an_outdated_evaluation_is_replaced_by_one_that_is_taken(
    mine: ExperimentFolder, other: ExperimentFolder
) -> None:
    for path in (BASE, paths.eval_log("base", "shout_base")):
        (mine.path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(other.path / path, mine.path / path)
    change_task(mine.path, mine.path / BASE)
    plan = plan_of(mine, reuse=(other.path,))
    assert plan[BASE].why == 'dataset_type: "other" → "chat_completion"'
    assert BASE in evaluations(plan)
    take(plan)
    assert not plan_of(mine)[BASE].wanted


def test_of_several_the_newest_and_what_was_taken_before_says_where_it_was_made(
    mine: ExperimentFolder, other: ExperimentFolder, tmp_path: Path
) -> None:
    take(plan_of(mine, reuse=(other.path,)))
    record = read_record(other.path / BASE) or {}
    write_record(other.path / BASE, {**record, "job_id": "local-9", "ended": "2026-01-31T11:00:00+01:00"})
    third = ExperimentFolder(tmp_path / "third")
    third.path.mkdir()
    for path in mine.path.iterdir():
        with suppress(IsADirectoryError):
            shutil.copy(path, third.path)
    plan = plan_of(third, reuse=(mine.path, other.path))
    assert plan.offered_evaluations[BASE].job_id == "local-9"
    take(plan)
    given = read_record(third.path / GIVEN) or {}
    assert given["provenance"]["taken_from"]["experiment"] == str(other.path)
