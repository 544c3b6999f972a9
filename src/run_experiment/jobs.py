"""What a job does besides running its script: checks before and after, and the record that says what was made.

A job is told what was planned; it reads no summary, which may have been edited since.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from run_experiment.attempts import Failure
from run_experiment.data import DataError, file_hash, split_hash
from run_experiment.gpu_metrics import summarize
from run_experiment.processes import last_lines
from run_experiment.records import Config, canonical, config_hash, write_atomically
from run_experiment.rendered import parse


class JobError(Exception):
    """A job failed; the message says why, for the user, and `failure` whether another try can mend it."""

    def __init__(self, message: str, failure: Failure = Failure.ERROR) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True)
class Job:
    """What a job is told: its run, what determines its result, and fingerprints of its script and configs by path.

    `target` is the record that it makes, `name` its name on the cluster, `script` its job script, which runs in
    `folder`. All paths are relative to the experiment's folder. `retries` is how many more times it is tried where that
    can mend a failure. With `redo`, an ISO time, nothing is used that was made before.
    """

    run: str
    config: dict[str, Any]
    files: dict[str, str]
    target: str = field(kw_only=True)
    name: str = field(kw_only=True)
    script: str = field(kw_only=True)
    folder: str = field(kw_only=True, default=".")
    retries: int = field(kw_only=True, default=3)
    redo: str = field(kw_only=True, default="")

    @property
    def subject(self) -> str:
        """What the job makes, for the user."""
        return self.run

    @property
    def task_files(self) -> list[Path]:
        """Files of the user's code that it runs, first the one that is called."""
        return []

    @property
    def seeds(self) -> dict[str, int]:
        """Seeds that its result depends on, by what draws from them."""
        return {}

    @property
    def config_hash(self) -> str:
        """Hash of the configuration, as the job's record will have it; the job's file has it under this name."""
        return config_hash(self.config)

    @classmethod
    def read(cls, path: str) -> Self:
        """Read what the main process wrote. Raises ValueError."""
        try:
            facts = json.loads(Path(path).read_text(encoding="utf-8"))
            facts.pop("config_hash", None)
            return cls(**facts)
        except (OSError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def write(self, folder: Path) -> Path:
        """Write the job to a file named by its content, which therefore never changes; returns its path."""
        text = canonical({**asdict(self), "config_hash": self.config_hash})
        path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        if not path.exists():
            write_atomically(path, text)
        return path


def require_unchanged(data: Path, split: str | None, sha256: str) -> None:
    """Data must be what was planned with: it may have changed while the job was in the queue. Raises JobError."""
    try:
        found = split_hash(data, split) if split else file_hash(data)
    except DataError as error:
        raise JobError(str(error)) from error
    if found != sha256:
        what = f"split {split} of {data}" if split else str(data)
        raise JobError(f"{what} changed since this job was planned; start again")


def require_data_set(config: Config, script: str, data: str | None) -> None:
    """Task and data must be what a data set's cache is named by. Raises JobError."""
    require_unchanged(Path(script), None, config["script"]["sha256"])
    for name, facts in config["imports"].items():
        require_unchanged(Path(script).parent / name, None, facts["sha256"])
    if data and config["data"]:
        require_unchanged(Path(data), **config["data"])


def require_as_planned(job: Job) -> None:
    """Job scripts and configs must be as they were planned with, rendered or somebody's own. Raises JobError."""
    for path, planned in job.files.items():
        try:
            found = parse(Path(path).read_text(encoding="utf-8")).fingerprint
        except OSError as error:
            raise JobError(f"cannot read {path}: {error.strerror}") from error
        if found != planned:
            raise JobError(f"{path} was changed since this job was planned; start again")


def gpu_facts(samples: Path) -> dict[str, Any]:
    """What a record says of the GPUs; empty where nothing was sampled."""
    try:
        return {"gpu": asdict(summarize(samples))}
    except OSError:
        return {}


def failure(what: str, log: Path) -> str:
    """What failed, where to read on, and the last lines of the log."""
    return "\n".join([f"{what}; its log is {log.absolute()}", *(f"    {line}" for line in last_lines(log))])


def now() -> datetime:
    """Local time, with its offset."""
    return datetime.now().astimezone()


def unused(folder: Path) -> Path:
    """The folder, or the first of `folder.2`, `folder.3`, … that is not there: local job ids come again."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}.{number}")
    return free


def make_unused(folder: Path) -> Path:
    """Make such a folder; another process may be about to make the same one."""
    while True:
        with suppress(FileExistsError):
            (free := unused(folder)).mkdir(parents=True)
            return free


def stamp(moment: datetime) -> str:
    """A time as records have it."""
    return moment.isoformat(timespec="seconds")
