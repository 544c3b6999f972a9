"""Jobs as the action logs have them: what each used, and what became of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from run_experiment.actionlog.entry import Action, ActionLogs, Entry, Log
from run_experiment.actionlog.reader import read_action_logs
from run_experiment.machine.gpu_samples import GpuSummary
from run_experiment.report.jobs import JobRow, job_rows, requests, totals, used
from run_experiment.slurm.usage import JobMetrics, metrics_text

HOUR = 3600


def test_what_the_log_says_of_a_job_is_read_back_whole() -> None:
    metrics = JobMetrics(90_061, 2 * 86_400, 8, 360_244, 10_240.0, 16_384.0)
    gpus = GpuSummary(2, 30, 81.0, 99.0, 61_440.0, 163_840.0, 300.0)
    assert used(metrics_text(metrics, gpus)) == {
        "wall_seconds": 90_061,
        "limit_seconds": 172_800,
        "cpus": 8,
        "cpu_percent": 50,
        "memory_gb": 10.0,
        "requested_gb": 16.0,
        "gpus": 2,
        "gpu_percent": 81,
        "gpu_memory_gb": 60.0,
        "gpu_total_gb": 160.0,
    }


@pytest.mark.parametrize(
    ("metrics", "gpu", "expected"),
    [
        (JobMetrics(17), None, {"wall_seconds": 17, "limit_seconds": None}),
        (
            JobMetrics(17, gpus=8),
            GpuSummary(4, 3, 50, 93, 2048, 4096, 350),
            {
                "wall_seconds": 17,
                "limit_seconds": None,
                "gpus": 8,
                "gpu_percent": 50,
                "gpu_memory_gb": 2.0,
                "gpu_total_gb": 4.0,
            },
        ),
        (JobMetrics(17, gpus=2), None, {"wall_seconds": 17, "limit_seconds": None, "gpus": 2}),
        (
            JobMetrics(60, None, 1, 30, 512.0),
            GpuSummary(1, 3, 50.0, 60.0, 1024.0, 2048.0, None),
            {
                "wall_seconds": 60,
                "limit_seconds": None,
                "cpus": 1,
                "cpu_percent": 50,
                "memory_gb": 0.5,
                "requested_gb": None,
                "gpus": 1,
                "gpu_percent": 50,
                "gpu_memory_gb": 1.0,
                "gpu_total_gb": 2.0,
            },
        ),
    ],
)
def test_what_is_unknown_is_left_out(metrics: JobMetrics, gpu: GpuSummary | None, expected: dict[str, object]) -> None:
    assert used(metrics_text(metrics, gpu)) == expected
    assert used("unknown: accounting has no figures") == {}


def test_a_job_is_followed_through_the_log(tmp_path: Path) -> None:
    logs = ActionLogs(tmp_path)

    def write(action: Action, details: str, result: str, job_id: str = "17") -> None:
        logs.write(Log.TORCHTUNE, Entry(action, details, result, "r4", job_id=job_id))

    write(Action.SUBMIT_JOB, "sbatch finetune.slurm", "Job ID 17")
    write(Action.STATE_CHANGE, "PENDING → RUNNING", "Training started at 2026-01-31 10:00:00 on n1")
    write(
        Action.STATE_CHANGE,
        "RUNNING → FAILED",
        "Training ended at 2026-01-31 11:30:00 on n1: no\nmore at 1999-01-01 10:00:00",
    )
    write(Action.COMPUTE_METRICS, metrics_text(JobMetrics(5400), None), "FAILED")
    write(Action.SUBMIT_JOB, "sbatch finetune.slurm", "Job ID 18", "18")
    write(Action.STATE_CHANGE, "PENDING → RUNNING", "Training started at 2026-01-31 12:00:00 on n1", "18")
    write(Action.STATE_CHANGE, "RUNNING → COMPLETED", "Training finished: train loss 0.1, at 2026-01-31 13:00:00", "18")
    write(Action.SUBMIT_JOB, "sbatch finetune.slurm", "Job ID 19", "19")
    logs.write(Log.TORCHTUNE, Entry(Action.STATUS_CHECK, "Polling", "1 job"))
    first, second, third = job_rows(read_action_logs(tmp_path), {"r4": "18"}, {"r4": 2})
    assert (first.started, first.ended) == (datetime(2026, 1, 31, 10), datetime(2026, 1, 31, 11, 30))
    assert [row.outcome for row in (first, second, third)] == ["failed", "in the results", "not ended"]
    assert [row.gpu_hours for row in (first, second, third)] == [3.0, 2.0, None]
    assert first.submitted is not None
    found = totals([first, second, third])["by_outcome"]
    assert found["failed"] == {"jobs": 1, "hours": 1.5, "gpu_hours": 3.0}
    assert found["in the results"] == {"jobs": 1, "hours": 1.0, "gpu_hours": 2.0}


def test_sessions_on_one_machine_use_the_same_ids_for_different_jobs(tmp_path: Path) -> None:
    logs = ActionLogs(tmp_path)

    def ran(state: str) -> None:
        entries = (
            Entry(Action.SUBMIT_JOB, "bash finetune.slurm", "Job ID local-3", "r4", job_id="local-3"),
            Entry(Action.STATE_CHANGE, "PENDING → RUNNING", "Training started", "r4", job_id="local-3"),
            Entry(Action.STATE_CHANGE, f"RUNNING → {state}", "Training ended", "r4", job_id="local-3"),
            Entry(Action.COMPUTE_METRICS, "wall time 01:00:00 without a time limit", state, "r4", job_id="local-3"),
        )
        for entry in entries:
            logs.write(Log.TORCHTUNE, entry)

    for state in ("COMPLETED", "COMPLETED", "FAILED"):
        ran(state)
    rows = job_rows(read_action_logs(tmp_path), {"r4": "local-3"}, {"r4": 1})
    assert [(row.state, row.outcome) for row in rows] == [
        ("COMPLETED", "replaced"),
        ("COMPLETED", "in the results"),
        ("FAILED", "failed"),
    ]
    assert {outcome: found["gpu_hours"] for outcome, found in totals(rows)["by_outcome"].items()} == {
        "replaced": 1.0,
        "in the results": 1.0,
        "failed": 1.0,
    }


def test_the_next_request_is_what_was_used_and_some_room() -> None:
    def row(seconds: int, memory: float, state: str = "COMPLETED", kind: str = "training") -> JobRow:
        limits = {"limit_seconds": 8 * HOUR, "requested_gb": 64.0}
        return JobRow("r4", kind, "1", state=state, wall_seconds=seconds, memory_gb=memory, **limits)

    rows = [row(HOUR, 10.0), row(2 * HOUR, 8.0), row(9 * HOUR, 70.0, "FAILED"), JobRow("x/y/base", "evaluation", "2")]
    assert requests(rows) == [
        {
            "kind": "training",
            "jobs": 2,
            "seconds": 2 * HOUR,
            "limit_seconds": 8 * HOUR,
            "suggested_seconds": 3 * HOUR,
            "memory_gb": 10.0,
            "requested_gb": 64.0,
            "suggested_gb": 13,
        }
    ]
