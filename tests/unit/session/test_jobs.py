"""What the jobs of a session used."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ended_jobs import NOON, accounted

from run_experiment.actionlog.entry import Log
from run_experiment.attempts.files import BEGUN, ENDED
from run_experiment.common.clock import stamp
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


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [
        ([], 0),
        ([(48, None)], 12),
        ([(10, 25), (26, 40)], 29),
        ([(-100, None), (20, 30)], 10),
        ([(48, 4000)], 12),
    ],
    ids=["not begun with", "cut off", "tried twice", "in an earlier start, too", "its end was noted late"],
)
def test_what_a_job_of_several_did_not_make_has_the_time_of_its_attempts(
    tmp_path: Path, attempts: list[tuple[int, int | None]], seconds: int
) -> None:
    ended = replace(accounted("FAILED"), ended=NOON + timedelta(minutes=1))
    for number, (began, end) in enumerate(attempts):
        times = {"started": stamp(NOON + timedelta(seconds=began))}
        times |= {} if end is None else {"ended": stamp(NOON + timedelta(seconds=end)), "error": "unlucky"}
        place = tmp_path / "r4/attempts" / f"17+2{f'.{number}' if number else ''}"
        write_record(place / (BEGUN if end is None else ENDED), {"target": "a_base", "job_id": "17+2", **times})
    submission = Submission(TARGET, "hash", "name", "comment", 0, "2026-01-31T10:00:00+01:00", "17+2")
    job = SessionJob(TARGET, Log.INSPECT, "r4/a/base", "r4", "", ())
    followed = FollowedJob(job, submission, "FAILED", is_current=True, accounted=ended)
    assert followed.metrics(tmp_path).details.startswith(f"wall time 00:00:{seconds:02} without a time limit,")
