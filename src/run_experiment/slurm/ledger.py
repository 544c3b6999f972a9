"""The ledger: which job was submitted for which target, kept so that no crash can lose a job."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.common.clock import moment_of

PATH = ".snakemake/run-experiment/ledger.jsonl"

_INTENDED, _ACCEPTED, _SETTLED = "intended", "accepted", "settled"
_LOGGED, _ACCOUNTED = "logged", "accounted"
_TEXTS = ("target", "config_hash", "name", "comment", "time")


@dataclass(frozen=True)
class Submission:
    """A job that was, or may have been, submitted for a target; `time` is ISO, local with offset.

    Without a job id it was intended: whether SLURM accepted it has to be asked, by name and comment.
    """

    target: str
    config_hash: str
    name: str
    comment: str
    uid: int
    time: str
    job_id: str | None = None


@dataclass(frozen=True)
class Settled:
    """A job whose end was noted, and when; its state is SLURM's, or LOST, its hash None if it is not known."""

    job_id: str
    state: str
    time: datetime
    config_hash: str | None


@dataclass(frozen=True)
class Logged:
    """What the action logs have of a job: its last state, and its last start if accounting had one."""

    state: str = "PENDING"
    started: datetime | None = None


@dataclass(frozen=True)
class Noted:
    """By target, the last submission that is not settled, and the last job whose end was noted.

    `accepted` numbers the jobs that SLURM accepted, in their order.
    """

    open: Mapping[str, Submission]
    settled: Mapping[str, Settled]
    accepted: Mapping[str, int] = field(default_factory=dict)


class Ledger:
    """A file of one JSON object a line, each on the disk before its method returns; all methods raise OSError.

    Lines that are torn are passed over. Several threads and processes may append at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def intend(self, submission: Submission) -> None:
        """Note, before sbatch is called, that it will be."""
        self._append({"event": _INTENDED, **asdict(replace(submission, job_id=None))})

    def accepted(self, submission: Submission, job_id: str) -> None:
        """Note the id of the job that SLURM accepted; also of one found in the queue."""
        self._append({"event": _ACCEPTED, **asdict(replace(submission, job_id=job_id))})

    def settled(self, target: str, job_id: str, state: str) -> None:
        """Note that the end of a job was taken notice of.

        State is SLURM's, or LOST. An empty id settles what was intended and found to have never been accepted.
        """
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._append({"event": _SETTLED, "target": target, "job_id": job_id, "state": state, "time": now})

    def logged(self, job_id: str, state: str, started: datetime | None) -> None:
        """Note that the action logs have a job's new state; `started` is SLURM's time if it is a start."""
        time = started.isoformat(timespec="seconds") if started else None
        self._append({"event": _LOGGED, "job_id": job_id, "state": state, "started": time})

    def accounted(self, job_id: str) -> None:
        """Note that the action logs have a job's end and its figures: nothing more is written about it."""
        self._append({"event": _ACCOUNTED, "job_id": job_id})

    def last_logged(self) -> dict[str, Logged]:
        """What the action logs have of jobs, by id: of the last one that had an id, if SLURM gave it again."""
        found: dict[str, Logged] = {}
        targets: dict[str, str] = {}
        for entry in self._entries():
            job_id, state = entry.get("job_id"), entry.get("state")
            submission = _submission(entry)
            if submission and isinstance(job_id, str) and targets.get(job_id) != submission.target:
                targets[job_id] = submission.target
                found.pop(job_id, None)
            if entry.get("event") == _LOGGED and isinstance(job_id, str) and isinstance(state, str):
                started = moment_of(entry.get("started")) or found.get(job_id, Logged()).started
                found[job_id] = Logged(state, started)
        return found

    def unlogged(self) -> list[Submission]:
        """Jobs whose end was noted, while the action logs lack it or its figures."""
        accepted: dict[str, Submission] = {}
        settled: set[str] = set()
        for entry in self._entries():
            job_id, submission = entry.get("job_id"), _submission(entry)
            if not isinstance(job_id, str):
                continue
            if submission:
                accepted[job_id] = submission
                # It was in the queue all the same.
                settled.discard(job_id)
            elif entry.get("event") == _SETTLED:
                settled.add(job_id)
            elif entry.get("event") == _ACCOUNTED:
                accepted.pop(job_id, None)
        return [submission for job_id, submission in accepted.items() if job_id in settled]

    def read(self, target: str | None = None) -> Noted:
        """What is noted of all targets, or of one, for which only its lines are parsed."""
        entries = list(self._entries(target))
        unsettled = {target: submissions[-1] for target, submissions in _unsettled(entries).items()}
        jobs = (entry.get("job_id") for entry in entries if entry.get("event") == _ACCEPTED)
        accepted = {job_id: number for number, job_id in enumerate(jobs) if isinstance(job_id, str)}
        return Noted(unsettled, _settled_jobs(entries), accepted)

    def other_jobs(self, submission: Submission) -> set[str]:
        """Ids of jobs that a submission of unknown id did not bring: noted for its target, or of another comment."""
        target, comment = submission.target, submission.comment
        noted = filter(None, map(_submission, self._entries()))
        return {one.job_id for one in noted if one.job_id and (one.target == target or one.comment != comment)}

    def open(self) -> dict[str, Submission]:
        """By target, the last submission that is not settled."""
        return {target: submissions[-1] for target, submissions in self._unsettled().items()}

    def _unsettled(self) -> dict[str, list[Submission]]:
        """By target, what is not settled, in the order of the file."""
        return _unsettled(self._entries())

    def _entries(self, target: str | None = None) -> Iterator[dict[str, Any]]:
        about = json.dumps(target).encode("ascii") if target else b""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines:
            if about not in line:
                continue
            # Torn, or too deep to be one of ours.
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    yield entry

    def _append(self, entry: dict[str, Any]) -> None:
        """Write a line at once and to the disk. Raises OSError if not all of it could be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # ASCII: any text that Python holds can be written, and a torn line cannot end within a character.
        line = json.dumps(entry).encode("ascii") + b"\n"
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # Some shared file systems know no locks, and others append safely only under one.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            line = line if _ends_in_newline(file) else b"\n" + line
            if os.write(file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(file)
        finally:
            os.close(file)
        _sync_folder(self._path.parent)


def accepted_jobs(folder: Path) -> Mapping[str, int]:
    """Numbers of an experiment's jobs in the order in which SLURM accepted them; none if the ledger is unreadable."""
    with suppress(OSError):
        return Ledger(folder / PATH).read().accepted
    return {}


def _unsettled(entries: Iterable[dict[str, Any]]) -> dict[str, list[Submission]]:
    found: dict[str, list[Submission]] = {}
    for entry in entries:
        _apply(entry, found)
    return {target: submissions for target, submissions in found.items() if submissions}


def _settled_jobs(entries: Iterable[dict[str, Any]]) -> dict[str, Settled]:
    """By target, the last job whose end was noted."""
    hashes: dict[str, str] = {}
    found: dict[str, Settled] = {}
    for entry in entries:
        target, job_id, submission = entry.get("target"), entry.get("job_id"), _submission(entry)
        if not isinstance(target, str) or not isinstance(job_id, str) or not job_id:
            continue
        if submission:
            hashes[job_id] = submission.config_hash
        elif entry.get("event") == _SETTLED and (time := moment_of(entry.get("time"))):
            found[target] = Settled(job_id, str(entry.get("state")), time, hashes.get(job_id))
    return found


def _apply(entry: dict[str, Any], found: dict[str, list[Submission]]) -> None:
    """Bring what is not settled up to date with a line; a line of another form changes nothing."""
    if entry.get("event") == _SETTLED:
        target, job_id = entry.get("target"), entry.get("job_id")
        if isinstance(target, str) and target in found:
            found[target] = [one for one in found[target] if (one.job_id or "") != job_id]
        return
    submission = _submission(entry)
    if submission is None:
        return
    same = (submission, replace(submission, job_id=None))
    found[submission.target] = [one for one in found.get(submission.target, []) if one not in same] + [submission]


def _submission(entry: dict[str, Any]) -> Submission | None:
    if entry.get("event") not in (_INTENDED, _ACCEPTED):
        return None
    values: dict[str, Any] = {field.name: entry.get(field.name) for field in fields(Submission)}
    job_id, uid, texts = values["job_id"], values["uid"], [values[name] for name in _TEXTS]
    if not all(isinstance(text, str) for text in texts) or not isinstance(uid, int):
        return None
    if not isinstance(job_id, str) and (job_id is not None or entry["event"] == _ACCEPTED):
        return None
    return Submission(**values)


def _ends_in_newline(file: int) -> bool:
    """Whether a file is empty or its last line is whole."""
    size = os.fstat(file).st_size
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"


def _sync_folder(folder: Path) -> None:
    """Bring a new file's name to the disk, too; some file systems cannot, and do it by themselves."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
