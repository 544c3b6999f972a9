"""What a job does besides running its script: checks before and after, and the record that says what was made.

A job is told what was planned; it reads no summary, which may have been edited since.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Self

from run_experiment import layout
from run_experiment.data import DataError, file_hash, split_hash
from run_experiment.gpu_metrics import samples_itself, sampling, summarize
from run_experiment.processes import Terminated, last_lines, locked_log, run_script
from run_experiment.records import Config, canonical, config_hash, write_atomically, write_record
from run_experiment.rendered import parse

PACKAGES = ("torch", "torchtune", "transformers", "peft", "datasets", "inspect-ai", "run-experiment")


class JobError(Exception):
    """A job failed; the message says why, for the user."""


@dataclass(frozen=True)
class Job:
    """What a job is told: its run, what determines its result, and fingerprints of its script and configs by path.

    `target` is the record that it makes, `name` its name on the cluster, `script` its job script, which runs in
    `folder`. All paths are relative to the experiment's folder.
    """

    run: str
    config: dict[str, Any]
    files: dict[str, str]
    target: str = field(kw_only=True)
    name: str = field(kw_only=True)
    script: str = field(kw_only=True)
    folder: str = field(kw_only=True, default=".")

    @property
    def subject(self) -> str:
        """What the job makes, for the user."""
        return self.run

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


@dataclass(frozen=True)
class Attempt:
    """One execution of a job: its id, its log (open, too), and the folder for what is left of it if it fails."""

    job_id: str
    log: Path
    output: BinaryIO
    folder: Path
    started: datetime
    clock: float

    def record(self, job: Job) -> dict[str, Any]:
        """What a record says of every job."""
        return {
            "experiment": os.getcwd(),
            "run": job.run,
            "job_id": self.job_id,
            "config": job.config,
            "config_hash": job.config_hash,
            "started": _stamp(self.started),
            "ended": _stamp(now()),
            "seconds": round(time.monotonic() - self.clock, 1),
            "host": socket.gethostname(),
            "versions": versions(),
            "events": [],
        }


@contextmanager
def attempt(job: Job, name: str, local_id: str, log: Path) -> Iterator[Attempt]:
    """An attempt at a job; where it fails, its folder keeps what is left, with a record that says why.

    `local_id` is used where SLURM gives none; `name` is the target's, for the reader of the record.
    Raises JobError where another attempt still runs: a killed Snakemake leaves its jobs behind.
    """
    with ExitStack() as stack:
        try:
            output = stack.enter_context(locked_log(log))
        except BlockingIOError as error:
            raise JobError(f"another process is at work on it and writes to {log}: wait for it, or end it") from error
        yield from _attempt(job, name, local_id, log, output)


def _attempt(job: Job, name: str, local_id: str, log: Path, output: BinaryIO) -> Iterator[Attempt]:
    job_id = os.environ.get("SLURM_JOB_ID") or f"local-{local_id}"
    folder = unused(Path(layout.attempts(job.run)) / job_id)
    folder.mkdir(parents=True)
    current = Attempt(job_id, log, output, folder, now(), time.monotonic())
    try:
        yield current
    except BaseException as error:
        known = isinstance(error, JobError | Terminated)
        reason = str(error) if known else f"{type(error).__name__}: {error}".rstrip(": ")
        _keep(current, {"target": name, "error": reason, **current.record(job)})
        raise
    # What cannot be removed now must not cost the result. The folder above stays: another job may be about to use it.
    shutil.rmtree(folder, ignore_errors=True)


def _keep(attempt: Attempt, record: dict[str, Any]) -> None:
    """Keep what is left of an attempt; on a full disk the error itself matters more."""
    with suppress(OSError):
        if attempt.log.is_file():
            shutil.copy(attempt.log, attempt.folder / "job.log")
        write_record(attempt.folder / "attempt.json", record)


def run_job_script(job: Job, attempt: Attempt, environment: Mapping[str, str], samples: Path) -> None:
    """Run a job's script, with samples of the GPUs unless it takes them itself.

    Raises JobError with the last lines of its log.
    """
    own = samples_itself(Path(job.script).read_text(encoding="utf-8", errors="replace"))
    with nullcontext() if own else sampling(samples):
        status = run_script(Path(job.script), attempt.output, environment, Path(job.folder))
    if status:
        raise JobError(failure(f"{job.script} ended with exit status {status}", attempt.log))


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


def versions() -> dict[str, str]:
    """Versions of the packages that make results, those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def unused(folder: Path) -> Path:
    """The folder, or the first of `folder.2`, `folder.3`, … that is not there: local job ids come again."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}.{number}")
    return free


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
