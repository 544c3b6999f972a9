"""States of a session's jobs, on the cluster and on this machine, and what they used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from session_logs import BASE, NOON, R4, R8, TRANSITIONS, Session, accounted, made, plan, submission

from run_experiment.actionlog.entry import Action, Log
from run_experiment.common.json_files import write_record
from run_experiment.session.entries.jobs import failure_text
from run_experiment.session.events import RuleFailed, RuleFinished, RuleStarted, Tick
from run_experiment.session.plan import LOCAL
from run_experiment.slurm.events import (
    Cancelled,
    Changed,
    Finished,
    Held,
    Polled,
    PollFailed,
    QueueFull,
    Refused,
    Submitted,
)


def test_transitions_have_the_times_of_accounting(session: Session) -> None:
    known = accounted(R4, "COMPLETED")
    session.start(R4).tell(Finished(submission(R4), True, "COMPLETED", job=known))
    at = NOON.strftime("%Y-%m-%d")
    assert session.rows(Action.STATE_CHANGE) == [
        ("r4", "PENDING → RUNNING", f"Training started at {at} 12:00:05 on n1"),
        ("r4", "RUNNING → COMPLETED", f"Training finished at {at} 12:01:05 on n1"),
    ]
    (metrics,) = session.rows(Action.COMPUTE_METRICS)
    assert metrics[1].startswith("wall time 00:01:00 of 00:10:00 (10%)")
    assert metrics[2] == "COMPLETED"


def test_a_suspended_job_waits_for_somebody(session: Session) -> None:
    session.start(R4).tell(Changed(submission(R4), "RUNNING", "SUSPENDED", accounted(R4, "SUSPENDED")))
    *_, (_, details, result) = session.rows(Action.STATE_CHANGE)
    assert (details, result) == ("RUNNING → SUSPENDED", "Suspended on n1, until somebody resumes it")


def test_a_full_queue_is_in_the_logs_of_what_waits(session: Session) -> None:
    session.tell(QueueFull(25))
    rows = session.rows(Action.QUEUE_FULL)
    assert len(rows) == 2
    said = "waiting: 25 of your jobs are in the queue, none of this experiment (slurm-attached-max-queued)"
    assert {result for *_, result in rows} == {said}


def test_a_start_that_only_the_record_shows_has_the_job_s_own_times(session: Session) -> None:
    """Also for a job that SLURM started again: accounting shows that later."""
    job, own = submission(R4), {"restarts": 1, "started": "2025-01-31T12:30:01", "ended": "2025-01-31T12:31:00"}
    write_record(session.folder / R4, {"config": {}, "job_id": job.job_id, "allocation": own})
    again = [Changed(job, *states, None) for states in (("RUNNING", "PENDING"), ("PENDING", "RUNNING"))]
    session.start(R4).tell(*again, made(R4))
    assert session.rows(Action.STATE_CHANGE)[1:] == [
        ("r4", "RUNNING → PENDING", "Waits to be started (requeued)"),
        ("r4", "PENDING → RUNNING", "Training started at 2025-01-31 12:30:01"),
        ("r4", "RUNNING → COMPLETED", "Training finished at 2025-01-31 12:31:00"),
    ]


def test_a_bad_end_says_why_with_its_log_and_last_lines(session: Session) -> None:
    session.tell(RuleStarted(1, [R4], ["logs/run_finetune/r4.log"])).start(R4)
    lines = "\n".join(f"    line {number} {'x' * 400}" for number in range(8))
    session.end(R4, "FAILED", f"SLURM job 104 ended as FAILED, exit code 1:0: finetune.slurm ended with 1\n{lines}")
    *_, (subject, details, result) = session.rows(Action.STATE_CHANGE)
    assert (subject, details) == ("r4", "RUNNING → FAILED")
    first, *rest = result.split("\n")
    assert f"on n1: FAILED, exit code 1:0: finetune.slurm ended with 1; its log is {session.folder}/logs" in first
    assert [line[:6] for line in rest] == [f"line {number}" for number in range(3, 8)]
    assert "cut after" not in result


def test_the_log_of_a_failure_is_named_once() -> None:
    text = failure_text("ended with 1; its log is /a/b.log\n    last", Path("/other.log"))
    assert text == "ended with 1; its log is /a/b.log\nlast"


@pytest.mark.parametrize("state", ["TIMEOUT", "CANCELLED", "OUT_OF_MEMORY", "NODE_FAIL"])
def test_states_of_slurm_are_told_as_they_are(session: Session, state: str) -> None:
    session.start(R4, R8).end(R8).end(R4, state, f"SLURM job 104 ended as {state} by root: it was ended")
    assert session.rows(Action.STATE_CHANGE)[-1][1] == f"RUNNING → {state}"
    assert f"{state} by root" in session.rows(Action.STATE_CHANGE)[-1][2]
    (complete,) = session.rows(Action.ALL_COMPLETE)
    assert complete[2] == f"1 COMPLETED, 0 FAILED, 1 {state}"


def test_a_job_that_slurm_starts_again(session: Session) -> None:
    waits = accounted(R4, "PENDING", reason="BeginTime")
    session.start(R4).tell(
        Changed(submission(R4), "RUNNING", "PENDING", waits),
        Changed(submission(R4), "PENDING", "RUNNING", accounted(R4, "RUNNING")),
    )
    assert [details for _, details, _ in session.rows(Action.STATE_CHANGE)] == [
        "PENDING → RUNNING",
        "RUNNING → PENDING",
        "PENDING → RUNNING",
    ]
    assert session.rows(Action.STATE_CHANGE)[1][2] == "Waits to be started (BeginTime)"


def test_a_wait_that_does_not_pass_by_itself(session: Session) -> None:
    """It breaks no chain of transitions."""
    session.tell(Submitted(submission(R4)), Held((submission(R4),), "JobHeldUser", "it is held")).start(R4)
    assert [row[1:] for row in session.rows(Action.STATE_CHANGE)[:1]] == [
        ("PENDING → PENDING", "Waits (JobHeldUser): it is held")
    ]
    assert session.rows(Action.STATE_CHANGE)[1][1] == "PENDING → RUNNING"


def test_status_of_the_jobs_of_each_log(session: Session) -> None:
    session.start(R4).tell(Submitted(submission(R8)), Polled({R4: "RUNNING", R8: "PENDING"}))
    session.end(R4).start(BASE).tell(Polled({R8: "RUNNING", BASE: "RUNNING"}))
    assert session.rows(Action.STATUS_CHECK, log=Log.TORCHTUNE) == [
        ("", "Polling SLURM (sacct)", "2 jobs: 1 PENDING, 1 RUNNING, 0 COMPLETED"),
        ("", "Polling SLURM (sacct)", "2 jobs: 0 PENDING, 1 RUNNING, 1 COMPLETED"),
    ]
    assert session.rows(Action.STATUS_CHECK, log=Log.INSPECT) == [
        ("", "Polling SLURM (sacct)", "1 job: 0 PENDING, 1 RUNNING, 0 COMPLETED; 2 to be submitted"),
    ]


def test_lost_status_and_its_return(session: Session) -> None:
    session.start(R4).tell(PollFailed((R4,), "sacct: error: slurmdbd"), Polled({R4: "RUNNING"}, restored=True))
    assert session.rows(Action.STATUS_CHECK) == [
        ("", "Polling SLURM (sacct)", "failed: sacct: error: slurmdbd"),
        (
            "",
            "Polling SLURM (sacct), which answers again",
            "1 job: 0 PENDING, 1 RUNNING, 0 COMPLETED; 1 to be submitted",
        ),
    ]


def test_gpus_at_every_fifth_poll(session: Session) -> None:
    samples = session.folder / f"{R4}.gpu_metrics.csv"
    samples.parent.mkdir()
    header = "timestamp,index,utilization_gpu_percent,memory_used_mib,memory_total_mib,power_draw_w,temperature_c"
    samples.write_text(f"{header}\n{NOON.isoformat()},0,93,30822,81559,250,60\n")
    session.start(R4, R8)
    for _ in range(11):
        session.tell(Polled({R4: "RUNNING", R8: "RUNNING"}))
    status = ("r4", "GPU utilization: 93%", "GPU memory: 30.1/79.6 GB")
    assert session.rows(Action.RESOURCE_STATUS) == [status, status]
    # Those of an earlier job say nothing.
    os.utime(samples, (0, 0))
    for _ in range(5):
        session.tell(Polled({R4: "RUNNING"}))
    assert len(session.rows(Action.RESOURCE_STATUS)) == 2


def test_a_completed_job_without_a_result_failed(session: Session) -> None:
    session.start(R4)
    known = accounted(R4, "COMPLETED")
    message = "SLURM job 104 completed without a record; its output is /x.out"
    session.tell(Finished(submission(R4), False, "COMPLETED", message, job=known))
    assert "completed without a record" in session.rows(Action.STATE_CHANGE)[-1][2]
    session.tell(Refused(submission(R8), "no"))
    assert session.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 not submitted", "0 COMPLETED, 1 FAILED")
    ]


def test_a_job_cancelled_from_here_says_why_and_does_not_count(session: Session) -> None:
    session.start(R4)
    later = Session(plan(session.folder, wanted=frozenset({R4})))
    why = "cancelled by run-experiment: it is of another configuration"
    later.tell(Cancelled(submission(R4), "it is of another configuration"))
    later.tell(Submitted(submission(R4, "105")))
    later.tell(Finished(submission(R4), False, "CANCELLED", why, job=accounted(R4, "CANCELLED")))
    assert later.rows(Action.SUBMIT_JOB)[-1] == ("r4", "sbatch finetune.slurm", "Job ID 105")
    assert later.rows(Action.STATE_CHANGE)[-1] == (
        "r4",
        "RUNNING → CANCELLED",
        f"Training ended at {NOON:%Y-%m-%d} 12:01:05 on n1: {why}",
    )
    assert later.rows(Action.COMPUTE_METRICS)[-1][2] == "CANCELLED"
    later.log.close()
    assert later.rows(Action.ALL_COMPLETE) == []


def test_jobs_of_this_machine(tmp_path: Path) -> None:
    local = Session(plan(tmp_path, LOCAL))
    local.tell(RuleStarted(1, [R4], []), Tick(), RuleFinished(1), RuleStarted(4, [R8], []), RuleFailed(4))
    assert local.rows(Action.SUBMIT_JOB) == [
        ("r4", "local execution of finetune.slurm", "Job ID local-1"),
        ("r8", "local execution of finetune.slurm", "Job ID local-4"),
    ]
    assert local.rows(Action.STATUS_CHECK) == [
        ("", "Checking local jobs", "1 job: 0 PENDING, 1 RUNNING, 0 COMPLETED; 1 to be submitted")
    ]
    changes = [(subject, details) for subject, details, _ in local.rows(Action.STATE_CHANGE)]
    assert changes == [("r4", change) for change in TRANSITIONS] + [
        ("r8", "PENDING → RUNNING"),
        ("r8", "RUNNING → FAILED"),
    ]
    assert local.rows(Action.VERIFY_FINETUNING)[0] == ("r4", "Job local-1 via its exit status", "COMPLETED")
    assert local.rows(Action.ALL_COMPLETE)[0][2] == "1 COMPLETED, 1 FAILED"


def test_a_local_session_that_is_cut_short(tmp_path: Path) -> None:
    local = Session(plan(tmp_path, LOCAL))
    local.tell(RuleStarted(1, [R4], []))
    local.log.close()
    assert local.rows(Action.MONITOR_DETACHED, log=Log.TORCHTUNE) == [
        ("", "Stopped with 1 job in flight; 1 not submitted", "1 job ended with it: Job ID local-1")
    ]
    assert local.rows(Action.ALL_COMPLETE) == []


def test_an_unwritable_log_is_told_at_the_end(session: Session) -> None:
    path = session.folder / "run-torchtune.log"
    path.unlink()
    path.mkdir()
    session.start(R4)
    assert session.log.close() == "run-torchtune.log lacks 3 entries: Is a directory (3)"
