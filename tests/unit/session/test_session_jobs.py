"""Jobs of a session that are not in the experiment any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_experiment.actionlog.entry import Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import ATTACHED, SessionPlan
from run_experiment.slurm.events import Delayed
from run_experiment.slurm.ledger import Submission


@pytest.mark.parametrize(
    ("target", "log", "subject"),
    [
        ("r9/finetune.json", Log.TORCHTUNE, "r9"),
        ("r9/eval/my_task_epoch1.json", Log.INSPECT, "r9/my_task/epoch1"),
    ],
)
def test_they_keep_their_names_in_the_logs(tmp_path: Path, target: str, log: Log, subject: str) -> None:
    plan = SessionPlan(
        folder=tmp_path,
        executor=ATTACHED,
        runs=0,
        jobs={},
        checkpoints={},
        caches=[],
        wanted=frozenset(),
        needs={},
        why={},
        skipped=dict.fromkeys(Log, ()),
        complete=dict.fromkeys(Log, frozenset()),
    )
    submission = Submission(target, "hash", "name", "comment", 0, "2026-01-31T12:00:00+00:00")
    SessionLog(plan).observe(Delayed(submission, "busy"))
    assert read_action_log(tmp_path / log.file)["subject"].iloc[-1] == subject
