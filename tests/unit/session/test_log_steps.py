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


LAST4, MARK4 = "r4/checkpoints/epoch_1.json", ".snakemake/run-experiment/epochs/r4/epoch_0.json"


@pytest.fixture
def early_session(tmp_path: Path) -> Session:
    """A session in which the first of two epochs of r4 is verified while the second one is trained."""
    whole = plan(tmp_path)
    last = replace(whole.checkpoints[CHECK4], target=LAST4, name="epoch_1", folder=tmp_path / "r4/artifacts/epoch_1")
    return Session(
        replace(
            whole,
            checkpoints={**whole.checkpoints, LAST4: last},
            wanted=whole.wanted | {LAST4, MARK4},
            needs={**whole.needs, MARK4: (), CHECK4: (MARK4,), LAST4: (R4,)},
            epochs=frozenset({MARK4}),
        )
    )


def test_an_epoch_that_is_verified_early(early_session: Session) -> None:
    """How the training ended is logged when it did, and the run's checkpoints once the last one was looked at."""
    session = early_session.start(R4)
    session.tell(RuleStarted(1, [MARK4], []), RuleFinished(1), RuleStarted(2, [CHECK4], []), RuleFinished(2))
    assert session.rows(Action.VERIFY_FINETUNING, Action.VERIFY_CHECKPOINTS) == []
    session.start(EVAL4).end(EVAL4).end(R4).tell(RuleStarted(3, [LAST4], []), RuleFinished(3))
    assert session.rows(Action.VERIFY_FINETUNING, Action.VERIFY_CHECKPOINTS) == [
        ("r4", ANY, "COMPLETED"),
        ("r4", "Checking epoch_0, epoch_1", "All 2 checkpoints exist"),
    ]


@pytest.mark.parametrize(
    ("events", "missing"),
    [
        ([RuleFinished(1)], ["r4/epoch_1"]),
        ([RuleFailed(1)], ["r4/epoch_0", "r4/epoch_1"]),
    ],
)
@pytest.mark.parametrize("is_known_before", [True, False])
def test_only_epochs_that_are_not_whole_are_missing(
    early_session: Session, events: list[object], missing: list[str], is_known_before: bool
) -> None:
    """Whether the last look at an epoch comes before or after the end of its training."""
    session = early_session.start(R4).tell(RuleStarted(1, [MARK4], []))
    if is_known_before:
        session.tell(*events).end(R4, "FAILED", "oom")
    else:
        session.end(R4, "FAILED", "oom")
        assert session.rows(Action.CHECKPOINT_MISSING) == []
        session.tell(*events)
    assert [subject for subject, *_ in session.rows(Action.CHECKPOINT_MISSING)] == missing
    session.start(R8, BASE).end(R8).tell(RuleStarted(2, [CHECK8], []), RuleFinished(2)).start(EVAL8)
    if missing[0] == "r4/epoch_1":
        assert session.rows(Action.ALL_SUBMITTED) == []
        session.start(EVAL4)
    (submitted,) = session.rows(Action.ALL_SUBMITTED)
    assert submitted[1].startswith("3 evaluations" if missing[0] == "r4/epoch_1" else "2 evaluations")


def test_epochs_of_a_training_that_cannot_be_submitted_are_missing(early_session: Session) -> None:
    """No job then waits for them."""
    whole = early_session.log._plan
    session = Session(
        replace(whole, wanted=whole.wanted | {MODEL}, needs={**whole.needs, R4: (MODEL,), MARK4: (MODEL,)})
    )
    session.tell(RuleStarted(1, [MODEL], []), RuleFailed(1))
    assert [subject for subject, *_ in session.rows(Action.CHECKPOINT_MISSING)] == ["r4/epoch_0", "r4/epoch_1"]
