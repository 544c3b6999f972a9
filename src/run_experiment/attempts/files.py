"""Attempts at a target, `{run}/attempts/{job id}/`: what each began with, how it ended, and what it has to tell.

A job writes `begun.json` when it starts, and `attempt.json` in its place when it fails; where it could not, the first
stays. Who follows jobs on a cluster adds `slurm.json`, SLURM's own verdict. A job that succeeds removes the folder.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.actionlog.entry import Action
from run_experiment.common import paths
from run_experiment.common.json_files import Config, read_record, write_record

BEGUN, ENDED, SLURM, LOG = "begun.json", "attempt.json", "slurm.json", "job.log"


class Failure(enum.StrEnum):
    """Why an attempt did not make its target: the next one may go on, has to be smaller, or would fail as well."""

    INTERRUPTED = "interrupted"
    OUT_OF_MEMORY = "out of memory"
    ERROR = "error"


# SLURM's states of jobs that were cut, whatever they themselves left.
_BY_STATE = {
    "OUT_OF_MEMORY": Failure.OUT_OF_MEMORY,
    **dict.fromkeys(("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT"), Failure.INTERRUPTED),
}


@dataclass(frozen=True)
class Notice:
    """What a job has to tell in the action log: it does not write there itself. `time` is ISO, with offset."""

    time: str
    action: Action
    details: str
    result: str


@dataclass(frozen=True)
class EarlierAttempt:
    """An attempt that is over and made nothing; `begun` is what it said when it began."""

    folder: Path
    job_id: str
    config: Config
    started: str
    begun: Mapping[str, Any]
    failure: Failure
    error: str


def earlier_attempts(run: str, target: str) -> list[EarlierAttempt]:
    """Attempts at a target of a run (`finetune`, or an evaluation's cell), newest first, in the experiment folder.

    One that is still at work is among them: who asks has to hold the lock that keeps others away.
    """
    folders = {path.parent for name in (BEGUN, ENDED) for path in Path(paths.attempts(run)).glob(f"*/{name}")}
    found = [attempt for folder in folders if (attempt := _attempt(folder, target))]
    return sorted(found, key=lambda one: (_moment(one), number_of(one.folder)), reverse=True)


def _moment(attempt: EarlierAttempt) -> float:
    """When an attempt began, in seconds: its text says no fractions, nor goes on when clocks go back."""
    with suppress(TypeError, ValueError):
        return float(attempt.begun.get("clock") or datetime.fromisoformat(attempt.started).timestamp())
    return 0.0


def is_since(moment: Any, since: str) -> bool:
    """Whether an ISO time is not before another one; any is since an empty one, what is no time since none else."""
    try:
        return not since or datetime.fromisoformat(str(moment)) >= datetime.fromisoformat(since)
    # It is none, or one without an offset.
    except (ValueError, TypeError):
        return False


def _attempt(folder: Path, target: str) -> EarlierAttempt | None:
    begun, ended = read_record(folder / BEGUN), read_record(folder / ENDED)
    known = ended or begun
    if known is None or known.get("target") != target or not isinstance(known.get("config"), dict):
        return None
    slurm = read_record(folder / SLURM) or {}
    return EarlierAttempt(
        folder=folder,
        job_id=str(known.get("job_id")),
        config=known["config"],
        started=str(known.get("started")),
        begun=known,
        failure=_failure(folder, ended, slurm),
        error=str((ended or slurm).get("error") or "it was cut off"),
    )


def _failure(folder: Path, ended: Mapping[str, Any] | None, slurm: Mapping[str, Any]) -> Failure:
    by_state, own = _BY_STATE.get(str(slurm.get("state"))), _own_failure(ended)
    # SLURM says so of a whole job, in which an earlier try may have been the one: then the last one knows better.
    if by_state is Failure.OUT_OF_MEMORY and ended and _another_ran_out_of_memory(folder):
        return own
    return by_state or own


def _another_ran_out_of_memory(folder: Path) -> bool:
    """Whether another attempt of the same job says that it ran out of memory."""
    job_id = folder.name.partition(".")[0]
    others = [other for other in _numbered(folder.parent, job_id) if other != folder]
    return any(_own_failure(read_record(other / ENDED)) is Failure.OUT_OF_MEMORY for other in others)


def _own_failure(ended: Mapping[str, Any] | None) -> Failure:
    if ended is None:
        return Failure.INTERRUPTED
    try:
        return Failure(str(ended.get("failure")))
    except ValueError:
        return Failure.ERROR


def note_slurm_end(folder: Path, submission_target: str, job_id: str, state: str, error: str) -> None:
    """Keep SLURM's verdict on a job of an experiment with its attempt: a job that was killed wrote none.

    `submission_target` is the record that the job was to make. Raises OSError.
    """
    run, target = paths.target_of(submission_target)
    attempt = newest(folder, run, job_id) or folder / paths.attempts(run) / job_id
    facts = {"target": target, "job_id": job_id, "state": state, "error": error}
    write_record(attempt / SLURM, {**facts, "ended": datetime.now().astimezone().isoformat(timespec="seconds")})


def newest(folder: Path, run: str, job_id: str) -> Path | None:
    """Folder of a job's last attempt in an experiment; None where there is none."""
    return next(reversed(folders_of(folder, run, job_id)), None)


def notices(folder: Path, submission_target: str, job_id: str) -> list[Notice]:
    """What a job had to tell so far, in order, once each: one that ended, or is still at work.

    A job that SLURM started again, or that tried again by itself, has several attempts.
    """
    run, _ = paths.target_of(submission_target)
    records = [read_record(path / ENDED) or read_record(path / BEGUN) or {} for path in folders_of(folder, run, job_id)]
    record = read_record(folder / submission_target) or {}
    if job_id in (record.get("job_id"), record.get("restored_by")):
        records.append(record)
    events = [event for one in records for event in one.get("events") or []]
    return list(dict.fromkeys(notice for event in events if (notice := _notice(event))))


def folders_of(folder: Path, run: str, job_id: str) -> list[Path]:
    """Folders of a job's attempts, in order."""
    return _numbered(folder / paths.attempts(run), job_id)


def _numbered(attempts: Path, job_id: str) -> list[Path]:
    # `17`, `17.2`, …: not those of job 170, nor `17.artifacts`.
    own = [path for path in attempts.glob(f"{job_id}*") if re.fullmatch(rf"{re.escape(job_id)}(\.\d+)?", path.name)]
    return sorted(own, key=number_of)


def number_of(folder: Path) -> int:
    """Number of an attempt among those of its job: 2 of `17.2`, 1 of `17`."""
    number = folder.name.rpartition(".")[2]
    return int(number) if "." in folder.name and number.isdecimal() else 1


def _notice(event: Any) -> Notice | None:
    try:
        return Notice(str(event["time"]), Action(event["action"]), str(event["details"]), str(event["result"]))
    # Of another version, or edited.
    except (KeyError, TypeError, ValueError):
        return None
