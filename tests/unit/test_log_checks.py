"""The checks of the action logs on the test cluster find each fault that they are for, in made-up jobs and entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pandas as pd
import pytest
from cluster_runs import ClusterJob
from log_checks import all_problems, subject_of, wrong_on_page

from run_experiment.actionlog.reader import COLUMNS

DAY = "2025-01-31 10:0"


def at(minute: int) -> datetime:
    return datetime(2025, 1, 31, 10, minute)


TRAINING = ClusterJob("11", "tiny.r4", "COMPLETED", at(1), at(2), 1)
FAILED = ClusterJob("12", "tiny.r4.shout.e0", "FAILED", at(3), at(4), 1)
EVALUATION = ClusterJob("13", "tiny.r4.shout.e0", "COMPLETED", at(5), at(6), 1)
JOBS = [TRAINING, FAILED, EVALUATION]
RECORDS = {"r4": {"job_id": "11"}, "r4/shout/epoch0": {"job_id": "13"}}

Row = dict[str, object]


def entry(log: str, action: str, subject: str | None, job_id: str | None, details: str, result: str) -> Row:
    values = {"log": log, "action": action, "subject": subject, "job_id": job_id, "details": details, "result": result}
    return {**dict.fromkeys(COLUMNS), "time": at(0), "truncated": False, **values}


def entries_of(job: ClusterJob, log: str, submission: str) -> list[Row]:
    subject, text = subject_of(job), "%Y-%m-%d %H:%M:%S"
    assert job.start
    assert job.end
    started, ended = f"Started at {job.start:{text}} on n1", f"Ended at {job.end:{text}} on n1"
    return [
        entry(log, submission, subject, job.job_id, "sbatch", f"Job ID {job.job_id}"),
        entry(log, "STATE_CHANGE", subject, job.job_id, "PENDING → RUNNING", started),
        entry(log, "STATE_CHANGE", subject, job.job_id, f"RUNNING → {job.state}", ended),
        entry(log, "COMPUTE_METRICS", subject, job.job_id, "wall time", job.state),
    ]


def complete(log: str, details: str, result: str) -> Row:
    return entry(log, "ALL_COMPLETE", None, None, details, result)


def rows() -> list[Row]:
    """Entries that are as they should be: a training, an evaluation that failed and was made in the next session."""
    return [
        *entries_of(TRAINING, "torchtune", "SUBMIT_JOB"),
        complete("torchtune", "All 1 job reached a terminal state", "1 COMPLETED, 0 FAILED"),
        *entries_of(FAILED, "inspect", "SUBMIT_EVAL"),
        complete("inspect", "All 1 evaluation reached a terminal state", "0 COMPLETED, 1 FAILED"),
        *entries_of(EVALUATION, "inspect", "SUBMIT_EVAL"),
        complete("inspect", "All 1 evaluation reached a terminal state", "1 COMPLETED, 0 FAILED"),
    ]


def problems(entries: list[Row], jobs: list[ClusterJob] = JOBS) -> list[str]:
    return all_problems(jobs, pd.DataFrame(entries), RECORDS)


@pytest.mark.parametrize(
    ("name", "subject"),
    [("tiny.r4", "r4"), ("tiny.r4.shout.e0", "r4/shout/epoch0"), ("tiny.base.shout", "base/shout/base")],
)
def test_jobs_are_called_what_the_logs_call_them(name: str, subject: str) -> None:
    assert subject_of(replace(TRAINING, name=name)) == subject


def test_nothing_is_wrong() -> None:
    assert problems(rows()) == []


@pytest.mark.parametrize("state", ["CANCELLED", "NODE_FAIL"])
def test_a_record_counts_although_its_job_was_then_ended_from_outside(state: str) -> None:
    """The logs have it as completed."""
    ended, entries = replace(TRAINING, state=state), rows()
    assert problems(entries, [ended, FAILED, EVALUATION]) == []
    entries[2] |= {"details": f"RUNNING → {state}"}
    assert f"{TRAINED}the last state in the log is {state}" in problems(entries, [ended, FAILED, EVALUATION])


SHARED = [replace(EVALUATION, job_id=f"13+{place}", name=f"tiny.r{place}.shout.e0") for place in (1, 2)]


def test_a_record_counts_although_another_target_of_its_job_failed() -> None:
    """Alone, a job that failed has no record."""
    failed, made = (replace(job, state="FAILED") for job in SHARED)
    records = {"r2/shout/epoch0": {"job_id": "13+2"}}
    rows = [
        {"job_id": "13+1", "state": "FAILED", "seconds": 20, "ended": "2025-01-31T10:06:00"},
        {"job_id": "13+2", "state": "COMPLETED", "seconds": 30, "ended": "2025-01-31T10:06:00"},
    ]
    assert wrong_on_page([failed, made], rows, records) == []
    alone = replace(made, job_id="13")
    assert wrong_on_page([alone], [rows[1] | {"job_id": "13"}], {"r2/shout/epoch0": {"job_id": "13"}}) != []


@pytest.mark.parametrize(("seconds", "wrong"), [(30, False), (10, False), (60, True)])
def test_targets_of_a_job_have_no_more_than_its_time_together(seconds: int, wrong: bool) -> None:
    records = {f"r{place}/shout/epoch0": {"job_id": f"13+{place}"} for place in (1, 2)}
    common = {"state": "COMPLETED", "seconds": seconds, "ended": "2025-01-31T10:06:00"}
    rows = [common | {"job_id": job.job_id} for job in SHARED]
    assert bool(wrong_on_page(SHARED, rows, records)) is wrong


@pytest.mark.parametrize(("seconds", "wrong"), [(60, False), (57, True), (63, True)])
def test_a_job_has_its_time_on_the_page(seconds: int, wrong: bool) -> None:
    row = {"job_id": "11", "state": "COMPLETED", "seconds": seconds, "ended": "2025-01-31T10:02:00"}
    assert bool(wrong_on_page([TRAINING], [row], RECORDS)) is wrong


def test_a_job_that_never_started_has_an_end_alone() -> None:
    cancelled = replace(FAILED, state="CANCELLED", start=None)
    entries = rows()
    del entries[6]
    entries[6] |= {"details": "PENDING → CANCELLED"}
    entries[7] |= {"result": "CANCELLED"}
    assert problems(entries, [TRAINING, cancelled, EVALUATION]) == []


def test_a_job_that_was_queued_again_has_the_times_of_its_last_start() -> None:
    first = [
        entry("torchtune", "STATE_CHANGE", "r4", "11", "PENDING → RUNNING", f"Started at {DAY}0:10 on n2"),
        entry("torchtune", "STATE_CHANGE", "r4", "11", "RUNNING → PENDING", "Waits to be started"),
    ]
    entries = rows()
    assert problems([entries[0], *first, *entries[1:]]) == []


@pytest.mark.parametrize("start", [at(7), None])
def test_a_job_that_was_queued_again_after_it_left_its_record(start: datetime | None) -> None:
    """And that ended then, whether it had begun once more or not."""
    assert [
        one for one in problems(rows(), [replace(TRAINING, start=start, end=at(8)), *JOBS[1:]]) if "its end" in one
    ] == []


def without(*numbers: int) -> Callable[[list[Row]], list[Row]]:
    return lambda entries: [row for number, row in enumerate(entries) if number not in numbers]


def twice(number: int) -> Callable[[list[Row]], list[Row]]:
    return lambda entries: [*entries[: number + 1], dict(entries[number]), *entries[number + 1 :]]


def changed(number: int, **values: object) -> Callable[[list[Row]], list[Row]]:
    return lambda entries: [row | values if index == number else row for index, row in enumerate(entries)]


def moved(number: int, to: int) -> Callable[[list[Row]], list[Row]]:
    def move(entries: list[Row]) -> list[Row]:
        entries.insert(to, entries.pop(number))
        return entries

    return move


TRAINED, EVALUATED = "job 11 (r4, COMPLETED): ", "job 13 (r4/shout/epoch0, COMPLETED): "


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without(0), f"{TRAINED}0 entries of its submission, not 1"),
        (twice(0), f"{TRAINED}2 entries of its submission, not 1: r4, r4"),
        (changed(0, subject="r8"), f"{TRAINED}1 entries of its submission, not 1: r8"),
        (without(1, 2), f"{TRAINED}the last state in the log is PENDING"),
        (without(1), f"{TRAINED}its transitions are no chain: RUNNING → COMPLETED"),
        (twice(2), f"{TRAINED}it went on after an end: PENDING, RUNNING, COMPLETED, COMPLETED"),
        (changed(2, details="RUNNING → FAILED"), f"{TRAINED}the last state in the log is FAILED"),
        (changed(1, details="PENDING → CONFIGURING"), f"{TRAINED}the log does not have its start"),
        (changed(1, result=f"Started at {DAY}3:05"), f"{TRAINED}its start is 2025-01-31 10:01:00 in accounting"),
        (changed(2, result="Ended"), f"{TRAINED}its end is 2025-01-31 10:02:00 in accounting, in the log: Ended"),
        (without(3), f"{TRAINED}COMPUTE_METRICS is not there once"),
        (twice(3), f"{TRAINED}COMPUTE_METRICS is not there once: COMPLETED, COMPLETED"),
        (changed(3, result="FAILED"), f"{TRAINED}COMPUTE_METRICS is not there once: FAILED"),
        (without(4), "run-torchtune.log: no ALL_COMPLETE after the end of job 11"),
        (moved(4, 1), "run-torchtune.log: no ALL_COMPLETE after the end of job 11"),
        (moved(9, 7), "run-inspect.log: ALL_COMPLETE of 2025-01-31 10:00:00 comes before the end of job 12"),
        (without(14), "run-inspect.log: no ALL_COMPLETE after the end of job 13"),
        (changed(14, result="0 COMPLETED, 1 FAILED"), "run-inspect.log: ALL_COMPLETE says 'All 1 evaluation"),
        (changed(14, details="All 2 evaluations reached"), "run-inspect.log: ALL_COMPLETE says 'All 2 evaluations"),
        (changed(14, details="All 1 …; 1 complete before"), "run-inspect.log: ALL_COMPLETE says 'All 1 …; 1 complete"),
        (changed(14, truncated=True), "the entry ALL_COMPLETE of 2025-01-31 10:00:00 is torn"),
    ],
)
def test_what_is_wrong_in_the_logs_is_found(change: Callable[[list[Row]], list[Row]], problem: str) -> None:
    found = problems(change(rows()))
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("jobs", "problem"),
    [
        ([TRAINING, FAILED], "r4/shout/epoch0: its record names job 13, and these completed: none"),
        ([*JOBS, replace(EVALUATION, job_id="14", start=at(7), end=at(8))], "r4/shout/epoch0: its record names job 13"),
        ([replace(TRAINING, job_id="10"), *JOBS[1:]], "r4: its record names job 11, and these completed: 10"),
        ([*JOBS, replace(TRAINING, name="tiny.r8")], "r8: its record names job None, and these completed: 11"),
        (
            [TRAINING, replace(FAILED, end=at(6)), EVALUATION],
            "job 12 (r4/shout/epoch0, FAILED) and job 13 (r4/shout/epoch0, COMPLETED) ran at the same time",
        ),
        (
            [TRAINING, replace(FAILED, end=None, state="RUNNING"), EVALUATION],
            "job 12 (r4/shout/epoch0, RUNNING) and job 13 (r4/shout/epoch0, COMPLETED) ran at the same time",
        ),
        ([*JOBS, replace(FAILED, job_id="14", start=None)], "job 14 (r4/shout/epoch0, FAILED): 0 entries of its subm"),
    ],
)
def test_what_is_wrong_with_jobs_is_found(jobs: list[ClusterJob], problem: str) -> None:
    found = problems(rows(), jobs)
    assert any(line.startswith(problem) for line in found), found
