"""What a session logs of jobs that an earlier one submitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from session_logs import (
    BASE,
    CHECK4,
    EVAL4,
    IDS,
    R4,
    R8,
    TRANSITIONS,
    Session,
    accounted,
    complete,
    made,
    of_job,
    plan,
    submission,
)

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.slurm.events import (
    Changed,
    Finished,
    Reattached,
    Submitted,
    Unlogged,
)
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.ledger import Ledger, Logged


def test_what_the_logs_have_of_an_id_is_not_of_another_job_that_gets_it(session: Session) -> None:
    """A controller that lost its state gives ids again; the session that submitted the new job was killed at once."""
    session.start(R4).end(R4)
    again = submission(R8, IDS[R4])
    Ledger(session.folder / LEDGER).accepted(again, IDS[R4])
    later = Session(plan(session.folder, wanted=frozenset({R8}), complete=complete(R4)))
    later.tell(Reattached(again, "RUNNING"), Changed(again, "PENDING", "RUNNING", accounted(R8, "RUNNING")))
    job = accounted(R8, "COMPLETED", job_id=IDS[R4])
    later.tell(Finished(again, True, "COMPLETED", job=job))
    assert [subject for subject, *_ in later.rows(Action.SUBMIT_JOB)] == ["r4", "r8"]
    changes = [(subject, details) for subject, details, _ in later.rows(Action.STATE_CHANGE)]
    assert changes == [(run, change) for run in ("r4", "r8") for change in TRANSITIONS]
    assert [subject for subject, *_ in later.rows(Action.COMPUTE_METRICS)] == ["r4", "r8"]
    assert len(later.rows(Action.ALL_COMPLETE)) == 1


def test_the_next_session_logs_what_the_first_did_not(session: Session) -> None:
    """The first saw one job start, and the record of another."""
    session.start(R4, R8).tell(made(R8))
    wanted = frozenset({R4})
    later = Session(plan(session.folder, wanted=wanted, complete=complete(R8)))
    later.tell(Unlogged(submission(R8)), Reattached(submission(R4), "RUNNING"))
    later.tell(Finished(submission(R8), True, "COMPLETED", job=accounted(R8, "COMPLETED")))
    later.end(R4, seconds=115)
    changes = [(subject, details) for subject, details, _ in later.rows(Action.STATE_CHANGE)]
    assert sorted(changes) == sorted((run, change) for run in ("r4", "r8") for change in TRANSITIONS)
    assert [subject for subject, _, _ in later.rows(Action.COMPUTE_METRICS)] == ["r8", "r4"]
    (again,) = later.rows(Action.JOB_REATTACHED)
    assert again[2] == "RUNNING: followed again"
    assert later.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 complete before", "1 COMPLETED, 0 FAILED")
    ]
    assert list(read_action_log(session.folder / "run-torchtune.log")["duration"].dropna()) == ["2 minutes"]
    # What is logged is not logged a third time.
    third = Session(plan(session.folder, wanted=frozenset()))
    third.tell(Finished(submission(R8), True, "COMPLETED", job=accounted(R8, "COMPLETED")))
    assert len(third.rows(Action.STATE_CHANGE)) == 4
    assert len(third.rows(Action.COMPUTE_METRICS)) == 2


def ledger_of(session: Session) -> Ledger:
    return Ledger(session.folder / LEDGER)


def test_the_ledger_has_what_the_logs_have(session: Session) -> None:
    session.start(R4, R8)
    started = accounted(R4, "RUNNING").started
    assert ledger_of(session).last_logged() == {IDS[one]: Logged("RUNNING", started) for one in (R4, R8)}
    session.tell(made(R4)).end(R8, "FAILED", "SLURM job 108 ended as FAILED")
    assert {one: state.state for one, state in ledger_of(session).last_logged().items()} == {
        IDS[R4]: "COMPLETED",
        IDS[R8]: "FAILED",
    }


def test_what_no_log_could_take_is_not_in_the_ledger(session: Session) -> None:
    path = session.folder / Log.TORCHTUNE.file
    path.unlink()
    path.mkdir()
    session.start(R4, BASE).end(R4).end(BASE)
    assert set(ledger_of(session).last_logged()) == {IDS[BASE]}
    assert [entry for entry in entries_of(session) if entry["event"] == "accounted"] == [
        {"event": "accounted", "job_id": IDS[BASE]}
    ]


def entries_of(session: Session) -> list[dict[str, Any]]:
    lines = (session.folder / LEDGER).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("lines", range(4), ids=["none", "the start", "the end", "all"])
def test_a_crash_between_the_log_and_the_ledger_neither_loses_nor_repeats_an_entry(
    session: Session, lines: int
) -> None:
    """Killed after the log had an entry and before its line in the ledger: the next session logs what is missing."""
    kept = ledger_of(session)
    session.tell(Submitted(submission(R4)))
    events = [
        Changed(submission(R4), "PENDING", "RUNNING", accounted(R4, "RUNNING")),
        made(R4),
        Finished(submission(R4), True, "COMPLETED", job=accounted(R4, "COMPLETED")),
    ]
    # The last of these entries is not noted.
    session.tell(*events[: lines + 1])
    path = session.folder / LEDGER
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:lines]))
    assert len(kept.last_logged()) == (lines > 0)
    later = Session(plan(session.folder)).tell(Reattached(submission(R4), "COMPLETED"), *events[min(lines, 2) :])
    told = [action for action in of_job(later, Log.TORCHTUNE, "104") if action != "JOB_REATTACHED"]
    assert told == ["SUBMIT_JOB", "PENDING → RUNNING", "RUNNING → COMPLETED", "COMPUTE_METRICS"]
    assert kept.last_logged()["104"].state == "COMPLETED"


def test_a_job_that_slurm_forgot_has_an_end_in_the_log(session: Session) -> None:
    session.start(R4)
    later = Session(plan(session.folder, wanted=frozenset(), complete=complete()))
    why = "SLURM does not know job 104 any more, nor how it ended: its output is /x.out"
    later.tell(Reattached(submission(R4), ""), Finished(submission(R4), False, "LOST", why))
    assert later.rows(Action.JOB_REATTACHED)[0][2] == "ended while no process followed it"
    assert later.rows(Action.STATE_CHANGE)[-1] == ("r4", "RUNNING → FAILED", f"{why}; accounting does not say when")
    assert later.rows(Action.COMPUTE_METRICS) == [("r4", "unknown: accounting has no figures", "FAILED")]


def test_a_job_that_failed_while_nobody_looked(session: Session) -> None:
    session.start(R4)
    later = Session(plan(session.folder, wanted=frozenset({R4, CHECK4, EVAL4})))
    known = accounted(R4, "FAILED")
    later.tell(
        Reattached(submission(R4), "FAILED"),
        Finished(submission(R4), False, "FAILED", "SLURM job 104 ended as FAILED, exit code 1:0: unlucky", job=known),
    )
    assert [details for _, details, _ in later.rows(Action.STATE_CHANGE)] == ["PENDING → RUNNING", "RUNNING → FAILED"]
    assert "unlucky" in later.rows(Action.STATE_CHANGE)[-1][2]
    assert later.rows(Action.JOB_REATTACHED)[0][2] == "FAILED: ended while no process followed it"
    assert len(later.rows(Action.CHECKPOINT_MISSING)) == 1
    assert len(later.rows(Action.ALL_COMPLETE)) == 1


def test_a_job_that_made_its_target_while_nobody_looked_is_complete(session: Session) -> None:
    """Its target is not wanted any more; it counts as a job of this session, and not as complete before."""
    session.start(R4)
    later = Session(plan(session.folder, wanted=frozenset(), complete=complete(R4, R8)))
    known = accounted(R4, "COMPLETED")
    later.tell(
        Reattached(submission(R4), "COMPLETED"),
        Changed(submission(R4), "RUNNING", "COMPLETED", known),
        Finished(submission(R4), True, "COMPLETED", job=known),
    )
    changes = [details for _, details, _ in later.rows(Action.STATE_CHANGE)]
    assert changes == ["PENDING → RUNNING", "RUNNING → COMPLETED"]
    assert len(later.rows(Action.COMPUTE_METRICS)) == 1
    assert later.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 complete before", "1 COMPLETED, 0 FAILED")
    ]
    # A session that was killed before it noted that in the ledger: the next one logs nothing twice.
    third = Session(plan(session.folder, wanted=frozenset(), complete=complete(R4, R8)))
    third.tell(Reattached(submission(R4), "COMPLETED"), Finished(submission(R4), True, "COMPLETED", job=known))
    assert len(third.rows(Action.STATE_CHANGE)) == 2
    assert len(third.rows(Action.COMPUTE_METRICS)) == 1


def test_the_ledger_knows_what_is_not_logged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for target in (R4, R8, BASE):
        ledger.intend(replace(submission(target), job_id=None))
        ledger.accepted(submission(target), IDS[target])
    ledger.settled(R4, IDS[R4], "COMPLETED")
    ledger.settled(R8, IDS[R8], "FAILED")
    ledger.settled(BASE, "", "NOT SUBMITTED")
    assert ledger.unlogged() == [submission(R4), submission(R8)]
    ledger.accounted(IDS[R4])
    assert ledger.unlogged() == [submission(R8)]
    assert set(ledger.open()) == {BASE}
