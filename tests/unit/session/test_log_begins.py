"""What a session logs when it begins, and what it submits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from session_logs import BASE, CACHE, CHECK8, R4, R8, Session, plan, submission

from run_experiment.actionlog.entry import Action, Log, link_logs
from run_experiment.actionlog.reader import read_action_log
from run_experiment.attempts.reuse import OfferedEvaluation
from run_experiment.common.json_files import write_record
from run_experiment.session.entries.jobs import all_submitted, identification, job_ids_text
from run_experiment.session.events import RuleFailed, RuleStarted
from run_experiment.slurm.events import (
    Delayed,
    Refused,
    Submitted,
)


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


def test_what_is_taken_from_another_experiment_has_an_entry_each(tmp_path: Path) -> None:
    facts = {
        "config": {},
        "job_id": "17",
        "ended": "2025-01-31T11:00:00",
        "results": {"metrics": {"match/accuracy": 0.5}},
    }
    write_record(tmp_path / BASE, facts)
    there = OfferedEvaluation(Path("/other"), "control", "shout_base", facts)
    taken = Session(plan(tmp_path, taken={BASE: there}))
    assert taken.rows(Action.REUSE_EVAL) == [
        (
            "base/shout/base",
            "Evaluated by job 17 of /other as control/shout/base, from where it is taken",
            "Evaluation finished: match/accuracy 0.500, at 2025-01-31 11:00:00",
        )
    ]
    # Its job is none of this experiment.
    assert read_action_log(tmp_path / "run-inspect.log")["job_id"].isna().all()


def test_submissions_with_their_stagger(session: Session) -> None:
    session.tell(RuleStarted(1, [R4], ["logs/r4.log"], 5), RuleStarted(2, [R8], ["logs/r8.log"], 5))
    session.tell(Submitted(submission(R4)), Submitted(submission(R8)))
    assert session.rows(Action.SUBMIT_JOB) == [
        ("r4", "sbatch finetune.slurm", "Job ID 104"),
        ("r8", "sbatch finetune.slurm (5-second stagger)", "Job ID 108"),
    ]
    assert list(read_action_log(session.folder / "run-torchtune.log")["job_id"])[-2:] == ["104", "108"]
    # As another tool's reader finds them.
    link_logs(session.folder)
    text = (session.folder / "logs/run-torchtune.log").read_text()
    found = re.findall(r"SUBMIT_JOB: ([\w.-]+)\n.*?\nJob ID: (\d+)", text, re.DOTALL)
    assert found == [("r4", "104"), ("r8", "108")]


def test_what_was_not_submitted(session: Session) -> None:
    """A submission that has to wait is told once, however often it is tried."""
    for _ in range(3):
        session.tell(Delayed(submission(R4), "Socket timed out"))
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
