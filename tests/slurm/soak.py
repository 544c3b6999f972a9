"""An experiment in progress, and what can happen to it: its main process ends, daemons go down, jobs are lost.

Each fault waits for events, not for seconds, and leaves the main process and the cluster running.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cluster_runs import AT_ONCE, ClusterJob, Run, client, jobs, until
from experiments import ExperimentFolder
from log_checks import subject_of
from own_cluster import OwnCluster
from sleeping_experiment import Work

from run_experiment.slurm.states import is_live

# Waits for what takes seconds on an idle machine.
PATIENCE = 300
_ONCE = "set -e\n[ -e ../failed ] || { touch ../failed; echo 'ValueError: the first time'; exit 3; }\n"


class AllMadeError(Exception):
    """All targets are made: no job is left that something could happen to."""


@dataclass
class Soak:
    """An experiment that the same command is started for, again and again. `queued`: most jobs in the queue."""

    experiment: ExperimentFolder
    work: Work
    queued: int
    cluster: OwnCluster
    random: Random
    starts: list[Run] = field(default_factory=list)
    fails_once: str = ""

    @property
    def main(self) -> Run:
        """The main process that was started last."""
        return self.starts[-1]

    def start(self) -> None:
        """Start the command."""
        queued = ("--slurm-attached-max-queued", str(self.queued))
        self.starts.append(Run(self.experiment.path, *AT_ONCE, *queued))

    def fail_once(self) -> None:
        """Have an evaluation fail the first time."""
        self.fails_once = self.random.choice([subject for subject in self.work.records if "/" in subject])
        script = self.work.records[self.fails_once].replace(".json", ".slurm")
        self.experiment.edit(script, "set -e\n", _ONCE)

    def records(self) -> dict[str, dict[str, Any]]:
        """The records that are there, by subject."""
        return {subject: self.experiment.record(path) for subject, path in self.work.records.items() if self._has(path)}

    def _has(self, path: str) -> bool:
        return (self.experiment.path / path).exists()

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until something holds; a main process that ended by itself is started again."""

        def holds() -> bool:
            if self.main.process.returncode is not None:
                assert self.main.process.returncode in (0, 1), self.main.output
                self.start()
            return bool(condition())

        until(holds, seconds)

    def oldest(self) -> ClusterJob:
        """The job that runs the longest, of those that are to succeed, once there is one. Raises AllMadeError."""
        found: list[ClusterJob] = []
        self.until(lambda: found.extend(self._running()) or found or self._is_made())
        if not found:
            raise AllMadeError
        return min(found, key=lambda job: (job.start, job.job_id))

    def _running(self) -> list[ClusterJob]:
        # Accounting hears some seconds late of a job that was lost.
        running = set(client("squeue", "-h", "-tRUNNING", "-o%A").split())
        found = [job for job in jobs(self.experiment.path) if job.state == "RUNNING" and job.job_id in running]
        return [job for job in found if subject_of(job) != self.fails_once]

    def _is_made(self) -> bool:
        """Whether nothing is left to make but what fails once, which nothing else is to happen to."""
        return self.records().keys() >= self.work.records.keys() - {self.fails_once}

    def until_recorded(self, job: ClusterJob) -> None:
        """Wait until the record of a job is there; SLURM is not asked."""
        until(lambda: self._has(self.work.records[subject_of(job)]), PATIENCE)

    def finish(self) -> None:
        """Start the command until it has succeeded: what failed is made by the next start."""
        for _ in range(4):
            if self.main.wait(2 * PATIENCE) == 0:
                return
            self.start()
        raise AssertionError(self.main.output)

    def end(self) -> None:
        """End the main process if it still runs: its cluster is about to be removed."""
        if self.starts and self.main.process.returncode is None:
            self.main.kill()


def kill(soak: Soak) -> None:
    """The main process is killed while a job runs."""
    soak.oldest()
    soak.main.kill()
    soak.start()


def interrupt(soak: Soak) -> None:
    """Ctrl-C while a job runs."""
    soak.oldest()
    _interrupt(soak)
    soak.start()


def leave(soak: Soak) -> None:
    """Nobody follows until all jobs have ended."""
    soak.oldest()
    soak.random.choice([soak.main.kill, lambda: _interrupt(soak)])()
    until(lambda: all(job.end for job in jobs(soak.experiment.path)), PATIENCE)
    soak.start()


def lose_controller(soak: Soak) -> None:
    """slurmctld is down until a job has ended."""
    job = soak.oldest()
    with soak.cluster.without("slurmctld"):
        soak.until_recorded(job)


def lose_database(soak: Soak) -> None:
    """slurmdbd is down until a job has ended."""
    job = soak.oldest()
    with soak.cluster.without("slurmdbd"):
        soak.until_recorded(job)


def lose_node(soak: Soak) -> None:
    """A node dies with its jobs; it is back when SLURM has noticed. Its jobs, queued again, start soon."""
    job = soak.oldest()
    node = client("sacct", "-nXPj", job.job_id, "-oNodeList").strip()
    with soak.cluster.without(node, "kill"):
        until(lambda: not client("squeue", "-h", "-w", node, "-tRUNNING,COMPLETING"), PATIENCE)
    # SLURM waits two minutes with them. It has missed the ends of those that began as soon as their node was back.
    for job_id in client("squeue", "-h", "-tPENDING", "-o%i").split():
        _start_soon(job_id)


def cancel(soak: Soak) -> None:
    """A job that runs is cancelled."""
    job = soak.oldest()
    client("scancel", job.job_id)
    until(lambda: not is_live(client("sacct", "-nXPj", job.job_id, "-oState").strip()))


def _start_soon(job_id: str) -> None:
    """Have a job start in some seconds, unless it has started meanwhile."""
    command = ("scontrol", "update", f"jobid={job_id}", "starttime=now+5")
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0 or "no longer pending" in result.stderr, result.stderr


def _interrupt(soak: Soak) -> None:
    soak.main.interrupt(signal.SIGINT)
    # It may have been at its end, or only just started.
    assert soak.main.wait(PATIENCE) in (130, 0, 1, -signal.SIGINT), soak.main.output


FAULTS: dict[str, Callable[[Soak], None]] = {
    fault.__name__: fault for fault in (kill, interrupt, leave, lose_controller, lose_database, lose_node, cancel)
}


def schedule(random: Random, faults: Sequence[str], targets: int) -> list[tuple[int, str]]:
    """The faults in an order of their own, each after so many of the targets are made, within the first half."""
    moments = sorted(random.randrange(targets // 2) for _ in faults)
    return list(zip(moments, random.sample(faults, len(faults)), strict=True))
