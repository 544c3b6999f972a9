"""What a job used of what it asked for: the figures of SLURM's `seff` and GPU use, as texts for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from run_experiment.common.text import counted
from run_experiment.machine.gpu_samples import GpuSummary, last_sample
from run_experiment.slurm.accounted_job import AccountedJob


@dataclass(frozen=True)
class JobMetrics:
    """What a job used, in seconds and MiB; None if unknown, or if there is no limit.

    Percentages are of what it asked for, computed as `seff` does. `gpus` are those that it had; 0, too, if unknown.
    """

    wall_seconds: int
    time_limit_seconds: int | None = None
    cpus: int | None = None
    cpu_seconds: int | None = None
    peak_memory_mib: float | None = None
    requested_memory_mib: float | None = None
    gpus: int = 0

    @classmethod
    def of_slurm(cls, job: AccountedJob) -> JobMetrics:
        """Usage from accounting, which is incomplete until the job is `settled`."""
        return cls(
            wall_seconds=job.elapsed_seconds,
            time_limit_seconds=job.time_limit_seconds,
            cpus=job.cpus or None,
            cpu_seconds=job.cpu_seconds,
            peak_memory_mib=job.peak_memory_mib,
            requested_memory_mib=job.requested_memory_mib,
            gpus=job.gpus,
        )

    @property
    def time_percent(self) -> float | None:
        """Wall time as a share of the time limit."""
        return _percent(self.wall_seconds, self.time_limit_seconds)

    @property
    def cpu_percent(self) -> float | None:
        """Busy CPU time as a share of the wall time of all CPUs."""
        return _percent(self.cpu_seconds, None if self.cpus is None else self.wall_seconds * self.cpus)

    @property
    def memory_percent(self) -> float | None:
        """Peak memory as a share of the memory asked for."""
        return _percent(self.peak_memory_mib, self.requested_memory_mib)


def metrics_text(metrics: JobMetrics, gpu: GpuSummary | None) -> str:
    """What a job used in one line, which names what is unknown."""
    return ", ".join([_time_text(metrics), _cpu_text(metrics), _memory_text(metrics), _gpu_text(metrics, gpu)])


def gpu_status_text(path: Path) -> tuple[str, str] | None:
    """GPU utilization and memory of a running job, as details and result, from the last sample in its file.

    Utilization is the mean of the GPUs, memory that of all together. None without a file or a sample.
    """
    try:
        last = last_sample(path)
    except OSError:
        return None
    if not last:
        return None
    used, total = _sum([gpu.used for gpu in last]), _sum([gpu.total for gpu in last])
    memory = "unknown" if used is None else f"{_gigabytes(used)}/{_gigabytes(total)} GB"
    return f"GPU utilization: {_utilization_text([gpu.utilization for gpu in last])}", f"GPU memory: {memory}"


def _percent(used: float | None, of: float | None) -> float | None:
    if used is None or of is None:
        return None
    # A job that ended at once; seff says 0 too.
    return 100 * used / of if of else 0.0


def _time_text(metrics: JobMetrics) -> str:
    wall = _duration(metrics.wall_seconds)
    if metrics.time_limit_seconds is None:
        return f"wall time {wall} without a time limit"
    return f"wall time {wall} of {_duration(metrics.time_limit_seconds)} ({_rounded(metrics.time_percent)})"


def _cpu_text(metrics: JobMetrics) -> str:
    if metrics.cpu_percent is None:
        return "CPU unknown"
    return f"CPU {_rounded(metrics.cpu_percent)} of {metrics.cpus} core{'' if metrics.cpus == 1 else 's'}"


def _memory_text(metrics: JobMetrics) -> str:
    if metrics.peak_memory_mib is None:
        return "memory unknown"
    used = _gigabytes(metrics.peak_memory_mib)
    if metrics.requested_memory_mib is None:
        return f"memory {used} GB without a limit"
    return f"memory {used} of {_gigabytes(metrics.requested_memory_mib)} GB ({_rounded(metrics.memory_percent)})"


def _gpu_text(metrics: JobMetrics, gpu: GpuSummary | None) -> str:
    if gpu is None or not gpu.samples:
        return f"no samples of {counted(metrics.gpus, 'GPU')}" if metrics.gpus else "no GPU samples"
    # Only those of the first node are sampled.
    total = max(gpu.gpus, metrics.gpus)
    name = "GPU" if total == 1 else f"{total} GPUs"
    busy = f"mean {_rounded(gpu.mean_utilization)}, max {_rounded(gpu.max_utilization)}"
    busy += f" ({gpu.gpus} sampled)" if gpu.gpus < total else ""
    memory = f"{_gigabytes(gpu.peak_memory_mib)} of {_gigabytes(gpu.total_memory_mib)} GB"
    power = f"{gpu.mean_power_w:.0f} W{'' if total == 1 else ' each'}" if gpu.mean_power_w is not None else "unknown"
    return ", ".join(
        [
            f"{name} {busy if gpu.mean_utilization is not None else 'utilization unknown'}",
            f"peak memory {memory if gpu.peak_memory_mib is not None else 'unknown'}",
            f"power {power}",
        ]
    )


def _utilization_text(utilization: Sequence[float | None]) -> str:
    known = [one for one in utilization if one is not None]
    mean = _rounded(fmean(known) if known else None)
    each = f" ({len(utilization)} GPUs: {', '.join(map(_rounded, utilization))})"
    return mean if len(utilization) == 1 or not known else mean + each


def _sum(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _rounded(percent: float | None) -> str:
    return "unknown" if percent is None else f"{percent:.0f}%"


def _gigabytes(mib: float | None) -> str:
    return "unknown" if mib is None else f"{mib / 1024:.1f}"


def _duration(seconds: int) -> str:
    """Days, hours, minutes and seconds, as SLURM writes them."""
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock
