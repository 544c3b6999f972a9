"""What came out of a job, as the entry that ends it says; links to the logs; reasons of what is made again."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from session_logs import plan

from run_experiment.actionlog.entry import Log, link_logs
from run_experiment.common.clock import moment_of
from run_experiment.common.json_files import write_record
from run_experiment.session.entries import jobs as entries
from run_experiment.session.log import SessionLog
from run_experiment.session.outcomes import Outcome, outcome
from run_experiment.session.plan import ATTACHED, SessionJob, SessionPlan

ENDED = datetime(2026, 1, 31, 10, 5).astimezone()
FACTS = {"config": {}, "job_id": "17", "started": "2026-01-31T10:00:00", "ended": ENDED.isoformat()}
SCORES = {"results": {"metrics": {"match/stderr": 0.04, "match/accuracy": 0.88, "match/f1": 0.9}}}

TEXTS: dict[str, tuple[Log, dict[str, Any]]] = {
    "match/accuracy 0.880": (Log.INSPECT, SCORES),
    "match/accuracy 0.880, 5 of 6 samples": (
        Log.INSPECT,
        {"results": {**SCORES["results"], "completed_samples": 5, "total_samples": 6}},
    ),
    "train loss 0.0413, validation loss 0.0686": (
        Log.TORCHTUNE,
        {"losses": {"train_loss": 0.04132, "validation_loss": 0.0686}},
    ),
    "train loss 0.5000": (Log.TORCHTUNE, {"losses": {"train_loss": 0.5, "validation_loss": None}}),
    "": (Log.TORCHTUNE, {}),
}


@pytest.mark.parametrize(("text", "made"), TEXTS.items(), ids=TEXTS)
def test_outcome(tmp_path: Path, text: str, made: tuple[Log, dict[str, Any]]) -> None:
    log, facts = made
    write_record(tmp_path / "record.json", FACTS | facts)
    found = outcome(log, tmp_path / "record.json", "17")
    assert (found.text, found.ended) == (text, ENDED)
    assert outcome(log, tmp_path / "record.json", "18") == outcome(log, tmp_path / "none.json", "17") == Outcome()


def test_a_restored_record_has_the_times_of_the_job_that_restored_it(tmp_path: Path) -> None:
    """An older one has only those of the job that made it."""
    restored = FACTS | {"restored_by": "18"}
    write_record(tmp_path / "record.json", restored)
    assert outcome(Log.TORCHTUNE, tmp_path / "record.json", "18") == Outcome()
    own = {"restarts": 1, "started": "2026-01-31T11:00:00", "ended": "2026-01-31T11:00:05"}
    write_record(tmp_path / "record.json", restored | {"allocation": own})
    found = outcome(Log.TORCHTUNE, tmp_path / "record.json", "18")
    assert (found.started, found.ended) == (moment_of(own["started"]), moment_of(own["ended"]))


def test_result_of_the_entry_that_ends_a_job() -> None:
    end = entries.finished(Log.INSPECT, "match/accuracy 0.880", ENDED, " on n1")
    assert end == "Evaluation finished: match/accuracy 0.880, at 2026-01-31 10:05:00 on n1"
    assert entries.finished(Log.INSPECT, "", ENDED) == "Evaluation finished at 2026-01-31 10:05:00"
    assert entries.finished(Log.TORCHTUNE, "train loss 0.5", None) == "Training finished: train loss 0.5"


def test_what_is_made_again_says_why(tmp_path: Path) -> None:
    jobs = {run: SessionJob(run, Log.TORCHTUNE, run, run, f"{run}/finetune.slurm", ()) for run in ("r4", "r8")}
    plan = SessionPlan(
        folder=tmp_path,
        executor=ATTACHED,
        runs=2,
        jobs=jobs,
        checkpoints={},
        caches=[],
        wanted=frozenset(jobs),
        needs={},
        why=dict.fromkeys(jobs, "lr: 0.1 → 0.2"),
        skipped={},
        complete={},
        again={"r4": "lr: 0.1 → 0.2"},
    )
    explanations = [entries.submission(plan, job, 0, "17").explanation for job in jobs.values()]
    assert explanations == ["lr: 0.1 → 0.2", None]


def test_only_folders_of_other_tools_have_links(tmp_path: Path) -> None:
    SessionLog(plan(tmp_path))
    assert not (tmp_path / "logs").exists()
    (tmp_path / "r4").mkdir()
    (tmp_path / "r4/finetune.slurm").write_text("#!/bin/bash\necho theirs\n")
    SessionLog(plan(tmp_path))
    assert (tmp_path / "logs/run-inspect.log").is_symlink()


def test_logs_are_linked_from_the_folder_of_logs(tmp_path: Path) -> None:
    (tmp_path / "run-inspect.log").write_text("an entry")
    link_logs(tmp_path)
    link_logs(tmp_path)
    assert (tmp_path / "logs/run-inspect.log").read_text() == "an entry"
    # A file that another tool left there stays.
    other = tmp_path / "other"
    (other / "logs").mkdir(parents=True)
    (other / "logs/run-torchtune.log").write_text("theirs")
    link_logs(other)
    assert (other / "logs/run-torchtune.log").read_text() == "theirs"
