"""Checks before and after a job's script, and parts of its record.

A job knows only what was planned; it does not read the summary, which may have been edited since.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from run_experiment.attempts.files import Failure
from run_experiment.checkpoints.identities import CHECKPOINT
from run_experiment.common.json_files import Config, same_config
from run_experiment.common.text import shortened
from run_experiment.experiment.records import read_manifest
from run_experiment.inputs.data_files import DataError, split_hash
from run_experiment.inputs.fingerprints import content_hash
from run_experiment.jobs.specs import EvaluationJob, Input, Job, inputs_of
from run_experiment.jobscripts.edits import parse
from run_experiment.machine.processes import last_lines


class JobError(Exception):
    """A job failed; the message says why, and `failure` whether a retry may help."""

    def __init__(self, message: str, failure: Failure = Failure.ERROR) -> None:
        super().__init__(message)
        self.failure = failure


def require_data_set(config: Config, script: str, data: str | None) -> None:
    """Check that task and data are those of the data set's cache. Raises JobError."""
    _require_unchanged(inputs_of(config, script, data))


def require_inputs(job: Job) -> None:
    """Check that data and task have not changed since the job was planned. Raises JobError."""
    _require_unchanged(job.inputs)


def require_as_planned(job: Job) -> None:
    """Check that nothing that determines the result has changed since the job was planned. Raises JobError."""
    require_inputs(job)
    for path, planned in job.files.items():
        try:
            found = parse(Path(path).read_text(encoding="utf-8")).fingerprint
        except OSError as error:
            raise JobError(f"cannot read {path}: {error.strerror}") from error
        if found != planned:
            raise JobError(f"{path} was changed since this job was planned; start again")


def require_checkpoint(job: EvaluationJob) -> None:
    """Check that the verified checkpoint is the one that was planned with. Raises JobError."""
    if job.manifest is None:
        return
    manifest = read_manifest(Path(job.manifest))
    if manifest is None:
        raise JobError(f"{job.manifest} is missing: the checkpoint was not verified")
    if not same_config(job.config.get(CHECKPOINT), manifest.hashes):
        raise JobError(f"{job.manifest} is of another checkpoint than this job was planned with; start again")


def _require_unchanged(inputs: Iterable[Input]) -> None:
    for one in inputs:
        try:
            found = split_hash(one.files, one.split, one.first) if one.split else content_hash(one.files[0])
        except (DataError, OSError) as error:
            raise JobError(str(error)) from error
        if found != one.sha256:
            names = shortened(list(map(str, one.files)))
            what = f"split {one.split} of {names}" if one.split else names
            raise JobError(f"{what} changed since this job was planned; start again")


def failure(what: str, log: Path) -> str:
    """Message on a failure, with the path and the last lines of its log."""
    return "\n".join([f"{what}; its log is {log.absolute()}", *(f"    {line}" for line in last_lines(log))])


def unused(folder: Path) -> Path:
    """The folder, or the first free one of `folder.2`, `folder.3`, …, since local job ids are reused."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}.{number}")
    return free


def make_unused(folder: Path) -> Path:
    """Create such a folder, even if another process is creating the same one."""
    while True:
        with suppress(FileExistsError):
            (free := unused(folder)).mkdir(parents=True)
            return free
