"""Verifications and caches of a session, which rest on what its jobs made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from session_logs import BASE, CACHE, CHECK4, CHECK8, EVAL4, EVAL8, R4, R8, Session, accounted, made, plan, submission

from run_experiment.actionlog.entry import Action
from run_experiment.session.events import RuleFailed, RuleFinished, RuleStarted
from run_experiment.slurm.events import (
    Finished,
)

MODEL = "cache/checks/tiny-1.json"


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


@pytest.fixture
def session_with_check(tmp_path: Path) -> Session:
    """A session in which the training of r4 needs a check of its model."""
    whole = plan(tmp_path)
    return Session(replace(whole, wanted=whole.wanted | {MODEL}, needs={**whole.needs, R4: (MODEL,)}))


def test_training_whose_model_failed_its_check_is_not_submitted(session_with_check: Session) -> None:
    session = session_with_check
    session.tell(RuleStarted(1, [MODEL], []), RuleFailed(1))
    assert session.rows(Action.VERIFY_FINETUNING) == [
        ("r4", "No job: it was not submitted", "failed: its model failed the check")
    ]
    (missing,) = session.rows(Action.CHECKPOINT_MISSING)
    assert missing[0] == "r4/epoch_0"
    session.start(R8, BASE).end(R8).tell(RuleStarted(2, [CHECK8], []), RuleFinished(2))
    session.start(EVAL8)
    assert session.rows(Action.ALL_SUBMITTED) == [
        ("", "2 evaluations submitted (0 failures); 1 cannot be submitted: what they need failed", "Job IDs 200, 208")
    ]
    assert session.rows(Action.ALL_COMPLETE) == [("", ANY, "1 COMPLETED, 0 FAILED")]
