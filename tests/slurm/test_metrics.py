"""What real jobs used: the figures of `seff`, worked out here from what sacct says, one field at a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import accounting, cancel, queue, submit
from run_experiment.slurm.ends import shell_status
from run_experiment.slurm.states import is_live
from run_experiment.slurm.usage import JobMetrics, metrics_text

BURN = "x = bytearray(200 << 20); import time\nwhile time.process_time() < 3: pass"
BOTH_CORES = f"python3 -c '{BURN}' & python3 -c '{BURN}' & wait"


def job(commands: str, *options: str) -> str:
    return submit(["--output=/dev/null", "--chdir=/tmp", *options], f"#!/bin/bash\n{commands}\n")


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def settled(job_id: str) -> AccountedJob:
    """What accounting says of a job that is no longer in the queue, once it has all of it."""
    until(lambda: all(one.job_id != job_id for one in queue()))
    until(lambda: job_id in (known := accounting([job_id])) and known[job_id].settled)
    return accounting([job_id])[job_id]


def running(job_id: str) -> bool:
    return any((one.job_id, one.state) == (job_id, "RUNNING") for one in queue())


def sacct(job_id: str, *columns: str) -> list[list[str]]:
    """Columns of a job and then of its steps."""
    command = ["sacct", "-nP", "--noconvert", "-j", job_id, "-o", ",".join(columns)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.split("|") for line in output.splitlines()]


def seff(job_id: str) -> tuple[int, float, float, float]:
    """CPU seconds, CPU efficiency, MiB and memory efficiency of a job that used less than an hour."""
    (of_job, *of_steps) = sacct(job_id, "ElapsedRaw", "AllocCPUS", "TotalCPU", "ReqMem", "MaxRSS", "NTasks")
    minutes, seconds = of_job[2].split(":")
    cpu = int(int(minutes) * 60 + float(seconds) + 0.5)
    requested = float(of_job[3].removesuffix("M"))
    peak = max(int(step[4] or 0) * int(step[5]) for step in of_steps) / 2**20
    return cpu, 100 * cpu / (int(of_job[0]) * int(of_job[1])), peak, 100 * peak / requested


def assert_as_seff(one: AccountedJob) -> JobMetrics:
    metrics = JobMetrics.of_slurm(one)
    cpu, cpu_percent, peak, memory_percent = seff(one.job_id)
    assert metrics.cpu_seconds == cpu
    assert metrics.cpu_percent == pytest.approx(cpu_percent)
    assert metrics.peak_memory_mib == pytest.approx(peak)
    assert metrics.memory_percent == pytest.approx(memory_percent)
    return metrics


def test_a_job_that_burns_two_cores() -> None:
    one = settled(job(BOTH_CORES, "--cpus-per-task=2", "--mem=600M", "--time=4", "--gres=gpu:2"))
    assert (one.state, one.cpus, one.node_count, one.gpus, one.time_limit_seconds) == ("COMPLETED", 2, 1, 2, 240)
    assert one.started is not None
    assert one.ended is not None
    assert one.elapsed_seconds == (one.ended - one.started).total_seconds() >= 3
    metrics = assert_as_seff(one)
    assert metrics.cpu_seconds is not None
    assert metrics.peak_memory_mib is not None
    assert 6 <= metrics.cpu_seconds <= 9
    assert 200 < metrics.peak_memory_mib < 600
    assert metrics.requested_memory_mib == 600
    text = metrics_text(metrics, None)
    assert text.startswith(f"wall time 00:00:{one.elapsed_seconds:02} of 00:04:00 (")
    assert text.endswith(f" of 2 cores, memory 0.4 of 0.6 GB ({metrics.memory_percent:.0f}%), no samples of 2 GPUs")


@pytest.mark.parametrize(
    ("options", "cpus", "nodes", "memory"),
    [
        (["--mem-per-cpu=150M", "--cpus-per-task=2"], 2, 1, 300),
        (["--mem=300M", "--nodes=2"], 2, 2, 600),
        (["--mem-per-cpu=150M", "--nodes=2", "--ntasks-per-node=2"], 4, 2, 600),
    ],
)
def test_memory_of_cpus_and_nodes(options: Sequence[str], cpus: int, nodes: int, memory: float) -> None:
    one = settled(job("sleep 2", *options))
    assert (one.cpus, one.node_count, one.requested_memory_mib, one.gpus) == (cpus, nodes, memory, 0)
    assert_as_seff(one)


def test_the_step_with_the_most_memory_counts_with_all_its_tasks() -> None:
    one = settled(job(f"srun --ntasks=2 python3 -c '{BURN}'; sleep 1", "--ntasks=2", "--mem-per-cpu=300M"))
    _, batch, step = sacct(one.job_id, "JobIDRaw", "NTasks", "MaxRSS")
    assert [batch[:2], step[:2]] == [[f"{one.job_id}.batch", "1"], [f"{one.job_id}.0", "2"]]
    assert one.cpu_seconds is not None
    assert one.cpu_seconds >= 6
    assert one.peak_memory_mib is not None
    # Of two tasks alike, the sum of the peaks is nearly twice the highest.
    assert one.peak_memory_mib == pytest.approx(2 * int(step[2]) / 2**20, rel=0.02)


def test_a_failed_job() -> None:
    one = settled(job(f"python3 -c '{BURN}'; exit 3", "--mem=300M"))
    assert (one.state, one.exit_code) == ("FAILED", "3:0")
    assert_as_seff(one)


def test_a_script_that_ends_as_a_signal_ended_its_command() -> None:
    """Not all versions of sacct say what the shell said."""
    assert shell_status(settled(job("exit 143")).exit_code) == "143:0"


def test_a_job_that_was_cancelled_while_it_ran() -> None:
    one = job("sleep 60", "--mem=100M", "--time=1")
    until(lambda: running(one))
    assert not (known := accounting([one])) or not known[one].settled
    time.sleep(2)
    cancel([one])
    found = settled(one)
    assert (found.state, found.steps_ended) == ("CANCELLED", True)
    assert found.peak_memory_mib is not None


def test_a_job_that_was_cancelled_while_it_waited() -> None:
    one = job("true", "--begin=now+1hour", "--mem-per-cpu=70M", "--ntasks=3", "--time=10")
    cancel([one])
    found = settled(one)
    assert (found.state, found.started, found.nodes) == ("CANCELLED", None, "")
    assert (found.elapsed_seconds, found.cpu_seconds, found.peak_memory_mib) == (0, None, None)
    assert (found.cpus, found.gpus, found.requested_memory_mib) == (3, 0, 210)
    assert metrics_text(JobMetrics.of_slurm(found), None) == (
        "wall time 00:00:00 of 00:10:00 (0%), CPU unknown, memory unknown, no GPU samples"
    )


def test_of_a_requeued_job_the_last_start_counts() -> None:
    one = job(f"[ \"$SLURM_RESTART_COUNT\" ] || {{ python3 -c '{BURN}'; sleep 60; }}; sleep 2", "--mem=300M")
    until(lambda: running(one))
    # The first start has used its memory and most of its time.
    time.sleep(4)
    requeued = datetime.now(UTC).replace(microsecond=0)
    subprocess.run(["scontrol", "requeue", one], check=True)
    until(lambda: one in (known := accounting([one])) and known[one].state in ("REQUEUED", "PENDING"))
    assert not accounting([one])[one].settled
    # SLURM lets a requeued job wait for up to two minutes; on a node that still ends the first start it would fail.
    until(lambda: any((waiting.job_id, waiting.state) == (one, "PENDING") for waiting in queue()))
    time.sleep(5)
    subprocess.run(["scontrol", "update", f"jobid={one}", "starttime=now"], check=False)
    until(lambda: one in (known := accounting([one])) and not is_live(known[one].state), 180)
    found = settled(one)
    assert found.state == "COMPLETED"
    assert found.started is not None
    assert found.started >= requeued
    assert found.ended is not None
    assert found.elapsed_seconds == (found.ended - found.started).total_seconds() >= 2
    assert found.cpu_seconds in (None, 0)
    assert found.peak_memory_mib is not None
    assert found.peak_memory_mib < 100


def test_a_job_too_short_for_a_sample_has_settled_all_the_same() -> None:
    one = settled(job("true", "--mem=100M", "--time=3", "--job-name=short"))
    assert (one.state, one.name, one.time_limit_seconds, one.requested_memory_mib) == ("COMPLETED", "short", 180, 100)
    assert one.started is not None
