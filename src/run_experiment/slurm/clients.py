"""sbatch, squeue, sacct and scancel: their answers as values, their errors as exceptions."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from run_experiment.slurm.accounted_job import FIELDS, AccountedJob, known, read_jobs
from run_experiment.slurm.amounts import moment
from run_experiment.slurm.client_process import ClientResult, run_client
from run_experiment.slurm.errors import (
    NoAccountingError,
    PassingError,
    SlurmError,
    UnansweredError,
    UnavailableError,
    error_of,
)
from run_experiment.slurm.job_ids import in_order, is_of_slurm, slurm_id, submitted_id
from run_experiment.slurm.states import is_live

_QUEUE_FIELDS = ("%i", "%T", "%r", "%j", "%k")
# Errors of this machine that may pass, such as a login node's limit on processes.
_EXHAUSTED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO)
# What `sbatch --test-only` says if nodes are drained or down, too, for which a job would wait.
_NOT_AVAILABLE = re.compile(r"not available|nodes are busy", re.IGNORECASE)
_ENDED_ALREADY = re.compile(r"Invalid job id specified|Job/step already completing or completed")
_SUBMITTED = re.compile(r"^\s*(?:Submitted batch job )?(\d+)(?:;\S+| on cluster \S+)?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class QueuedJob:
    """A live job; comment and reason are empty if it has none."""

    job_id: str
    name: str
    comment: str
    state: str
    reason: str


def queue(timeout: float = 30) -> list[QueuedJob]:
    """All live jobs of this user. Raises SlurmError."""
    mark = _mark()
    # `--me` would be shorter, but is missing before SLURM 20.02.
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}"]
    output = _output([*command, f"--format={''.join(mark + field for field in _QUEUE_FIELDS)}{mark}"], timeout)
    jobs = [_queued(row) for row in _rows(output, mark, len(_QUEUE_FIELDS), leading=True)]
    return [job for job in jobs if is_live(job.state)]


def query_start(job_id: str, timeout: float = 20) -> datetime | None:
    """When the last start of a live job was, local time; None if squeue does not say. Raises SlurmError."""
    (checked,) = _checked([job_id])
    return moment(_output(["squeue", "--noheader", f"--jobs={checked}", "--format=%S"], timeout).strip())


def accounting(job_ids: Collection[str], timeout: float = 60) -> dict[str, AccountedJob]:
    """What accounting knows of jobs, however old, by id; without those that it does not know.

    A job of several targets is there under each of its ids. Of arrays, all elements are asked for at once.
    Raises SlurmError, NoAccountingError if the cluster keeps no accounts.
    """
    if not job_ids:
        # sacct would list everything.
        return {}
    mark = _mark()
    command = ["sacct", "--noheader", "--parsable", f"--delimiter={mark}", *_cluster()]
    columns = f"--format={','.join(FIELDS)}"
    output = _accounts([*command, columns, f"--jobs={','.join(_submitted(job_ids))}"], timeout)
    found = read_jobs(_rows(output, mark, len(FIELDS), leading=False))
    known = [job_id for job_id in sorted(job_ids, key=in_order) if slurm_id(job_id) in found]
    return {job_id: replace(found[slurm_id(job_id)], job_id=job_id) for job_id in known}


def accounted_ids(name: str, folder: Path, since: datetime, timeout: float = 60) -> list[str]:
    """Ids of this user's jobs of a name that were submitted from a folder since then, in order; accounting keeps them.

    Raises SlurmError, NoAccountingError if the cluster keeps no accounts.
    """
    mark, columns = _mark(), ("JobID", "JobName", "Submit", "WorkDir")
    # sacct refuses a time that is still to come, as where a clock was set back.
    begin = f"--starttime={min(since, datetime.now(UTC)).astimezone():%Y-%m-%dT%H:%M:%S}"
    command = ["sacct", "--allocations", "--noheader", "--parsable", f"--delimiter={mark}", *_cluster()]
    output = _accounts([*command, f"--user={os.getuid()}", begin, f"--format={','.join(columns)}"], timeout)
    found = []
    for job_id, job_name, submitted, place in _rows(output, mark, len(columns), leading=False):
        # Accounting cuts names off.
        is_own = name.startswith(job_name) and place == str(folder)
        if is_own and (time := moment(submitted)) and time >= since.replace(microsecond=0):
            found.append(submitted_id(job_id.strip()))
    return sorted(set(filter(str.isdecimal, found)), key=int)


def cancel(job_ids: Collection[str], timeout: float = 60) -> None:
    """Cancel jobs; jobs that have already ended are no error. Raises SlurmError."""
    if not job_ids:
        return
    result = _run(["scancel", *_checked(job_ids)], timeout)
    lines = result.errors.splitlines()
    complaints = [line for line in lines if not _ENDED_ALREADY.search(line)]
    if result.returncode and (complaints or not lines):
        raise error_of("scancel", ClientResult(result.returncode, "", "\n".join(complaints)))


def submit(arguments: Sequence[str], script: str, timeout: float = 60) -> str:
    """Submit a script with sbatch's options; returns the job id. Raises SlurmError, PassingError if it may pass.

    After a PassingError, a time-out among them, the job may have been accepted.
    """
    output = _output(["sbatch", "--parsable", *arguments], timeout, script)
    found = _SUBMITTED.findall(output)
    if not found:
        # It reported success, so there may be a job to be found.
        raise UnansweredError(f"sbatch gave no job id: {output.strip()!r}")
    # Before it, a wrapper of the site may print numbers of its own.
    return str(found[-1])


def try_submission(arguments: Sequence[str], script: str, timeout: float = 60) -> None:
    """Ask whether SLURM would take a script with sbatch's options. Raises SlurmError, PassingError if it cannot say.

    That no node has what is asked for is no refusal: SLURM says the same of nodes that are drained for now.
    """
    result = _run(["sbatch", "--test-only", *arguments], timeout, script)
    if result.returncode and not _NOT_AVAILABLE.search(result.errors):
        error = error_of("sbatch", result)
        if not isinstance(error, UnavailableError):
            raise error


def _run(command: Sequence[str], timeout: float, text: str = "") -> ClientResult:
    client = command[0]
    try:
        return run_client(command, timeout, text)
    except TimeoutError as error:
        raise UnansweredError(str(error)) from None
    except FileNotFoundError:
        raise SlurmError(f"{client} is not on the PATH: run this on a login node of the cluster") from None
    except OSError as error:
        kind = PassingError if error.errno in _EXHAUSTED else SlurmError
        raise kind(f"{client} cannot be run: {error.strerror}") from None


def _accounts(command: Sequence[str], timeout: float) -> str:
    """What sacct says. Raises NoAccountingError if the cluster keeps no accounts."""
    result = _run(command, timeout)
    if "accounting storage is disabled" in result.errors:
        raise NoAccountingError("the cluster keeps no accounts of jobs")
    if result.returncode:
        raise error_of("sacct", result)
    return result.output


def _cluster() -> list[str]:
    """The option for the cluster that is asked for: unlike the other clients, sacct does not read this variable."""
    cluster = os.environ.get("SLURM_CLUSTERS")
    return [f"--clusters={cluster}"] if cluster else []


def _output(command: Sequence[str], timeout: float, text: str = "") -> str:
    result = _run(command, timeout, text)
    if result.returncode:
        raise error_of(command[0], result)
    return result.output


def _mark() -> str:
    """A random separator, which no name or comment can contain."""
    return f"|{secrets.token_hex(8)}|"


def _rows(output: str, mark: str, width: int, leading: bool) -> Iterator[list[str]]:
    """The rows of a table whose fields each end in the mark, with one before the first, too, if `leading`.

    Rows are told apart by their number of fields, since a field may hold line ends.
    """
    fields = output.split(mark)
    step = width + 1 if leading else width
    for start in range(int(leading), len(fields) - width, step):
        yield fields[start : start + width]


def _checked(job_ids: Collection[str]) -> list[str]:
    """SLURM's ids, in order; text that is none would mean other jobs to the clients. Raises ValueError."""
    wrong = [job_id for job_id in job_ids if not is_of_slurm(job_id)]
    if wrong:
        raise ValueError(f"not a job id: {wrong[0]!r}")
    return sorted(set(map(slurm_id, job_ids)), key=in_order)


def _submitted(job_ids: Collection[str]) -> list[str]:
    """The ids that sbatch gave for jobs, in order. Raises ValueError."""
    return list(dict.fromkeys(map(submitted_id, _checked(job_ids))))


def _queued(row: Sequence[str]) -> QueuedJob:
    job_id, state, reason, name, comment = row
    return QueuedJob(job_id, name, known(comment), state, known(reason))
