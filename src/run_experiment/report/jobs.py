"""Every job of an experiment as the action logs have it: when it waited and ran, how it ended, what it used."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pandas as pd

from run_experiment.actionlog.entry import Action
from run_experiment.slurm.states import is_live, is_waiting, succeeded

_CLOCK = r"(?:\d+-)?\d+:\d\d:\d\d"
_WALL = re.compile(rf"wall time ({_CLOCK})(?: of ({_CLOCK}))?")
_CPU = re.compile(r"CPU (\d+)% of (\d+) core")
_MEMORY = re.compile(r"(?<!peak )memory ([\d.]+) (?:of ([\d.]+) )?GB")
_GPU = re.compile(r"(?:(\d+) )?GPUs? mean (\d+)%.*?peak memory ([\d.]+) of ([\d.]+) GB")
_GPUS = re.compile(r"no samples of (\d+) GPU")
_AT = re.compile(r"(?:started|finished|ended)\b.*? at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_SUBMISSIONS = (Action.SUBMIT_JOB, Action.SUBMIT_EVAL)
# What is suggested is this much more than was ever used.
_TIME_MARGIN, _MEMORY_MARGIN = 1.5, 1.25


@dataclass(frozen=True)
class JobRow:
    """A job; times are local, memory in GB (GiB, as the log has it), None if unknown.

    `outcome` is `in the results`, `failed`, `replaced` (it succeeded, but a later job made the result), or `not ended`.
    """

    subject: str
    kind: str
    job_id: str
    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    state: str = "PENDING"
    outcome: str = "not ended"
    wall_seconds: int | None = None
    limit_seconds: int | None = None
    cpus: int | None = None
    cpu_percent: int | None = None
    memory_gb: float | None = None
    requested_gb: float | None = None
    gpus: int | None = None
    gpu_percent: int | None = None
    gpu_memory_gb: float | None = None
    gpu_total_gb: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds that it ran, by accounting, else by the log."""
        if self.wall_seconds is not None or not self.started or not self.ended:
            return self.wall_seconds
        return max(0.0, (self.ended - self.started).total_seconds())

    @property
    def gpu_hours(self) -> float | None:
        """Hours times GPUs; None if either is unknown."""
        seconds = self.seconds
        return None if seconds is None or self.gpus is None else self.gpus * seconds / 3600


def job_rows(log: pd.DataFrame, in_results: Mapping[str, str | None], gpus: Mapping[str, int]) -> list[JobRow]:
    """The jobs in action logs, in the order of their submission.

    `in_results` has the job that made each result of today, `gpus` the GPUs of a subject's jobs, as far as known.
    """
    rows = _rows(log)
    made = _places_of_made(rows, in_results)
    return [
        replace(
            row,
            outcome="in the results" if place in made else _outcome(row),
            gpus=gpus.get(row.subject) if row.gpus is None else row.gpus,
        )
        for place, row in enumerate(rows)
    ]


def _rows(log: pd.DataFrame) -> list[JobRow]:
    """The jobs as the log alone has them."""
    rows: list[JobRow] = []
    places: dict[tuple[str, str], int] = {}
    for entry in log.to_dict("records"):
        if entry["job_id"] and entry["subject"]:
            subject, job_id = key = (str(entry["subject"]), str(entry["job_id"]))
            # Every session numbers the jobs that it runs on this machine anew.
            if key not in places or (entry["action"] in _SUBMISSIONS and rows[places[key]].submitted):
                places[key] = len(rows)
                rows.append(JobRow(subject, "evaluation" if "/" in subject else "training", job_id))
            rows[places[key]] = _with(rows[places[key]], entry)
    return rows


def _places_of_made(rows: Sequence[JobRow], in_results: Mapping[str, str | None]) -> set[int]:
    """Places of the jobs that made today's results: of several with the same id, the last that succeeded."""
    found: dict[str, int] = {}
    for place, row in enumerate(rows):
        is_named = in_results.get(row.subject) == row.job_id
        if is_named and (row.subject not in found or succeeded(row.state)):
            found[row.subject] = place
    return set(found.values())


def _with(row: JobRow, entry: Mapping[Any, Any]) -> JobRow:
    """The job after one more entry."""
    details, result = str(entry["details"] or ""), str(entry["result"] or "")
    time = None if pd.isna(entry["time"]) else entry["time"].to_pydatetime()
    if entry["action"] in _SUBMISSIONS:
        return replace(row, submitted=row.submitted or time)
    if entry["action"] == Action.COMPUTE_METRICS:
        return replace(row, **used(details))
    if entry["action"] != Action.STATE_CHANGE:
        return row
    state = details.rpartition("→")[2].strip().partition(" ")[0]
    said = _AT.search(result.partition("\n")[0])
    at = datetime.fromisoformat(said[1]) if said else time
    if is_waiting(state):
        return replace(row, state=state)
    if is_live(state):
        return replace(row, state=state, started=at)
    return replace(row, state=state, ended=at)


def used(text: str) -> dict[str, Any]:
    """What a job used, from the text of its COMPUTE_METRICS entry; what is unknown is left out."""
    found: dict[str, Any] = {}
    if wall := _WALL.search(text):
        found |= {"wall_seconds": _seconds(wall[1]), "limit_seconds": wall[2] and _seconds(wall[2])}
    if cpu := _CPU.search(text):
        found |= {"cpu_percent": int(cpu[1]), "cpus": int(cpu[2])}
    if memory := _MEMORY.search(text):
        found |= {"memory_gb": float(memory[1]), "requested_gb": float(memory[2]) if memory[2] else None}
    if gpu := _GPU.search(text):
        found |= {"gpus": int(gpu[1] or 1), "gpu_percent": int(gpu[2])}
        found |= {"gpu_memory_gb": float(gpu[3]), "gpu_total_gb": float(gpu[4])}
    elif gpus := _GPUS.search(text):
        found |= {"gpus": int(gpus[1])}
    return found


def totals(rows: Iterable[JobRow]) -> dict[str, Any]:
    """Hours and GPU-hours of jobs by outcome, how many jobs each is of, and of how many the GPUs are unknown."""
    table: dict[str, dict[str, float]] = {}
    unknown = 0
    for row in rows:
        known = table.setdefault(row.outcome, {"jobs": 0, "hours": 0.0, "gpu_hours": 0.0})
        known["jobs"] += 1
        known["hours"] += (row.seconds or 0) / 3600
        known["gpu_hours"] += row.gpu_hours or 0.0
        unknown += row.gpus is None
    return {"by_outcome": table, "without_gpu_figures": unknown}


def requests(rows: Iterable[JobRow]) -> list[dict[str, Any]]:
    """By kind of job: what was asked for and what the largest job used, with the next request suggested."""
    ended = [row for row in rows if succeeded(row.state)]
    return [found for kind in ("training", "evaluation") if (found := _request(kind, ended))]


def _request(kind: str, rows: list[JobRow]) -> dict[str, Any]:
    of_kind = [row for row in rows if row.kind == kind]
    timed = [row for row in of_kind if row.limit_seconds and row.wall_seconds is not None]
    weighed = [row for row in of_kind if row.requested_gb and row.memory_gb is not None]
    found: dict[str, Any] = {}
    if timed:
        longest = max(row.wall_seconds or 0 for row in timed)
        found |= {"seconds": longest, "limit_seconds": max(row.limit_seconds or 0 for row in timed)}
        found["suggested_seconds"] = max(300, math.ceil(longest * _TIME_MARGIN / 300) * 300)
    if weighed:
        largest = max(row.memory_gb or 0 for row in weighed)
        found |= {"memory_gb": largest, "requested_gb": max(row.requested_gb or 0 for row in weighed)}
        found["suggested_gb"] = max(1, math.ceil(largest * _MEMORY_MARGIN))
    return {"kind": kind, "jobs": len(of_kind), **found} if found else {}


def _outcome(row: JobRow) -> str:
    """What became of a job that made none of today's results."""
    if row.ended is None:
        return "not ended"
    return "replaced" if succeeded(row.state) else "failed"


def _seconds(clock: str) -> int:
    days, _, rest = clock.rpartition("-")
    hours, minutes, seconds = map(int, rest.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
