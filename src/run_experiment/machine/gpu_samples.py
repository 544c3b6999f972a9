"""GPU use of a job: nvidia-smi samples taken while its script runs, and their summary."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from statistics import fmean
from typing import Any

from run_experiment.common.files import Stamps, stamps
from run_experiment.machine.processes import query

# Columns of the samples file, and the nvidia-smi fields that they hold.
_FIELDS = {
    "index": "index",
    "utilization_gpu_percent": "utilization.gpu",
    "memory_used_mib": "memory.used",
    "memory_total_mib": "memory.total",
    "power_draw_w": "power.draw",
    "temperature_c": "temperature.gpu",
}
_COLUMNS = ("timestamp", *_FIELDS)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:\s*(?:%|MiB|W|C))?")
_VISIBLE = re.compile(r"\d+|GPU-[\w-]+|MIG-[\w/-]+")
_RAW_TIMESTAMP = "%Y/%m/%d %H:%M:%S.%f"
# nvidia-smi stamps the GPUs of one sample a few milliseconds apart.
_SAME_SAMPLE = timedelta(milliseconds=90)

# Seconds between the first samples, so that a job of less than half a minute has some too.
_FIRST_PAUSES = (5.0, 10.0, 15.0)
# Seconds that one call of nvidia-smi may take.
_TIME_OUT = 10.0
# Seconds to wait at the end of a job for a sample in progress, and then for its thread.
_PATIENCE = (0.7, 0.2)

# Runs a command: its output, or None if it failed, timed out, or the event was set meanwhile.
Runner = Callable[[list[str], float, threading.Event], str | None]


@dataclass(frozen=True)
class GpuSummary:
    """Summary of a job's samples, in percent, MiB and W; None for what is not known.

    Means are over all samples of all GPUs; memory is that of all GPUs together, its peak at one moment.
    """

    gpus: int
    samples: int
    mean_utilization: float | None
    max_utilization: float | None
    peak_memory_mib: float | None
    total_memory_mib: float | None
    mean_power_w: float | None


@dataclass(frozen=True)
class Reading:
    """One GPU at one moment: percent, MiB, W."""

    timestamp: datetime
    utilization: float | None
    used: float | None
    total: float | None
    power: float | None


@contextmanager
def sampling(
    path: Path, interval: float = 30.0, run: Runner = query, environment: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Sample the job's GPUs into the CSV file `path` until the block ends: at once, soon, and every `interval` seconds.

    Without nvidia-smi nothing is written; its errors do not reach the block.
    """
    # Samples of an earlier job do not belong to this one.
    with suppress(OSError):
        path.unlink(missing_ok=True)
    over, hurry = threading.Event(), threading.Event()

    def smi(*arguments: str) -> str | None:
        return run(["nvidia-smi", *arguments], _TIME_OUT, hurry)

    # A daemon, so that a thread that hangs cannot keep the job from ending.
    thread = threading.Thread(target=_keep_sampling, args=(path, interval, smi, environment, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_PATIENCE[0])
        hurry.set()
        thread.join(_PATIENCE[1])


def gpu_facts(samples: Iterable[Path], before: Stamps) -> dict[str, Any]:
    """A record's entry on GPUs, from the first of the files of samples that was written since they were as `before`.

    Empty without any.
    """
    for path, stamp in stamps(samples).items():
        if before.get(path) != stamp:
            with suppress(OSError):
                return {"gpu": asdict(summarize(path))}
    return {}


def summarize(path: Path) -> GpuSummary:
    """Summarize a samples file, ours or one that nvidia-smi wrote itself. Raises OSError."""
    rows = _rows(path.read_text(encoding="utf-8", errors="replace"))
    samples = _by_sample(rows)
    utilization = [row.utilization for row in rows if row.utilization is not None]
    power = [row.power for row in rows if row.power is not None]
    return GpuSummary(
        gpus=max((len(sample) for sample in samples), default=0),
        samples=len(samples),
        mean_utilization=fmean(utilization) if utilization else None,
        max_utilization=max(utilization, default=None),
        peak_memory_mib=_most([[row.used for row in sample] for sample in samples]),
        total_memory_mib=_most([[row.total for row in sample] for sample in samples]),
        mean_power_w=fmean(power) if power else None,
    )


def last_sample(path: Path) -> list[Reading]:
    """The last sample of each GPU in a file; empty if there is none. Raises OSError."""
    samples = _by_sample(_rows(path.read_text(encoding="utf-8", errors="replace")))
    return samples[-1] if samples else []


def _keep_sampling(
    path: Path,
    interval: float,
    smi: Callable[..., str | None],
    environment: Mapping[str, str],
    over: threading.Event,
) -> None:
    """Write samples until the job is over. No error, not even a full disk, may disturb the job."""
    gpus = visible_gpus(environment, smi)
    if gpus == []:
        return
    arguments = [f"--query-gpu={','.join(_FIELDS.values())}", "--format=csv,noheader,nounits"]
    if gpus is not None:
        arguments.append(f"--id={','.join(gpus)}")
    with suppress(OSError):
        for pause in chain(_FIRST_PAUSES, repeat(interval)):
            _append(path, _lines(smi(*arguments) or "", _now()))
            if over.wait(min(pause, interval)):
                return


def visible_gpus(environment: Mapping[str, str], smi: Callable[..., str | None]) -> list[str] | None:
    """The GPUs of CUDA_VISIBLE_DEVICES, which nvidia-smi ignores; None (all GPUs) if it is not set."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    found = []
    for gpu in visible.split(","):
        # CUDA uses the entries before the first invalid one.
        if not _VISIBLE.fullmatch(gpu.strip()):
            break
        found.append(gpu.strip())
    if any(gpu.startswith("MIG-") for gpu in found):
        # nvidia-smi gives figures of whole GPUs only.
        parents = _mig_parents(smi("-L") or "")
        found = [parents.get(gpu, gpu) for gpu in found]
        found = [gpu for gpu in found if not gpu.startswith("MIG-")]
    return list(dict.fromkeys(found))


def _mig_parents(listing: str) -> dict[str, str]:
    """GPU of each MIG device, from `nvidia-smi -L`."""
    parents, parent = {}, ""
    for kind, uuid in re.findall(r"\(UUID: ((?:GPU|MIG)-)([^)\s]+)\)", listing):
        if kind == "GPU-":
            parent = kind + uuid
        elif parent:
            parents[kind + uuid] = parent
    return parents


def _lines(output: str, timestamp: str) -> str:
    """Rows of the samples file from nvidia-smi's output; unknown values are empty."""
    rows = []
    for line in output.splitlines():
        values = [_number(value) for value in line.split(",")]
        if len(values) == len(_FIELDS) and values[0] is not None:
            rows.append(",".join([timestamp, *("" if value is None else f"{value:g}" for value in values)]) + "\n")
    return "".join(rows)


def _append(path: Path, lines: str) -> None:
    """Append rows, with a header if the file is new."""
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(lines if file.tell() else ",".join(_COLUMNS) + "\n" + lines)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def _number(text: str) -> float | None:
    """A value with or without its unit; None for `[N/A]`, `[Not Supported]` and their like."""
    found = _NUMBER.fullmatch(text.strip())
    return float(found[1]) if found else None


def _rows(text: str) -> list[Reading]:
    """The rows of a samples file, without a torn last line and lines that are not rows."""
    whole = text[: text.rfind("\n") + 1].splitlines()
    if not whole:
        return []
    header = [_column(name) for name in whole[0].split(",")]
    cells = [line.split(",") for line in whole[1:]]
    return [
        row
        for values in cells
        if len(values) == len(header) and (row := _row(dict(zip(header, values, strict=True)))) is not None
    ]


def _column(name: str) -> str:
    """Our name for a column that nvidia-smi calls, say, `memory.used [MiB]`."""
    bare = name.partition("[")[0].strip()
    return {field: ours for ours, field in _FIELDS.items()}.get(bare, bare)


def _row(values: Mapping[str, str]) -> Reading | None:
    timestamp = _timestamp(values.get("timestamp", "").strip())
    if timestamp is None:
        return None
    columns = ("utilization_gpu_percent", "memory_used_mib", "memory_total_mib", "power_draw_w")
    return Reading(timestamp, *(_number(values.get(column, "")) for column in columns))


def _timestamp(text: str) -> datetime | None:
    """Parse a time; nvidia-smi's own are local, without an offset."""
    for parse in (datetime.fromisoformat, lambda text: datetime.strptime(text, _RAW_TIMESTAMP)):
        with suppress(ValueError, OverflowError):
            return parse(text).astimezone(UTC)
    return None


def _by_sample(rows: list[Reading]) -> list[list[Reading]]:
    """Group rows that were sampled together."""
    samples: list[list[Reading]] = []
    for row in rows:
        if samples and abs(row.timestamp - samples[-1][0].timestamp) < _SAME_SAMPLE:
            samples[-1].append(row)
        else:
            samples.append([row])
    return samples


def _most(samples: list[list[float | None]]) -> float | None:
    """The highest sum over all GPUs of a sample, among samples in which every GPU's value is known."""
    known = [[value for value in sample if value is not None] for sample in samples]
    sums = [math.fsum(values) for values, sample in zip(known, samples, strict=True) if len(values) == len(sample)]
    return max(sums, default=None)
