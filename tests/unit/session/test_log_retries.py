"""Jobs that are submitted again, in a session's log."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from session_logs import BASE, CHECK4, NOON, R4, R8, Session, accounted, of_job, plan, submission

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.session.events import RuleFailed
from run_experiment.slurm.events import (
    Changed,
    Delayed,
    Detached,
    Finished,
    Polled,
    Reattached,
    Refused,
    Submitted,
)

PREEMPTED = "SLURM job 104 ended as PREEMPTED: ended by SIGTERM"


def test_a_job_that_is_submitted_again(session: Session) -> None:
    """What comes after its target waits; its other job counts in its place."""
    session.start(R4, R8).end(R8, seconds=10).end(R4, "PREEMPTED", PREEMPTED, again="preempted, 1 of 3")
    (change,) = [row for row in session.rows(Action.STATE_CHANGE) if row[1] == "RUNNING → PREEMPTED"]
    assert change[2].endswith("n1: PREEMPTED: ended by SIGTERM; it is submitted again: preempted, 1 of 3")
    assert session.rows(Action.COMPUTE_METRICS)[-1][2] == "PREEMPTED"
    assert [row[0] for row in session.rows(Action.VERIFY_FINETUNING)] == ["r8"]
    assert session.rows(Action.CHECKPOINT_MISSING, Action.ALL_COMPLETE, Action.ALL_SUBMITTED) == []
    session.start(BASE).tell(Polled({BASE: "RUNNING"}))
    assert session.rows(Action.STATUS_CHECK)[-1][2].endswith("0 COMPLETED; 2 to be submitted")
    second = submission(R4, "105")
    known = accounted(R4, "COMPLETED", 1000, job_id="105")
    session.tell(
        Submitted(second),
        Polled({R4: "PENDING", BASE: "RUNNING"}),
        Changed(second, "PENDING", "RUNNING", known),
        Changed(second, "RUNNING", "COMPLETED", None),
        Finished(second, True, "COMPLETED", job=known),
    )
    assert session.rows(Action.STATUS_CHECK, log=Log.TORCHTUNE)[-1][2] == "2 jobs: 1 PENDING, 0 RUNNING, 1 COMPLETED"
    assert session.rows(Action.SUBMIT_JOB)[-1] == ("r4", "sbatch finetune.slurm", "Job ID 105")
    assert session.rows(Action.ALL_COMPLETE) == [
        ("", "All 2 jobs reached terminal states", "2 COMPLETED, 0 FAILED"),
    ]
    assert of_job(session, Log.TORCHTUNE, "104")[-2:] == ["RUNNING → PREEMPTED", "COMPUTE_METRICS"]
    assert sorted(row[0] for row in session.rows(Action.VERIFY_FINETUNING)) == ["r4", "r8"]


def test_the_duration_is_from_the_first_submission(session: Session) -> None:
    one = Session(plan(session.folder, wanted=frozenset({R4}))).start(R4)
    one.end(R4, "TIMEOUT", "SLURM job 104 ended as TIMEOUT", again="out of time")
    later = replace(submission(R4, "105"), time=(NOON + timedelta(hours=1)).isoformat())
    known = accounted(R4, "FAILED", 7200 - 5, job_id="105", submitted=NOON + timedelta(hours=1))
    one.tell(Submitted(later))
    assert one.rows(Action.ALL_COMPLETE) == []
    one.tell(Finished(later, False, "FAILED", "why", job=known))
    assert one.rows(Action.ALL_COMPLETE) == [("", "All 1 job reached a terminal state", "0 COMPLETED, 1 FAILED")]
    assert list(read_action_log(session.folder / "run-torchtune.log")["duration"].dropna()) == ["2 hours"]


def test_all_is_complete_only_when_the_first_job_is_accounted_for(session: Session) -> None:
    """Its end is logged after the submission of the second, since accounting's figures came late."""
    one = Session(plan(session.folder, wanted=frozenset({R4}))).start(R4)
    first, second = submission(R4), submission(R4, "105")
    one.tell(Submitted(second), Finished(second, True, "COMPLETED"))
    assert one.rows(Action.ALL_COMPLETE) == []
    one.tell(Finished(first, False, "NODE_FAIL", "SLURM job 104 ended as NODE_FAIL", "its node was lost"))
    assert one.rows(Action.STATE_CHANGE)[-1][1:] == (
        "RUNNING → NODE_FAIL",
        "NODE_FAIL; it is submitted again: its node was lost; accounting does not say when",
    )
    assert one.rows(Action.ALL_COMPLETE)[0][2] == "1 COMPLETED, 0 FAILED"


def test_an_evaluation_that_is_submitted_again_is_submitted_for_all_submitted(session: Session) -> None:
    session.tell(Refused(submission(R4), "no")).start(R8).end(R8, "FAILED", "SLURM job 108 ended as FAILED")
    assert len(session.rows(Action.ALL_SUBMITTED)) == 0
    session.tell(Delayed(submission(BASE), "busy")).start(BASE)
    assert session.rows(Action.ALL_SUBMITTED)[0][2] == "Job ID 200"
    session.end(BASE, "OUT_OF_MEMORY", "SLURM job 200 ended as OUT_OF_MEMORY", again="out of memory")
    session.tell(Delayed(submission(BASE), "busy"), Submitted(submission(BASE, "201")))
    assert len(session.rows(Action.ALL_SUBMITTED)) == 1
    assert [result for _, _, result in session.rows(Action.SUBMIT_EVAL)] == [
        "failed: busy; retrying until SLURM accepts it",
        "Job ID 200",
        "failed: busy; retrying until SLURM accepts it",
        "Job ID 201",
    ]


def test_an_interrupt_before_it_is_submitted_again(session: Session) -> None:
    session.start(R4, R8).end(R4, "PREEMPTED", PREEMPTED, again="preempted")
    session.tell(Detached((submission(R8),), cancelled=False))
    assert session.rows(Action.MONITOR_DETACHED, log=Log.TORCHTUNE) == [
        ("", "Stopped with 1 job in flight; 1 not submitted", "1 job left running: Job ID 108")
    ]


@pytest.mark.parametrize("figures_are_late", [False, True])
def test_a_job_whose_retry_is_refused_counts_as_it_ended(session: Session, figures_are_late: bool) -> None:
    session.start(R4, R8).end(R8)
    known = accounted(R4, "TIMEOUT")
    ended = Finished(submission(R4), False, "TIMEOUT", "SLURM job 104 ended as TIMEOUT", "out of time", known)
    refused = [Refused(submission(R4), "sbatch: error: invalid account"), RuleFailed(1, "It was not submitted")]
    session.tell(*([*refused, ended] if figures_are_late else [ended, *refused]))
    assert session.rows(Action.SUBMIT_JOB)[-1][2] == "failed: sbatch: error: invalid account"
    assert session.rows(Action.ALL_COMPLETE) == [
        ("", "All 2 jobs reached terminal states", "1 COMPLETED, 0 FAILED, 1 TIMEOUT")
    ]
    assert [row[0] for row in session.rows(Action.CHECKPOINT_MISSING)] == ["r4/epoch_0"]


def test_a_job_that_ended_while_nobody_looked_may_be_submitted_again(session: Session) -> None:
    session.start(R4)
    later = Session(plan(session.folder, wanted=frozenset({R4, CHECK4})))
    known = accounted(R4, "PREEMPTED")
    later.tell(Reattached(submission(R4), "PREEMPTED"))
    later.tell(Finished(submission(R4), False, "PREEMPTED", PREEMPTED, "again", known))
    later.tell(Submitted(submission(R4, "105")))
    assert later.rows(Action.VERIFY_FINETUNING, Action.CHECKPOINT_MISSING, Action.ALL_COMPLETE) == []
    assert later.rows(Action.STATE_CHANGE)[-1][1] == "RUNNING → PREEMPTED"
    assert later.rows(Action.COMPUTE_METRICS)[-1][2] == "PREEMPTED"
