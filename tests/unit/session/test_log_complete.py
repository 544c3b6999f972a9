"""When a session logs that all jobs of a kind are complete."""

from __future__ import annotations

from session_logs import BASE, R4, R8, Session, accounted, complete, made, plan, submission

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.slurm.events import (
    Changed,
    Detached,
    Finished,
    Polled,
    Reattached,
    Refused,
    Submitted,
    Unlogged,
)


def test_completion_once_with_counts_and_duration(session: Session) -> None:
    session.start(R4, R8).end(R4).end(R8, "FAILED", "SLURM job 108 ended as FAILED", seconds=2695)
    session.tell(Polled({}))
    session.log.close()
    (row,) = session.rows(Action.ALL_COMPLETE)
    assert row == ("", "All 2 jobs reached terminal states", "1 COMPLETED, 1 FAILED")
    table = read_action_log(session.folder / "run-torchtune.log")
    assert list(table["duration"].dropna()) == ["45 minutes"]
    assert table["action"].iloc[-1] == "ALL_COMPLETE"


def test_nothing_is_complete_before_accounting_has_the_figures(session: Session) -> None:
    session.start(R4, R8).end(R4).tell(made(R8))
    assert session.rows(Action.ALL_COMPLETE) == []
    session.tell(Finished(submission(R8), True, "COMPLETED"))
    assert session.rows(Action.STATE_CHANGE)[-1] == (
        "r8",
        "RUNNING → COMPLETED",
        "Training finished",
    )
    assert session.rows(Action.COMPUTE_METRICS)[-1] == ("r8", "unknown: accounting has no figures", "COMPLETED")
    assert len(session.rows(Action.ALL_COMPLETE)) == 1


def test_a_session_that_submitted_nothing_completes_nothing(session: Session) -> None:
    session.tell(Refused(submission(R4), "no"), Refused(submission(R8), "no"), Refused(submission(BASE), "no"))
    session.log.close()
    assert session.rows(Action.ALL_COMPLETE, Action.MONITOR_DETACHED) == []


def test_a_session_that_ends_early_says_what_it_did_not_come_to(session: Session) -> None:
    """As without --keep-going after the first failure."""
    session.start(R4).end(R4, "FAILED", "SLURM job 104 ended as FAILED")
    session.log.close()
    assert session.rows(Action.MONITOR_DETACHED) == [
        ("", "Stopped with 0 jobs in flight; 1 not submitted", "No job is left running"),
        ("", "Stopped with 0 evaluations in flight; 2 not submitted", "No job is left running"),
    ]
    assert session.rows(Action.ALL_COMPLETE) == []


def test_nothing_is_complete_after_a_detach(session: Session) -> None:
    session.start(R4).tell(Detached((submission(R4),), cancelled=False))
    session.end(R4)
    session.log.close()
    assert session.rows(Action.MONITOR_DETACHED, log=Log.TORCHTUNE) == [
        ("", "Stopped with 1 job in flight; 1 not submitted", "1 job left running: Job ID 104")
    ]
    assert session.rows(Action.ALL_COMPLETE) == []


def figures(target: str) -> list[object]:
    """What comes of a job whose end an earlier session noticed."""
    job, known = submission(target), accounted(target, "COMPLETED")
    return [Changed(job, "PENDING", "RUNNING", known), Finished(job, True, "COMPLETED", job=known)]


def test_all_is_complete_only_when_jobs_of_the_session_before_are_accounted_for(session: Session) -> None:
    session.tell(Submitted(submission(R4)), Submitted(submission(R8)))
    later = Session(plan(session.folder, wanted=frozenset({R4}), complete=complete(R8)))
    later.tell(Unlogged(submission(R8)), Reattached(submission(R4), "RUNNING")).end(R4)
    assert later.rows(Action.ALL_COMPLETE) == []
    later.tell(*figures(R8))
    assert later.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 complete before", "1 COMPLETED, 0 FAILED")
    ]


def test_a_session_that_only_accounts_for_jobs_says_that_all_are_complete(session: Session) -> None:
    session.tell(Submitted(submission(R8)))
    later = Session(plan(session.folder, wanted=frozenset(), complete=complete(R4, R8)))
    # Asked for twice: when the session begins, and when its first job does.
    later.tell(Unlogged(submission(R8)), Unlogged(submission(R8)))
    assert later.rows(Action.ALL_COMPLETE) == []
    later.tell(*figures(R8))
    assert later.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 complete before", "1 COMPLETED, 0 FAILED")
    ]


def test_a_job_whose_end_is_noted_while_slurm_still_shows_it_has_one_end_to_wait_for(session: Session) -> None:
    """The session before logged its end, and was killed before it had its figures."""
    session.start(R4).tell(made(R4))
    later = Session(plan(session.folder, wanted=frozenset(), complete=complete(R4)))
    later.tell(Unlogged(submission(R4)), Reattached(submission(R4), "COMPLETED"))
    assert later.rows(Action.ALL_COMPLETE) == []
    later.tell(Finished(submission(R4), True, "COMPLETED", job=accounted(R4, "COMPLETED")))
    assert len(later.rows(Action.STATE_CHANGE)) == 2
    assert len(later.rows(Action.COMPUTE_METRICS)) == 1
    assert later.rows(Action.ALL_COMPLETE) == [("", "All 1 job reached a terminal state", "1 COMPLETED, 0 FAILED")]


def test_what_was_made_before_counts_beside_a_job_that_the_plan_has_not_seen_end(session: Session) -> None:
    """It ended after the plan looked, and before Snakemake did."""
    session.start(R4)
    later = Session(plan(session.folder, wanted=frozenset(), complete=complete(R8)))
    later.tell(Reattached(submission(R4), "COMPLETED"), *figures(R4))
    assert later.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 complete before", "1 COMPLETED, 0 FAILED")
    ]
