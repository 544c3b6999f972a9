"""What a job used, as figures and as texts, against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from run_experiment.machine.gpu_samples import GpuSummary, summarize
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.usage import JobMetrics, gpu_status_text, metrics_text

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
BARE = AccountedJob("7", "a", 0, "", "COMPLETED", None, "0:0", "", NOW, NOW, NOW, "n1")
JOB = replace(
    BARE,
    elapsed_seconds=2712,
    time_limit_seconds=14_400,
    cpus=4,
    node_count=1,
    cpu_seconds=9002,
    peak_memory_mib=12_390.4,
    requested_memory_mib=24_576,
)
GPU = GpuSummary(1, 90, 93.4, 100, 30_822, 81_559, 412.3)
HEADER = "timestamp,index,utilization_gpu_percent,memory_used_mib,memory_total_mib,power_draw_w,temperature_c\n"
FIRST = "2026-01-31T12:00:00.000+00:00,0,12,500,81559,90,40\n2026-01-31T12:00:00.000+00:00,1,13,500,81559,90,40\n"


def test_a_job_of_slurm() -> None:
    metrics = JobMetrics.of_slurm(JOB)
    assert (metrics.wall_seconds, metrics.time_limit_seconds, metrics.cpus) == (2712, 14_400, 4)
    assert metrics.time_percent == pytest.approx(18.8333, abs=1e-4)
    assert metrics.cpu_percent == pytest.approx(82.9830, abs=1e-4)
    assert metrics.memory_percent == pytest.approx(50.4167, abs=1e-4)
    assert metrics_text(metrics, GPU) == (
        "wall time 00:45:12 of 04:00:00 (19%), CPU 83% of 4 cores, memory 12.1 of 24.0 GB (50%), "
        "GPU mean 93%, max 100%, peak memory 30.1 of 79.6 GB, power 412 W"
    )


def test_figures_that_seff_gave() -> None:
    """Of jobs that others published with what seff said of them."""
    uneven = replace(JOB, elapsed_seconds=130, cpus=20, cpu_seconds=688)
    assert f"{JobMetrics.of_slurm(uneven).cpu_percent:.2f}" == "26.46"
    nodes = replace(JOB, elapsed_seconds=27_363, cpus=16, cpu_seconds=431_782)
    assert f"{JobMetrics.of_slurm(nodes).cpu_percent:.2f}" == "98.62"


def test_a_job_that_accounting_knows_little_of() -> None:
    metrics = JobMetrics.of_slurm(BARE)
    assert (metrics.time_percent, metrics.cpu_percent, metrics.memory_percent) == (None, None, None)
    assert metrics_text(metrics, None) == (
        "wall time 00:00:00 without a time limit, CPU unknown, memory unknown, no GPU samples"
    )


def test_a_job_that_ended_at_once() -> None:
    metrics = JobMetrics.of_slurm(replace(JOB, elapsed_seconds=0, cpus=1, cpu_seconds=0, peak_memory_mib=None))
    assert metrics_text(metrics, None) == (
        "wall time 00:00:00 of 04:00:00 (0%), CPU 0% of 1 core, memory unknown, no GPU samples"
    )


def test_days_and_memory_that_nothing_was_said_of() -> None:
    metrics = JobMetrics.of_slurm(replace(JOB, elapsed_seconds=93_784, requested_memory_mib=None))
    assert metrics.memory_percent is None
    text = metrics_text(metrics, None)
    assert text.startswith("wall time 1-02:03:04 of 04:00:00 (651%)")
    assert "memory 12.1 GB without a limit" in text


def test_a_job_without_slurm() -> None:
    metrics = JobMetrics(wall_seconds=62)
    assert metrics_text(metrics, GPU).startswith("wall time 00:01:02 without a time limit, CPU unknown, memory unknown")


def test_gpus_of_other_nodes_count_though_they_are_not_sampled() -> None:
    """As GPU-hours are computed from this text."""
    text = metrics_text(JobMetrics(3600, gpus=8), GpuSummary(4, 3, 50, 93, 31_123, 163_118, 350))
    assert text.endswith("8 GPUs mean 50%, max 93% (4 sampled), peak memory 30.4 of 159.3 GB, power 350 W each")


@pytest.mark.parametrize(
    ("gpu", "text"),
    [
        (GpuSummary(0, 0, None, None, None, None, None), "no GPU samples"),
        (
            GpuSummary(1, 3, None, None, None, 81_559, None),
            "GPU utilization unknown, peak memory unknown, power unknown",
        ),
        (
            GpuSummary(1, 3, 0, 0, 2048, None, 60),
            "GPU mean 0%, max 0%, peak memory 2.0 of unknown GB, power 60 W",
        ),
        (
            GpuSummary(2, 3, 50, 93, 31_123, 163_118, 350),
            "2 GPUs mean 50%, max 93%, peak memory 30.4 of 159.3 GB, power 350 W each",
        ),
    ],
)
def test_gpus(gpu: GpuSummary, text: str) -> None:
    assert metrics_text(JobMetrics(0), gpu).partition("memory unknown, ")[2] == text


@pytest.mark.parametrize(
    ("last", "texts"),
    [
        ("0,93,30822,81559,412,60", ("GPU utilization: 93%", "GPU memory: 30.1/79.6 GB")),
        ("0,,,81559,,60", ("GPU utilization: unknown", "GPU memory: unknown")),
        ("0, [N/A], [N/A], 81559, [N/A], 60", ("GPU utilization: unknown", "GPU memory: unknown")),
        ("0,0,10240,,,60", ("GPU utilization: 0%", "GPU memory: 10.0/unknown GB")),
        (
            "0,93,30822,81559,412,60 1,7,1024,81559,90,40",
            ("GPU utilization: 50% (2 GPUs: 93%, 7%)", "GPU memory: 31.1/159.3 GB"),
        ),
        (
            "0,93,30822,81559,412,60 1,,,81559,90,40",
            ("GPU utilization: 93% (2 GPUs: 93%, unknown)", "GPU memory: unknown"),
        ),
        ("0,,,81559,,60 1,,,81559,,60", ("GPU utilization: unknown", "GPU memory: unknown")),
    ],
)
def test_the_last_sample(tmp_path: Path, last: str, texts: tuple[str, str]) -> None:
    path = tmp_path / "gpu_metrics.csv"
    rows = last.replace(", ", ",").split(" ")
    path.write_text(HEADER + FIRST + "".join(f"2026-01-31T12:00:30.000+00:00,{row}\n" for row in rows))
    assert gpu_status_text(path) == texts


def test_a_file_that_nvidia_smi_wrote_itself(tmp_path: Path) -> None:
    path = tmp_path / "gpu_metrics.csv"
    path.write_text(
        "timestamp, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W]\n"
        "2026/01/31 12:00:00.000, 93 %, 30822 MiB, 81559 MiB, 412.30 W\n"
        "2026/01/31 12:00:30.000, 95 %, 30822 MiB, 81559 MiB, 412.30 W\n"
    )
    assert gpu_status_text(path) == ("GPU utilization: 95%", "GPU memory: 30.1/79.6 GB")
    assert metrics_text(JobMetrics(0), summarize(path)).endswith(
        "GPU mean 94%, max 95%, peak memory 30.1 of 79.6 GB, power 412 W"
    )


def test_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "gpu_metrics.csv"
    assert gpu_status_text(path) is None
    assert gpu_status_text(tmp_path) is None
    path.write_text("")
    assert gpu_status_text(path) is None
    path.write_text(HEADER + "2026-01-31T12:00:30.000+00:00,0,93,308")
    assert gpu_status_text(path) is None
