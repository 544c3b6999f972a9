"""An experiment in progress, and what can happen to it: its main process ends, daemons go down, jobs are lost.

Each fault waits for events, not for seconds, and leaves the main process and the cluster running.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cluster_runs import AT_ONCE, ClusterJob, Run, client, jobs, until
from experiments import ExperimentFolder
from log_checks import subject_of
from own_cluster import OwnCluster
from sleeping_experiment import Work, fail_once

from run_experiment.slurm.job_ids import slurm_id, submitted_id
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.states import is_live

# Waits for what takes seconds on an idle machine.
PATIENCE = 300
# A main process is killed at the latest after so many seconds, or after so many lines of its ledger.
_LONGEST_LIFE, _MOST_LINES = 12, 12


class AllMadeError(Exception):
    """All targets are made: no job is left that something could happen to."""


@dataclass
class Soak:
    """An experiment that the same command, with these `arguments` and settings, is started for, again and again."""

    experiment: ExperimentFolder
    work: Work
    arguments: Sequence[str]
    settings: Sequence[str]
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
        self.starts.append(Run(self.experiment.path, *AT_ONCE, *self.arguments, config=self.settings))

    def fail_once(self) -> None:
        """Have an evaluation fail the first time."""
        self.fails_once = self.random.choice([subject for subject in self.work.records if "/" in subject])
        fail_once(self.experiment, self.work.records[self.fails_once])

    def records(self) -> dict[str, dict[str, Any]]:
        """The records that are there, by subject."""
        return {subject: self.experiment.record(path) for subject, path in self.work.records.items() if self._has(path)}

    def noted(self) -> int:
        """Lines of the ledger, each from before or after something that lasts."""
        ledger = self.experiment.path / LEDGER
        return ledger.read_bytes().count(b"\n") if ledger.exists() else 0

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
        """Jobs that run, by what they have not made yet."""
        # Accounting hears some seconds late of a job that was lost.
        running = set(client("squeue", "-h", "-tRUNNING", "-o%i").split())
        found = [job for job in jobs(self.experiment.path) if job.state == "RUNNING"]
        spared = {slurm_id(job.job_id) for job in found if subject_of(job) == self.fails_once}
        unmade = self.work.records.keys() - self.records().keys()
        return [job for job in found if slurm_id(job.job_id) in running - spared and subject_of(job) in unmade]

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
    """The main process is killed at any moment, often while it submits or notes an end."""
    end = time.monotonic() + soak.random.uniform(0, _LONGEST_LIFE)
    lines = soak.noted() + soak.random.randint(1, _MOST_LINES)
    while time.monotonic() < end and soak.noted() < lines:
        time.sleep(0.01)
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
    node = client("sacct", "-nXPj", slurm_id(job.job_id), "-oNodeList").strip()
    with soak.cluster.without(node, "kill"):
        until(lambda: not client("squeue", "-h", "-w", node, "-tRUNNING,COMPLETING"), PATIENCE)
    _start_soon()


def requeue(soak: Soak) -> None:
    """A job that runs is queued again, by hand; it starts soon."""
    job_id = slurm_id(soak.oldest().job_id)
    result = subprocess.run(["scontrol", "requeue", job_id], capture_output=True, text=True, timeout=60, check=False)
    # It may have ended meanwhile.
    assert result.returncode == 0 or "completing or completed" in result.stderr, result.stderr
    until(lambda: not client("squeue", "-h", "-j", job_id, "-tRUNNING,COMPLETING"), PATIENCE)
    _start_soon()


def cancel(soak: Soak) -> None:
    """A job that runs is cancelled, or all of the array that it is of."""
    job_id = slurm_id(soak.oldest().job_id)
    client("scancel", soak.random.choice([job_id, submitted_id(job_id)]))
    until(lambda: not is_live(client("sacct", "-nXPj", job_id, "-oState").strip()))


def _start_soon() -> None:
    """Have all jobs that wait start as soon as they can.

    SLURM waits two minutes with those that are queued again. It has missed the ends of those that began as soon as
    their node was back.
    """
    for job_id in client("squeue", "-hr", "-tPENDING", "-o%i").split():
        command = ("scontrol", "update", f"jobid={job_id}", "starttime=now+5")
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0 or "no longer pending" in result.stderr, result.stderr


def _interrupt(soak: Soak) -> None:
    soak.main.interrupt(signal.SIGINT)
    # It may have been at its end, or only just started.
    assert soak.main.wait(PATIENCE) in (130, 0, 1, -signal.SIGINT), soak.main.output


FAULTS: dict[str, Callable[[Soak], None]] = {
    fault.__name__: fault
    for fault in (kill, interrupt, leave, lose_controller, lose_database, lose_node, requeue, cancel)
}


def schedule(random: Random, faults: Sequence[str], targets: int) -> list[tuple[int, str]]:
    """The faults in an order of their own, each after so many of the targets are made, within the first half."""
    moments = sorted(random.randrange(targets // 2) for _ in faults)
    return list(zip(moments, random.sample(faults, len(faults)), strict=True))
