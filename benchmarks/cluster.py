"""The workflow on the test cluster, as a user starts it: what it costs beyond what its jobs have to take."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster_runs import AT_ONCE, ClusterJob, settled, shim
from sleeping_experiment import Work, make_sleeping, times_file
from snakemake_cli import SOURCE
from tables import Figure

from run_experiment.common.paths import eval_record, finetune_record, manifest
from run_experiment.slurm.ledger import PATH as LEDGER

CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sacctmgr", "sinfo", "sshare")
# All that Snakemake says, of local rules, too: when a checkpoint was looked at is read there.
OPTIONS = ["--quiet", "host", "--slurm-attached-max-queued", "500", *AT_ONCE]

# Seconds that trainings and evaluations take.
TRAININGS = (10, 10, 12, 15, 20, 30, 45, 60)
EVALUATION = 6
GPUS = 8
WORK = Work(TRAININGS, EVALUATION)
# No order of jobs is done sooner: one run after its training, and all the work on all GPUs.
NEEDED = sum(TRAININGS) + EVALUATION * len(WORK.cells) * len(TRAININGS)
BOUND = max(max(TRAININGS) + EVALUATION, NEEDED / GPUS)

# Goals.
MAKESPAN, ALLOCATED, CLIENT_PROCESSES, NOTICED = 1.08, 1.05, 1.2, 2.0


class BenchmarkError(Exception):
    """The workflow did not do its work, so there is nothing to measure; the message has its last words."""


class StampedLines(threading.Thread):
    """Lines of a growing file, each with the time at which it was there, to 20 ms."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.lines: list[tuple[float, str]] = []
        self._path = path
        self._over = threading.Event()

    def run(self) -> None:
        """Read until told to stop, and then what is there."""
        read = 0
        while True:
            over = self._over.wait(0.02)
            if self._path.exists() and self._path.stat().st_size > read:
                with self._path.open("rb") as file:
                    file.seek(read)
                    new, newline, _ = file.read().rpartition(b"\n")
                read += len(new) + len(newline)
                self.lines += [(time.time(), line.decode()) for line in new.split(b"\n") if newline]
            if over:
                return

    def stop(self) -> list[tuple[float, str]]:
        """All lines, once nothing more is written."""
        self._over.set()
        self.join()
        return self.lines


class Appearances(threading.Thread):
    """When files first lay there, to 20 ms: what Snakemake has seen it touches, so their own times do not tell."""

    def __init__(self, paths: Iterable[Path]) -> None:
        super().__init__(daemon=True)
        self.at: dict[Path, float] = {}
        self._paths = set(paths)
        self._over = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._over.wait(0.02):
            self.at |= {path: time.time() for path in self._paths - self.at.keys() if path.exists()}

    def stop(self) -> dict[Path, float]:
        """All that appeared."""
        self._over.set()
        self.join()
        return self.at


@dataclass(frozen=True)
class JobTimes:
    """When a job was submitted and SLURM had answered, its script ran, its record lay there, its end was noticed."""

    intended: float
    accepted: float
    began: float
    ended: float
    recorded: float
    noticed: float


@dataclass(frozen=True)
class Observed:
    """A run of the workflow: its jobs by record, when records and manifests first lay there, accounting's view of the
    jobs, clients started, when the command ran, what it said.
    """

    jobs: dict[str, JobTimes]
    made: dict[str, float]
    accounted: list[ClusterJob]
    clients: int
    started: float
    ended: float
    output: list[tuple[float, str]]


def observe(folder: Path) -> Observed:
    """Run the experiment of sleeping jobs. Raises BenchmarkError if not every job was done, once.

    The order of the trainings is a new one each time.
    """
    work = replace(WORK, trainings=random.sample(TRAININGS, len(TRAININGS)))
    experiment, records = make_sleeping(folder, work), set(work.records.values())
    count = folder / "clients"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for client in CLIENTS:
        environment |= shim(folder / "bin", client, f'echo {client} >> {count}\nexec $real "$@"')
    ledger, output = StampedLines(experiment.path / LEDGER), StampedLines(folder / "snakemake.log")
    files = Appearances(experiment.path / path for path in [*work.manifests, *records])
    for watch in (ledger, output, files):
        watch.start()
    started = time.time()
    status = run_workflow(experiment.path, folder / "snakemake.log", environment)
    ended = time.time()
    said, noted = output.stop(), ledger.stop()
    made = {str(path.relative_to(experiment.path)): moment for path, moment in files.stop().items()}
    if status:
        raise BenchmarkError("\n".join(line for _, line in said[-40:]))
    accounted = settled(experiment.path, len(records))
    jobs = _job_times(experiment.path, records, noted, made)
    if not len(accounted) == len(jobs) == len(records):
        raise BenchmarkError(f"{len(accounted)} jobs were submitted and {len(jobs)} noticed, not {len(records)}")
    clients = len(count.read_text().splitlines())
    return Observed(jobs, made, accounted, clients, started, ended, said)


def figures(observed: Observed) -> list[Figure]:
    """What was measured, with its goals. The makespan begins with the first sbatch and ends with the last notice."""
    jobs = observed.jobs.values()
    makespan = max(job.noticed for job in jobs) - min(job.intended for job in jobs)
    allocated = sum(job_seconds(job) * job.gpus for job in observed.accounted)
    delays = [job.noticed - job.recorded for job in jobs]
    return [
        Figure("makespan, first submission to last end noticed", makespan, "s"),
        Figure(f"makespan over its bound of {BOUND:g} s", makespan / BOUND, goal=MAKESPAN),
        Figure("the whole command, until accounting has all figures", observed.ended - observed.started, "s"),
        Figure("GPU-seconds allocated", allocated, "s"),
        Figure(f"GPU-seconds allocated over the {NEEDED:g} s of work", allocated / NEEDED, goal=ALLOCATED),
        Figure("SLURM client processes a job", observed.clients / len(jobs), goal=CLIENT_PROCESSES),
        Figure("end of a job to its notice, longest", max(delays), "s", NOTICED),
        Figure("end of a job to its notice, median", statistics.median(delays), "s"),
        *_parts(observed),
    ]


def _parts(observed: Observed) -> list[Figure]:
    """Medians of what makes up a job's overhead."""
    steps: dict[str, Callable[[JobTimes], float]] = {
        "sbatch": lambda job: job.accepted - job.intended,
        "submission to start of the script (with waiting for a GPU)": lambda job: job.began - job.accepted,
        "end of the script to the record": lambda job: job.recorded - job.ended,
    }
    return [
        Figure(f"{name}, median", statistics.median(step(job) for job in observed.jobs.values()), "s")
        for name, step in steps.items()
    ]


def last_path(observed: Observed) -> list[tuple[str, float]]:
    """Moments on the way to the last end, in seconds since the first submission."""
    jobs = observed.jobs
    last = max((target for target in jobs if "/eval/" in target), key=lambda target: jobs[target].noticed)
    run, cell = last.split("/")[0], Path(last).stem
    epoch = int(cell.rpartition("epoch")[2])
    told = next(moment for moment, line in observed.output if f"Verify checkpoint {run}/epoch_{epoch} " in line)
    training, evaluation = jobs[finetune_record(run)], jobs[eval_record(run, cell)]
    first = min(job.intended for job in jobs.values())
    moments = [
        ("command started", observed.started),
        *_moments("training", training),
        (f"verification of epoch {epoch} started", told),
        ("verification ended", observed.made[manifest(run, epoch)]),
        *_moments("evaluation", evaluation),
        ("command ended", observed.ended),
    ]
    return [(name, moment - first) for name, moment in moments]


def _moments(what: str, job: JobTimes) -> list[tuple[str, float]]:
    return [
        (f"{what}: sbatch called", job.intended),
        (f"{what}: sbatch answered", job.accepted),
        (f"{what}: script began", job.began),
        (f"{what}: script ended", job.ended),
        (f"{what}: record written", job.recorded),
        (f"{what}: end noticed", job.noticed),
    ]


def run_workflow(
    experiment: Path, log: Path, environment: dict[str, str], *config: str, options: Sequence[str] = OPTIONS
) -> int:
    """Run it on the test cluster; returns the exit status."""
    # As for users: jobs need not compile the code anew, each with its GPU waiting.
    environment = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *options]
    with log.open("wb") as output:
        return subprocess.run(
            [*command, "--config", f"experiment_dir={experiment}", *config],
            cwd=SOURCE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=3600,
            check=False,
        ).returncode


def _job_times(
    folder: Path, records: Collection[str], ledger: list[tuple[float, str]], made: dict[str, float]
) -> dict[str, JobTimes]:
    """Times of the jobs whose end was noticed, by their records."""
    noted: dict[str, dict[str, float]] = {}
    for moment, line in ledger:
        entry: dict[str, Any] = json.loads(line)
        if entry.get("target") in records:
            noted.setdefault(entry["target"], {})[entry["event"]] = moment
    found = {}
    for target, moments in noted.items():
        began, ended = map(float, (folder / times_file(target)).read_text().split())
        found[target] = JobTimes(
            intended=moments["intended"],
            accepted=moments["accepted"],
            began=began,
            ended=ended,
            recorded=made[target],
            noticed=moments["settled"],
        )
    return found


def job_seconds(job: ClusterJob) -> float:
    """How long a job took that has ended."""
    assert job.start is not None
    assert job.end is not None
    return (job.end - job.start).total_seconds()
