"""Detects that a script ran out of memory: GPU memory by its log, the job's memory by the kernel's counters."""

from __future__ import annotations

import re
from pathlib import Path

from run_experiment.machine.processes import tail

# What torch says, for GPU memory and for main memory.
_TORCH = re.compile(
    r"(CUDA|HIP|XPU|MPS backend) out of memory|OutOfMemoryError|CU(BLAS|DNN)_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: (can't|not enough) (allocate )?memory"
    r"|((CUDA|HIP)( driver)? error|Triton Error \[(CUDA|HIP)\]): out of memory"
)
# What SLURM says of a step that used more than the job asked for.
_SLURM = re.compile(r"oom[-_]kill event(\(s\))? in (StepId=|step )|task\S* \S+: Out Of Memory")
_TAIL = 64 * 1024


def says_out_of_memory(text: str) -> bool:
    """True if an error, or the text around it, says out of memory."""
    return bool(_TORCH.search(text) or _SLURM.search(text))


def log_says_out_of_memory(log: Path) -> bool:
    """True if the end of a failed script's log says out of memory."""
    return says_out_of_memory(tail(log, _TAIL))


def log_says_too_large(log: Path) -> bool:
    """True if torch could not fit a batch. (A job that asked for too little memory does not prove that.)"""
    return bool(_TORCH.search(text := tail(log, _TAIL))) and not _SLURM.search(text)


def memory_kills(process: Path = Path("/proc/self"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Number of processes of our control group that the kernel killed for lack of memory; 0 if unknown."""
    try:
        lines = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        return max((_kills(line, cgroups) for line in lines), default=0)
    except OSError:
        return 0


def _kills(line: str, cgroups: Path) -> int:
    """Kills of one control group, a line of `/proc/self/cgroup`: `0::/path` or `5:memory:/path`."""
    _, controllers, path = line.split(":", 2)
    if not controllers:
        counts = cgroups / path.lstrip("/") / "memory.events"
    elif "memory" in controllers.split(","):
        counts = cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
    else:
        return 0
    try:
        found = re.search(r"^oom_kill (\d+)$", counts.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
