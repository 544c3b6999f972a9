"""The action logs of a session, from events alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.common.json_files import write_record
from run_experiment.session.entries import all_submitted, failure_text, identification, job_ids_text
from run_experiment.session.events import RuleFailed, RuleFinished, RuleStarted, Tick
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import ATTACHED, LOCAL, SessionCheckpoint, SessionJob, SessionPlan
from run_experiment.slurm.clients import AccountedJob
from run_experiment.slurm.events import (
    Cancelled,
    Changed,
    Delayed,
    Detached,
    Finished,
    Held,
    Polled,
    PollFailed,
    Reattached,
    Refused,
    Submitted,
    Unlogged,
)
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.ledger import Ledger, Logged, Submission

NOON = datetime(2025, 1, 31, 12, 0, 0).astimezone()
R4, R8 = "r4/finetune.json", "r8/finetune.json"
EVAL4, EVAL8, BASE = "r4/eval/shout_epoch0.json", "r8/eval/shout_epoch0.json", "base/eval/shout_base.json"
CHECK4, CHECK8, CACHE = "r4/checkpoints/epoch_0.json", "r8/checkpoints/epoch_0.json", "cache/shout.json"
SUBJECTS = {R4: "r4", R8: "r8", EVAL4: "r4/shout/epoch0", EVAL8: "r8/shout/epoch0", BASE: "base/shout/base"}
IDS = {R4: "104", R8: "108", EVAL4: "204", EVAL8: "208", BASE: "200"}


def plan(folder: Path, executor: str = ATTACHED, **changes: Any) -> SessionPlan:
    """Two trained runs and a control, each evaluated once."""
    jobs = [
        SessionJob(
            target,
            Log.INSPECT if "/" in subject else Log.TORCHTUNE,
            subject,
            target.partition("/")[0],
            f"{Path(target).parent}/{'finetune' if '/' not in subject else Path(target).stem}.slurm",
            (f"{target}.gpu_metrics.csv",),
        )
        for target, subject in SUBJECTS.items()
    ]
    made = SessionPlan(
        folder=folder,
        executor=executor,
        runs=3,
        jobs={job.target: job for job in jobs},
        checkpoints={
            path: SessionCheckpoint(path, run, "epoch_0", folder / run / "artifacts/epoch_0")
            for path, run in ((CHECK4, "r4"), (CHECK8, "r8"))
        },
        caches=[CACHE],
        wanted=frozenset({*SUBJECTS, CHECK4, CHECK8, CACHE}),
        needs={CHECK4: (R4,), CHECK8: (R8,), EVAL4: (CACHE, CHECK4), EVAL8: (CACHE, CHECK8), BASE: (CACHE,)},
        why={R4: "lr: 0.0003 → 0.0002", R8: "not done yet", **dict.fromkeys((EVAL4, EVAL8, BASE), "not done yet")},
        skipped={Log.TORCHTUNE: (("base", "control, no training"),), Log.INSPECT: ()},
        complete={Log.TORCHTUNE: 0, Log.INSPECT: 0},
    )
    return replace(made, **changes)


def submission(target: str, job_id: str | None = None) -> Submission:
    return Submission(target, "hash", SUBJECTS[target], "comment", os.getuid(), NOON.isoformat(), job_id or IDS[target])


def accounted(target: str, state: str, seconds: int = 60, **changes: Any) -> AccountedJob:
    """A job that started 5 s after noon and ended so many seconds after that."""
    ended = state not in ("PENDING", "RUNNING")
    made = AccountedJob(
        job_id=IDS[target],
        name=SUBJECTS[target],
        uid=os.getuid(),
        comment="",
        state=state,
        cancelled_by=None,
        exit_code="0:0" if state in ("RUNNING", "COMPLETED") else "1:0",
        reason="",
        submitted=NOON,
        started=NOON + timedelta(seconds=5) if state != "PENDING" else None,
        ended=NOON + timedelta(seconds=5 + seconds) if ended else None,
        nodes="n1" if state != "PENDING" else "",
        elapsed_seconds=seconds,
        time_limit_seconds=600,
    )
    return replace(made, **changes)


def made(target: str) -> Changed:
    """The record of a job is there."""
    return Changed(submission(target), "RUNNING", "COMPLETED", None)


class Session:
    """A session's log, and what it holds."""

    def __init__(self, plan: SessionPlan) -> None:
        self.folder = plan.folder
        self.log = SessionLog(plan)

    def tell(self, *events: object) -> Session:
        for event in events:
            self.log.observe(event)
        return self

    def start(self, *targets: str) -> Session:
        """Submit jobs, and see them run."""
        for target in targets:
            job = submission(target)
            self.tell(Submitted(job), Changed(job, "PENDING", "RUNNING", accounted(target, "RUNNING")))
        return self

    def end(
        self, target: str, state: str = "COMPLETED", message: str = "", seconds: int = 60, again: str = ""
    ) -> Session:
        """End a job as the executor reports it: a good end is seen in its record, a bad one by accounting."""
        job, succeeded = submission(target), state == "COMPLETED"
        if succeeded:
            self.tell(made(target))
        return self.tell(Finished(job, succeeded, state, message, again, accounted(target, state, seconds)))

    def rows(self, *actions: Action, log: Log | None = None) -> list[tuple[str, str, str]]:
        """Subject, details and result of entries of these actions."""
        found = []
        for one in [log] if log else Log:
            table = read_action_log(self.folder / one.file)
            assert not table["truncated"].any()
            for row in table.to_dict("records"):
                if row["action"] in [action.value for action in actions]:
                    found.append((row["subject"] or "", row["details"], row["result"]))
        return found


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(plan(tmp_path))


def test_a_session_begins_with_what_it_found(session: Session) -> None:
    found = ("", f"Found experiment at {session.folder} (experiment_summary.yaml)", "3 runs configured")
    assert session.rows(Action.DISCOVER_EXPERIMENT) == [found, found]
    assert session.rows(Action.IDENTIFY_RUNS, Action.IDENTIFY_EVALS) == [
        ("", "2 fine-tuning runs with finetune.slurm; skipping base (control, no training)", "2 runs to submit"),
        ("", "3 evaluations in the matrix", "3 evaluations to submit (0 already completed)"),
    ]


@pytest.mark.parametrize("count", [1, 40, 700])
def test_every_skipped_name_is_told_whole_however_many_there_are(tmp_path: Path, count: int) -> None:
    names = [f"a-run-with-a-long-name-{number}/task/epoch{number % 7}" for number in range(count)]
    skipped = [(name, "not asked for" if number % 2 else "already complete") for number, name in enumerate(names)]
    many = Session(plan(tmp_path, skipped={Log.TORCHTUNE: (), Log.INSPECT: tuple(skipped)}))
    rows = many.rows(Action.IDENTIFY_EVALS)
    text = "\n".join(details for _, details, _ in rows)
    assert "cut after" not in text
    assert [name for name in names if f"{name}, " not in text and f"{name} (" not in text] == []
    assert {result for _, _, result in rows} == {"3 evaluations to submit (0 already completed)"}
    assert len(rows) == len(identification(plan(tmp_path, skipped=many.log._plan.skipped), Log.INSPECT))
    assert (len(rows) == 1) == (count <= 40)


def test_submissions_with_their_stagger(session: Session) -> None:
    session.tell(RuleStarted(1, [R4], ["logs/r4.log"], 5), RuleStarted(2, [R8], ["logs/r8.log"], 5))
    session.tell(Submitted(submission(R4)), Submitted(submission(R8)))
    assert session.rows(Action.SUBMIT_JOB) == [
        ("r4", "sbatch finetune.slurm", "Job ID 104"),
        ("r8", "sbatch finetune.slurm (5-second stagger)", "Job ID 108"),
    ]
    assert list(read_action_log(session.folder / "run-torchtune.log")["job_id"])[-2:] == ["104", "108"]


def test_what_was_not_submitted(session: Session) -> None:
    """A submission that has to wait is told once, however often it is tried."""
    for pause in (1, 2, 4):
        session.tell(Delayed(submission(R4), "Socket timed out", pause))
    session.tell(Refused(submission(R4), "sbatch: error: invalid account"), RuleFailed(1, "It was not submitted"))
    session.tell(RuleStarted(5, [BASE], []), RuleFailed(5, "It was not submitted: no such file"))
    rows = session.rows(Action.SUBMIT_JOB, Action.SUBMIT_EVAL)
    assert [result.partition(";")[0] for _, _, result in rows] == [
        "failed: Socket timed out",
        "failed: sbatch: error: invalid account",
        "failed: It was not submitted: no such file",
    ]
    assert read_action_log(session.folder / "run-torchtune.log")["job_id"].isna().all()
    assert session.rows(Action.VERIFY_FINETUNING) == [
        ("r4", "No job: it was not submitted", "failed: sbatch: error: invalid account")
    ]
    assert [subject for subject, _, _ in session.rows(Action.CHECKPOINT_MISSING)] == ["r4/epoch_0"]


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
    session.tell(Submitted(submission(R4)), Held(submission(R4), "JobHeldUser", "it is held")).start(R4)
    assert [row[1:] for row in session.rows(Action.STATE_CHANGE)[:1]] == [
        ("PENDING → PENDING", "Does not start by itself (JobHeldUser): it is held")
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


@pytest.mark.parametrize("by_record", [True, False])
def test_how_the_end_of_a_training_is_known(session: Session, by_record: bool) -> None:
    session.start(R4)
    known = accounted(R4, "COMPLETED")
    session.tell(made(R4) if by_record else Finished(submission(R4), True, "COMPLETED", job=known))
    how = "Job 104 via its record, before sacct shows its end" if by_record else "Job 104 via sacct"
    assert session.rows(Action.VERIFY_FINETUNING) == [("r4", how, "COMPLETED")]


def test_checkpoints_of_a_run(session: Session) -> None:
    session.start(R4, R8).end(R4).tell(RuleStarted(1, [CHECK4], []), RuleFinished(1))
    session.end(R8).tell(RuleStarted(2, [CHECK8], []), RuleFailed(2))
    assert session.rows(Action.VERIFY_CHECKPOINTS) == [
        ("r4", "Checking epoch_0", "The checkpoint exists"),
        ("r8", "Checking epoch_0", "0 of 1 checkpoints exist; missing or unusable: epoch_0"),
    ]


def test_a_training_of_an_earlier_session_is_verified_by_its_record(tmp_path: Path) -> None:
    (tmp_path / "r4").mkdir()
    (tmp_path / R4).write_text('{"job_id": "17", "ended": "2025-01-30T10:00:00+01:00"}')
    later = Session(plan(tmp_path, wanted=frozenset({CHECK4, EVAL4})))
    later.tell(RuleStarted(1, [CHECK4], []))
    assert later.rows(Action.VERIFY_FINETUNING) == [
        ("r4", "Job 17 via its record of 2025-01-30T10:00:00+01:00", "COMPLETED")
    ]


def test_caches(session: Session) -> None:
    session.tell(RuleStarted(1, [CACHE], []), RuleFinished(1))
    assert session.rows(Action.CACHE_PREBUILD, Action.CACHE_PREBUILD_COMPLETE) == [
        ("", "Pre-building dataset caches (1 unique dataset)", "started"),
        ("", "Pre-built dataset caches (1 unique dataset)", "1 of 1 caches ready"),
    ]


def test_all_submitted_waits_for_those_that_may_still_be_and_for_no_others(session: Session) -> None:
    session.start(R4, R8, BASE).end(R4, "FAILED", "SLURM job 104 ended as FAILED")
    assert session.rows(Action.ALL_SUBMITTED) == []
    session.end(R8).tell(RuleStarted(1, [CHECK8], []))
    assert session.rows(Action.ALL_SUBMITTED) == []
    session.tell(RuleFailed(1))
    assert session.rows(Action.ALL_SUBMITTED) == [
        ("", "1 evaluation submitted (0 failures); 2 cannot be submitted: what they need failed", "Job ID 200")
    ]


def test_a_failed_cache_leaves_nothing_to_submit(session: Session) -> None:
    session.tell(RuleStarted(1, [CACHE], []), RuleFailed(1))
    (entry,) = session.rows(Action.ALL_SUBMITTED)
    assert entry[1].startswith("0 evaluations submitted (0 failures); 3 cannot be submitted")
    assert session.rows(Action.ALL_COMPLETE) == []


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


def test_the_next_session_logs_what_the_first_did_not(session: Session) -> None:
    """The first saw one job start, and the record of another."""
    session.start(R4, R8).tell(made(R8))
    wanted = frozenset({R4})
    later = Session(plan(session.folder, wanted=wanted, complete={Log.TORCHTUNE: 1, Log.INSPECT: 0}))
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
    later = Session(plan(session.folder, wanted=frozenset(), complete={Log.TORCHTUNE: 0, Log.INSPECT: 0}))
    why = "SLURM does not know job 104 any more, nor how it ended: its output is /x.out"
    later.tell(Reattached(submission(R4), ""), Finished(submission(R4), False, "LOST", why))
    assert later.rows(Action.JOB_REATTACHED)[0][2] == "ended while no process followed it"
    assert later.rows(Action.STATE_CHANGE)[-1] == ("r4", "RUNNING → FAILED", f"{why}; accounting does not say when")
    assert later.rows(Action.COMPUTE_METRICS) == [("r4", "unknown: accounting has no figures", "FAILED")]


TRANSITIONS = ("PENDING → RUNNING", "RUNNING → COMPLETED")


def figures(target: str) -> list[object]:
    """What comes of a job whose end an earlier session noticed."""
    job, known = submission(target), accounted(target, "COMPLETED")
    return [Changed(job, "PENDING", "RUNNING", known), Finished(job, True, "COMPLETED", job=known)]


def test_all_is_complete_only_when_jobs_of_the_session_before_are_accounted_for(session: Session) -> None:
    session.tell(Submitted(submission(R4)), Submitted(submission(R8)))
    later = Session(plan(session.folder, wanted=frozenset({R4}), complete={Log.TORCHTUNE: 1, Log.INSPECT: 0}))
    later.tell(Unlogged(submission(R8)), Reattached(submission(R4), "RUNNING")).end(R4)
    assert later.rows(Action.ALL_COMPLETE) == []
    later.tell(*figures(R8))
    assert later.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 complete before", "1 COMPLETED, 0 FAILED")
    ]


def test_a_session_that_only_accounts_for_jobs_says_that_all_are_complete(session: Session) -> None:
    session.tell(Submitted(submission(R8)))
    later = Session(plan(session.folder, wanted=frozenset(), complete={Log.TORCHTUNE: 2, Log.INSPECT: 0}))
    # Asked for twice: when the session begins, and when its first job does.
    later.tell(Unlogged(submission(R8)), Unlogged(submission(R8)))
    assert later.rows(Action.ALL_COMPLETE) == []
    later.tell(*figures(R8))
    assert later.rows(Action.ALL_COMPLETE) == [
        ("", "All 1 job reached a terminal state; 1 complete before", "1 COMPLETED, 0 FAILED")
    ]


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
    later = Session(plan(session.folder, wanted=frozenset(), complete={Log.TORCHTUNE: 2, Log.INSPECT: 0}))
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
    third = Session(plan(session.folder, wanted=frozenset(), complete={Log.TORCHTUNE: 2, Log.INSPECT: 0}))
    third.tell(Reattached(submission(R4), "COMPLETED"), Finished(submission(R4), True, "COMPLETED", job=known))
    assert len(third.rows(Action.STATE_CHANGE)) == 2
    assert len(third.rows(Action.COMPUTE_METRICS)) == 1


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


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (["17"], "Job ID 17"),
        (["19", "17", "18", "25"], "Job IDs 17-19, 25"),
        (["local-9", "local-10"], "Job IDs local-9, local-10"),
    ],
)
def test_ids_of_jobs(ids: Sequence[str], text: str) -> None:
    assert job_ids_text(ids) == text


def test_ids_that_are_left_out_are_counted() -> None:
    details = all_submitted([str(number) for number in range(10_000, 14_000, 2)], 0, 0, 0).result
    assert len(details) < 1900
    assert details.endswith("more, each in the entry of its submission")


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


# What jobs have to tell


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
    write_record(session.folder / folder / file, {"target": "finetune", "events": events(*told, since=since)})


def of_job(session: Session, log: Log, job_id: str) -> list[str]:
    """Actions, and transitions, that were told of a job, in order."""
    table = read_action_log(session.folder / log.file)
    rows = table[table["job_id"] == job_id].to_dict("records")
    return [row["details"] if row["action"] == "STATE_CHANGE" else row["action"] for row in rows]


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


# Jobs that are submitted again


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
    session.tell(Delayed(submission(BASE), "busy", 1)).start(BASE)
    assert session.rows(Action.ALL_SUBMITTED)[0][2] == "Job ID 200"
    session.end(BASE, "OUT_OF_MEMORY", "SLURM job 200 ended as OUT_OF_MEMORY", again="out of memory")
    session.tell(Delayed(submission(BASE), "busy", 1), Submitted(submission(BASE, "201")))
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
