"""What jobs report of themselves, in a session's log."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from session_logs import BASE, NOON, R4, R8, Session, accounted, made, of_job, plan, submission

from run_experiment.actionlog.entry import Action, Log
from run_experiment.common.json_files import write_record
from run_experiment.session.events import RuleFailed, RuleFinished, RuleStarted, Tick
from run_experiment.session.plan import LOCAL
from run_experiment.slurm.events import (
    Changed,
    Finished,
    Polled,
    Reattached,
    Submitted,
)

RESUMED = ("RESUME_TRAINING", "Continues from epoch_0, after job 17", "1 of 2 epochs are trained, 1 to do")
SMALLER = ("OOM_RETRY", "Batch size 8 ran out of memory: 8 × 1 → 4 × 2", "Effective batch size 8 as before")
GOES_ON = ("EVAL_RETRY", "Continues the log of job 17", "30 of 50 samples are there")
RETRIES = (Action.RESUME_TRAINING, Action.OOM_RETRY, Action.EVAL_RETRY, Action.STALE_CACHE)


def events(*told: tuple[str, str, str], since: datetime = NOON) -> list[dict[str, str]]:
    """What a job writes of itself, a second apart."""
    times = [(since + timedelta(seconds=10 + number)).isoformat(timespec="seconds") for number in range(len(told))]
    return [
        {"time": time, "action": action, "details": details, "result": result}
        for time, (action, details, result) in zip(times, told, strict=True)
    ]


def leave(session: Session, folder: str, file: str, *told: tuple[str, str, str], since: datetime = NOON) -> None:
    """What a job leaves in the folder of an attempt."""
    target = "shout_base" if folder.startswith("base/") else "finetune"
    write_record(session.folder / folder / file, {"target": target, "events": events(*told, since=since)})


def test_what_jobs_did_is_told_once_in_its_order(session: Session) -> None:
    """While they work, when they fail, when they succeed; each of their tries in one job has a folder."""
    session.start(R4, BASE)
    leave(session, "r4/attempts/104", "begun.json", RESUMED)
    leave(session, "base/attempts/200", "begun.json")
    running = Polled({R4: "RUNNING", BASE: "RUNNING"})
    session.tell(running, running)
    assert session.rows(*RETRIES) == [("r4", *RESUMED[1:])]
    leave(session, "r4/attempts/104", "attempt.json", RESUMED)
    leave(session, "r4/attempts/104.2", "begun.json", RESUMED, SMALLER)
    session.tell(running, running)
    assert session.rows(*RETRIES) == [("r4", *RESUMED[1:]), ("r4", *SMALLER[1:])]
    leave(session, "base/attempts/200", "attempt.json", SMALLER, GOES_ON)
    session.end(BASE, "FAILED", "SLURM job 200 ended as FAILED")
    write_record(session.folder / R4, {"job_id": "104", "events": events(RESUMED, SMALLER, RESUMED)})
    session.end(R4).tell(running)
    assert of_job(session, Log.TORCHTUNE, "104") == [
        *("SUBMIT_JOB", "PENDING → RUNNING", "RESUME_TRAINING", "OOM_RETRY"),
        *("RESUME_TRAINING", "RUNNING → COMPLETED", "COMPUTE_METRICS"),
    ]
    assert of_job(session, Log.INSPECT, "200") == [
        *("SUBMIT_EVAL", "PENDING → RUNNING", "OOM_RETRY", "EVAL_RETRY", "RUNNING → FAILED", "COMPUTE_METRICS")
    ]


def test_what_a_job_did_before_its_start_was_seen_waits_for_that(session: Session) -> None:
    session.tell(Submitted(submission(R4)))
    leave(session, "r4/attempts/104", "begun.json", RESUMED)
    session.tell(Polled({R4: "RUNNING"}))
    assert session.rows(*RETRIES) == []
    session.tell(Changed(submission(R4), "PENDING", "RUNNING", accounted(R4, "RUNNING")))
    assert of_job(session, Log.TORCHTUNE, "104") == ["SUBMIT_JOB", "PENDING → RUNNING", "RESUME_TRAINING"]


@pytest.mark.parametrize("state", ["COMPLETED", "PREEMPTED"])
def test_a_short_job_s_doings_are_told_where_accounting_knows_nothing(session: Session, state: str) -> None:
    session.tell(Submitted(submission(R4)))
    leave(session, "r4/attempts/104", "begun.json", RESUMED)
    if state == "COMPLETED":
        session.tell(Changed(submission(R4), "PENDING", "RUNNING", None), made(R4))
    session.tell(Finished(submission(R4), state == "COMPLETED", state, "it ended"))
    told = {
        "COMPLETED": ["PENDING → RUNNING", "RESUME_TRAINING", "RUNNING → COMPLETED"],
        "PREEMPTED": ["RESUME_TRAINING", "PENDING → PREEMPTED"],
    }
    assert of_job(session, Log.TORCHTUNE, "104")[1:] == [*told[state], "COMPUTE_METRICS"]


def test_what_an_earlier_session_told_is_not_told_again(session: Session) -> None:
    session.start(R4)
    leave(session, "r4/attempts/104", "begun.json", RESUMED)
    session.tell(Polled({R4: "RUNNING"}))
    leave(session, "r4/attempts/104", "begun.json", RESUMED, SMALLER)
    later = Session(plan(session.folder)).tell(Reattached(submission(R4), "RUNNING"))
    for _ in range(2):
        later.tell(Polled({R4: "RUNNING"}))
        assert later.rows(*RETRIES) == [("r4", *RESUMED[1:]), ("r4", *SMALLER[1:])]
    write_record(session.folder / R4, {"job_id": "104", "events": events(RESUMED, SMALLER)})
    later.tell(made(R4))
    third = Session(plan(session.folder, wanted=frozenset()))
    third.tell(Finished(submission(R4), True, "COMPLETED", job=accounted(R4, "COMPLETED")))
    assert of_job(third, Log.TORCHTUNE, "104")[-5:] == [
        *("RESUME_TRAINING", "JOB_REATTACHED", "OOM_RETRY", "RUNNING → COMPLETED", "COMPUTE_METRICS")
    ]


@pytest.mark.parametrize("place", ["behind", "ahead"])
def test_the_clock_of_a_node_that_is_wrong_by_minutes_changes_nothing(session: Session, place: str) -> None:
    """Jobs were submitted at noon; what is logged has the time of now."""
    minutes = timedelta(minutes=4)
    since = NOON - minutes if place == "behind" else datetime.now().astimezone() + minutes
    session.start(R4)
    leave(session, "r4/attempts/104", "begun.json", RESUMED, since=since)
    session.tell(Polled({R4: "RUNNING"}))
    assert session.rows(*RETRIES) == [("r4", *RESUMED[1:])]
    leave(session, "r4/attempts/104", "begun.json", RESUMED, SMALLER, since=since)
    later = Session(plan(session.folder)).tell(Reattached(submission(R4), "RUNNING"), Polled({R4: "RUNNING"}))
    assert later.rows(*RETRIES) == [("r4", *RESUMED[1:]), ("r4", *SMALLER[1:])]


def test_the_next_session_tells_what_a_job_did_that_slurm_started_again(session: Session) -> None:
    """A start knows nothing of the one before it: what was told of that does not stand for what this one did."""
    now = datetime.now().astimezone()
    session.start(R4)
    leave(session, "r4/attempts/104", "begun.json", RESUMED)
    session.tell(Polled({R4: "RUNNING"}))
    leave(session, "r4/attempts/104.2", "begun.json", SMALLER, since=now + timedelta(minutes=1))
    later = Session(plan(session.folder)).tell(Reattached(submission(R4), "RUNNING"), Polled({R4: "RUNNING"}))
    assert later.rows(*RETRIES) == [("r4", *RESUMED[1:]), ("r4", *SMALLER[1:])]


def test_what_no_job_of_this_log_can_have_to_tell_is_not_told(session: Session) -> None:
    session.start(R4)
    forged = ("ALL_COMPLETE", "All 2 jobs reached terminal states", "2 COMPLETED, 0 FAILED")
    leave(session, "r4/attempts/104", "begun.json", forged, GOES_ON, ("NO_ACTION", "", ""))
    session.tell(Polled({R4: "RUNNING"}))
    without_time = [{"time": "noon", "action": "OOM_RETRY", "details": "", "result": ""}, {}, 17]
    write_record(session.folder / "r4/attempts/104/begun.json", {"events": without_time})
    session.tell(Polled({R4: "RUNNING"}))
    assert session.rows(*RETRIES, Action.ALL_COMPLETE) == []


def test_what_local_jobs_did(tmp_path: Path) -> None:
    """Their ids come again: of an earlier job of that id nothing is told, and what was told of it does not count."""
    now = datetime.now().astimezone()
    first = Session(plan(tmp_path, LOCAL)).tell(RuleStarted(1, [R4], []))
    leave(first, "r4/attempts/local-1", "begun.json", SMALLER, since=now)
    first.log.close()
    leave(first, "r4/attempts/local-1", "attempt.json", SMALLER, since=now - timedelta(hours=1))
    second = Session(plan(tmp_path, LOCAL)).tell(RuleStarted(1, [R4], []), Tick())
    assert second.rows(*RETRIES) == [("r4", *SMALLER[1:])]
    leave(second, "r4/attempts/local-1.2", "begun.json", RESUMED, since=now)
    second.tell(Tick(), Tick())
    leave(second, "r4/attempts/local-1.2", "begun.json", RESUMED, SMALLER, since=now)
    second.log.close()
    assert second.rows(*RETRIES) == [("r4", *told[1:]) for told in (SMALLER, RESUMED, SMALLER)]


def test_a_local_job_that_failed_says_why_and_what_it_did(tmp_path: Path) -> None:
    local = Session(plan(tmp_path, LOCAL)).tell(RuleStarted(1, [BASE], ["logs/base.log"]))
    ended = datetime.now().astimezone().isoformat()
    told = events(GOES_ON, since=datetime.now().astimezone())
    left = {"target": "shout_base", "error": "its log has 3 of 50 samples", "ended": ended, "events": told}
    write_record(tmp_path / "base/attempts/local-1/attempt.json", left)
    local.tell(RuleFailed(1))
    assert of_job(local, Log.INSPECT, "local-1")[1:] == [
        *("PENDING → RUNNING", "EVAL_RETRY", "RUNNING → FAILED", "COMPUTE_METRICS")
    ]
    assert "FAILED: its log has 3 of 50 samples" in local.rows(Action.STATE_CHANGE)[-1][2]


USAGE = {"cpus": 2, "cpu_seconds": 3.0, "peak_memory_mib": 1536.0}


def test_local_jobs_say_what_they_used(tmp_path: Path) -> None:
    local = Session(plan(tmp_path, LOCAL)).tell(RuleStarted(1, [BASE], []), RuleStarted(2, [R4], []))
    local.tell(RuleStarted(3, [R8], []))
    ended = datetime.now().astimezone().isoformat()
    left = {"target": "shout_base", "job_id": "local-1", "error": "an error", "ended": ended, "usage": USAGE}
    write_record(tmp_path / "base/attempts/local-1/attempt.json", left)
    made = {"config": {}, "job_id": "local-2", "seconds": 1.0, "usage": USAGE}
    write_record(tmp_path / R4, made)
    # What it restored, another job made.
    write_record(tmp_path / R8, {**made, "restored_by": "local-3"})
    local.tell(RuleFailed(1), RuleFinished(2), RuleFinished(3))
    said = {subject: text for subject, text, _ in local.rows(Action.COMPUTE_METRICS)}
    assert said["base/shout/base"].endswith("of 2 cores, memory 1.5 GB without a limit, no GPU samples")
    assert said["r4"].endswith("of 2 cores, memory 1.5 GB without a limit, no GPU samples")
    assert said["r8"].endswith("CPU unknown, memory unknown, no GPU samples")


def test_a_local_job_that_was_ended_by_a_signal_was_cancelled(tmp_path: Path) -> None:
    local = Session(plan(tmp_path, LOCAL)).tell(RuleStarted(1, [BASE], ["logs/base.log"]))
    ended = datetime.now().astimezone().isoformat()
    left = {"target": "shout_base", "error": "ended by SIGTERM", "ended": ended}
    write_record(tmp_path / "base/attempts/local-1/attempt.json", left)
    local.tell(RuleFailed(1))
    _, details, result = local.rows(Action.STATE_CHANGE)[-1]
    assert details == "RUNNING → CANCELLED"
    assert ": CANCELLED: ended by SIGTERM" in result
