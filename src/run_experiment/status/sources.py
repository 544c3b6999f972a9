"""What became of jobs, as SLURM, processes and file times say. Nothing is written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from run_experiment.machine.processes import last_lines
from run_experiment.slurm import clients
from run_experiment.slurm.clients import AccountedJob, QueuedJob, SlurmError
from run_experiment.slurm.ledger import Submission

# How far the clocks of two machines may be apart.
CLOCKS = timedelta(seconds=2)
_NO_SLURM = "SLURM cannot be reached from here: job states are the last known ones, from the ledger and records"


@dataclass(frozen=True)
class Answer:
    """What SLURM said: by id jobs of accounting (`sacct`) or of the queue (`squeue`); `source` is None if nothing."""

    source: str | None = None
    accounted: Mapping[str, AccountedJob] = field(default_factory=dict)
    queued: Mapping[str, QueuedJob] = field(default_factory=dict)
    note: str | None = None


def complaint(folder: Path, log: str, since: datetime | None) -> str | None:
    """The last line that a step of the main process left in its log, if that is younger than `since`."""
    path = folder / log
    written = written_at(path)
    if written is None or (since is not None and written < since - CLOCKS):
        return None
    return next(iter(last_lines(path, 1)), None)


def traceback_end(log: Path) -> str | None:
    """The last line of a log that has a traceback: what was raised."""
    lines = last_lines(log, 1000)
    return lines[-1] if any(line.startswith("Traceback (most recent call last)") for line in lines) else None


def first_line(text: str) -> str:
    """The first line of a text."""
    return text.partition("\n")[0].strip()


def now() -> datetime:
    """Local time, with its offset."""
    return datetime.now().astimezone()


def ask(submissions: Iterable[Submission]) -> Answer:
    """Ask accounting once for all jobs, or the queue if it does not answer."""
    job_ids = [one.job_id for one in submissions if one.job_id and re.fullmatch("[0-9]+", one.job_id)]
    if not job_ids:
        return Answer()
    try:
        accounted = clients.accounting(job_ids, timeout=20)
        if accounted:
            return Answer("sacct", accounted=accounted)
    except SlurmError:
        # The queue may answer even if accounting does not; its error is reported if it does not either.
        pass
    return _ask_queue()


def _ask_queue() -> Answer:
    try:
        return Answer("squeue", queued={job.job_id: job for job in clients.queue(timeout=20)})
    except SlurmError as error:
        why = "" if "not on the PATH" in str(error) else f" ({first_line(str(error))})"
        return Answer(note=f"{_NO_SLURM}{why}")


def process_start(pid: int) -> datetime | None:
    """When a process of this machine started."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, IndexError, ValueError):
        return None
    return datetime.fromtimestamp(int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK")).astimezone() if boot else None


def aware(moment: datetime | None) -> datetime | None:
    """A local time with its offset."""
    return moment.astimezone() if moment else None


def written_at(path: Path) -> datetime | None:
    """When a file was last written to; None if there is none."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    except OSError:
        return None
