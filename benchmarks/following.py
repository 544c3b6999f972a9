"""What following many jobs costs the main process: 500 in flight, of a plan of 19,000. No job runs.

SLURM's clients are scripts: sbatch answers after a while, the others say that all that was submitted runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster import BenchmarkError
from sleeping_experiment import Work, make_sleeping
from snakemake_cli import SOURCE
from tables import Figure

RUNS, EPOCHS, TASKS = 1000, 3, ("shout", "cry", "sing", "talk", "hum")
IN_FLIGHT = 500
SBATCH_SECONDS = 0.05
MINUTE = 60.0

# Goals: of a core, in MB, and of the submissions that are possible one after the other.
MOST_CPU, MOST_MEMORY, LONGEST_PACE = 0.25, 1000, 1.5

_SBATCH = """
for word; do
    case $word in
        --test-only) exit 0 ;;
        --job-name=*) name=${word#*=} ;;
        --comment=*) comment=${word#*=} ;;
    esac
done
sleep SECONDS
cat > /dev/null
number=$(($(wc -l < FOLDER/jobs) + 1))
echo "$number~$name~$comment" >> FOLDER/jobs
echo "$number"
"""
# Each field follows a mark, which the format ends with.
_SQUEUE = """
for last; do mark=${last##*%k}; done
exec awk -F '~' -v m="$mark" '{print m $1 m "RUNNING" m "None" m $2 m $3 m}' FOLDER/jobs
"""
_SACCT = """
for word; do case $word in --delimiter=*) mark=${word#*=} ;; esac; done
exec awk -F '~' -v m="$mark" -v uid="$(id -u)" -v now="$(date +%Y-%m-%dT%H:%M:%S)" '{
    print $1 m $2 m uid m $3 m "RUNNING" m "0:0" m "None" m now m now m "Unknown" m "n1" m 1 m 1 m 60 m 1 m 1 m \\
        "00:00:00" m "800M" m "cpu=1,mem=800M,node=1,gres/gpu=1" m m
}' FOLDER/jobs
"""
_CLIENTS = {"sbatch": _SBATCH, "squeue": _SQUEUE, "sacct": _SACCT, "scancel": "", "scontrol": "", "sinfo": ""}


@dataclass(frozen=True)
class Usage:
    """Seconds of a process's own CPU time, and its memory in MB."""

    cpu_s: float
    memory_mb: float


def following_figures(folder: Path, runs: int = RUNS, in_flight: int = IN_FLIGHT) -> list[Figure]:
    """Start an experiment, wait until all that may be is in flight, and measure a minute. Raises BenchmarkError."""
    work = Work([60] * runs, 60, EPOCHS, TASKS)
    experiment = make_sleeping(folder, work)
    planned = len(work.records) + len(work.manifests)
    clients = _Clients(folder / "bin")
    pace = ["--slurm-attached-max-queued", str(in_flight), "--set-resources", "run_finetune:stagger=0"]
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--quiet", *pace]
    with (folder / "snakemake.log").open("wb") as output:
        process = subprocess.Popen(
            [*command, "--config", f"experiment_dir={experiment.path}"],
            cwd=SOURCE,
            env={**os.environ, **clients.environment, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _until(process, lambda: clients.jobs > 0, folder)
        first, begin = clients.jobs, time.monotonic()
        _until(process, lambda: clients.jobs >= in_flight, folder)
        seconds = time.monotonic() - begin
        before, started, calls = _usage(process.pid), time.monotonic(), clients.started
        time.sleep(MINUTE)
        after, lasted = _usage(process.pid), time.monotonic() - started
        calls = clients.started - calls
    finally:
        process.terminate()
        process.wait()
    each = seconds / (in_flight - first)
    size = f"{in_flight} of {planned:,} jobs in flight"
    return [
        Figure(f"{size}: CPU of the main process, of a core", (after.cpu_s - before.cpu_s) / lasted, "", MOST_CPU),
        Figure(f"{size}: memory of the main process", after.memory_mb, "MB", MOST_MEMORY),
        Figure(f"{size}: SLURM clients started a minute", calls * MINUTE / lasted),
        Figure(f"submissions a minute where sbatch takes {SBATCH_SECONDS:g} s", MINUTE / each),
        Figure(
            "seconds a submission, beside what sbatch itself takes", each / clients.sbatch_seconds, "×", LONGEST_PACE
        ),
    ]


class _Clients:
    """SLURM's clients in a folder for PATH, each of which notes that it was started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "jobs").touch()
        for name, body in _CLIENTS.items():
            text = body.replace("FOLDER", str(folder)).replace("SECONDS", f"{SBATCH_SECONDS:g}")
            (folder / name).write_text(f"#!/bin/bash\necho {name} >> {folder}/started\n{text}")
            (folder / name).chmod(0o755)
        self.environment: Mapping[str, str] = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    @property
    def jobs(self) -> int:
        """How many were submitted."""
        return (self._folder / "jobs").read_bytes().count(b"\n")

    @property
    def started(self) -> int:
        """How many processes of clients were started."""
        return (self._folder / "started").read_bytes().count(b"\n")

    @property
    def sbatch_seconds(self) -> float:
        """How long sbatch takes on this machine, under its present load: called as often as makes a mean."""
        calls, begin = 20, time.monotonic()
        for _ in range(calls):
            subprocess.run([self._folder / "sbatch"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        return (time.monotonic() - begin) / calls


def _until(process: subprocess.Popen[bytes], condition: Callable[[], bool], folder: Path) -> None:
    """Wait for something that the main process does. Raises BenchmarkError if that ends before."""
    while not condition():
        if process.poll() is not None:
            raise BenchmarkError("\n".join((folder / "snakemake.log").read_text().splitlines()[-40:]))
        time.sleep(0.05)


def _usage(pid: int) -> Usage:
    """What a process has used, without the processes that it started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, pages = int(fields[11]), int(fields[12]), int(fields[21])
    return Usage((user + system) / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
