"""What SLURM, processes and file times say about jobs. Nothing is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from run_experiment.actionlog.entry import Action, Log
from run_experiment.slurm import clients
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.errors import SlurmError
from run_experiment.slurm.job_ids import is_of_slurm
from run_experiment.slurm.ledger import Submission
from run_experiment.slurm.states import is_waiting

_ACTION = re.compile(r"\[[^]]*\] (\w+)")
# Once one of these is written, the queue is not full any more.
_SUBMISSIONS = (Action.DISCOVER_EXPERIMENT, Action.SUBMIT_JOB, Action.SUBMIT_EVAL, Action.MONITOR_DETACHED)
_NO_SLURM = "SLURM cannot be reached from here: job states are the last known ones, from the ledger and records"


@dataclass(frozen=True)
class Answer:
    """SLURM's answer: jobs by id, from accounting (`sacct`) or the queue (`squeue`); `source` None if none answered.

    Beside accounting the queue was asked only if jobs wait.
    """

    source: str | None = None
    accounted: Mapping[str, AccountedJob] = field(default_factory=dict)
    queued: Mapping[str, QueuedJob] = field(default_factory=dict)
    note: str | None = None


def first_line(text: str) -> str:
    """The first line of a text."""
    return text.partition("\n")[0].strip()


def ask(submissions: Iterable[Submission]) -> Answer:
    """Ask accounting once for all jobs; the queue if it does not answer, or for the reasons of jobs that wait."""
    job_ids = [one.job_id for one in submissions if one.job_id and is_of_slurm(one.job_id)]
    if not job_ids:
        return Answer()
    try:
        accounted = clients.accounting(job_ids, timeout=20)
        if accounted:
            waits = any(is_waiting(job.state) for job in accounted.values())
            return Answer("sacct", accounted, _ask_queue().queued if waits else {})
    except SlurmError:
        # The queue may answer even if accounting does not; if it fails too, its error is reported.
        pass
    return _ask_queue()


def _ask_queue() -> Answer:
    try:
        return Answer("squeue", queued={job.job_id: job for job in clients.queue(timeout=20)})
    except SlurmError as error:
        why = "" if "not on the PATH" in str(error) else f" ({first_line(str(error))})"
        return Answer(note=f"{_NO_SLURM}{why}")


def full_queue(folder: Path) -> str | None:
    """What the main process waits for if others' jobs fill the queue, as the action logs have it."""
    for log in Log:
        for entry in reversed(_last_text(folder / log.file).split("\n\n")):
            action = _ACTION.match(entry)
            if action and action[1] == Action.QUEUE_FULL:
                return next((line[8:] for line in entry.splitlines() if line.startswith("Result: ")), None)
            if action and action[1] in _SUBMISSIONS:
                break
    return None


def _last_text(path: Path, most: int = 65_536) -> str:
    """The end of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def aware(moment: datetime | None) -> datetime | None:
    """The time with its UTC offset; naive times are local."""
    return moment.astimezone() if moment else None
