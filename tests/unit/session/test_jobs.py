"""What the jobs of a session used."""

from __future__ import annotations

from pathlib import Path

import pytest
from ended_jobs import accounted

from run_experiment.actionlog.entry import Log
from run_experiment.common.json_files import write_record
from run_experiment.session.jobs import FollowedJob
from run_experiment.session.plan import SessionJob
from run_experiment.slurm.ledger import Submission

TARGET = "r4/eval/a_base.json"


@pytest.mark.parametrize(
    ("job_id", "used"),
    [("17+2", "00:00:12 without a time limit"), ("17", "00:01:00 of 01:00:00 (2%)")],
    ids=["one of several", "alone"],
)
def test_a_job_of_several_has_figures_of_its_own(tmp_path: Path, job_id: str, used: str) -> None:
    """Else GPU-hours would count the whole job for each of them."""
    write_record(tmp_path / TARGET, {"job_id": job_id, "seconds": 12.0})
    submission = Submission(TARGET, "hash", "name", "comment", 0, "2026-01-31T10:00:00+01:00", job_id)
    job = SessionJob(TARGET, Log.INSPECT, "r4/a/base", "r4", "", ())
    followed = FollowedJob(job, submission, "COMPLETED", is_current=True, accounted=accounted("COMPLETED"))
    assert followed.metrics(tmp_path).details.startswith(f"wall time {used},")
