"""sbatch, squeue, sacct and scancel: their answers as values, their errors as exceptions."""

from __future__ import annotations

import errno
import os
import pwd
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from run_experiment.slurm.amounts import count, cpu_seconds, limit_seconds, moment, requested_mib, tres_gpus, tres_mib
from run_experiment.slurm.client_process import ClientResult, run_client
from run_experiment.slurm.states import first_word, is_live

_QUEUE_FIELDS = ("%A", "%T", "%r", "%j", "%k")
_ACCOUNTING_FIELDS = (
    "JobIDRaw",
    "JobName",
    "UID",
    "Comment",
    "State",
    "ExitCode",
    "Reason",
    "Submit",
    "Start",
    "End",
    "NodeList",
    "ReqCPUS",
    "ElapsedRaw",
    "TimelimitRaw",
    "AllocCPUS",
    "NNodes",
    "TotalCPU",
    "ReqMem",
    "AllocTRES",
    "TRESUsageInTot",
)

# Errors that may pass by themselves, and why. The request was not carried out.
_PASSING = {
    # A limit on how many jobs wait or run. The words that follow it name limits on a job's size, too, which stay.
    r"(QOS|Assoc)(Max|Grp)SubmitJob\w*Limit": "jobs of the user, the account or the QOS have to end first",
    r"temporarily unable to accept job|Resource temporarily unavailable": "slurmctld has as many jobs as it can hold",
    r"Unable to contact slurm controller": "slurmctld restarts, or is too busy to answer",
    r"standby mode": "the backup controller has not taken over yet",
    r"persist(ent)?[ _]conn|PersistInit|Problem talking to the database": "slurmdbd restarts, or is too busy to answer",
    r"Unable to connect to database|Database connection reference is invalid": "slurmdbd is without its data base",
    r"Connection (refused|reset|closed)|Broken pipe|No route to host|Network is unreachable": "a host restarts",
    r"Temporary failure in name resolution|Unable to resolve": "the name server does not answer",
    r"failed to fetch config|cannot stat file .*slurm\.conf": "the file server or slurmctld, which have slurm.conf",
    r"[Mm]unge \w*code failed|Protocol authentication error": "munged restarts, or is too busy to answer",
    r"(rate|RPC) limit": "slurmctld asks to be asked less often",
    r"System submissions disabled": "an administrator has stopped submissions",
    r"I/O error writing script/environment to file|Unable to create job record": "slurmctld's disk or memory is full",
}
# Errors that pass with a maintenance, perhaps hours later; requests for other partitions, nodes or reservations may
# succeed before.
_UNAVAILABLE = {
    r"Required partition not available|Requested partition configuration not available now|Partition in DOWN state": (
        "the partition is drained or inactive"
    ),
    r"Required node not available|Nodes required for job are DOWN|Requested nodes are busy": "nodes have to come back",
    r"Requested reservation not usable now": "the reservation has not begun",
}
# As above, but the request may have been carried out, or may be later.
_UNANSWERED = {
    r"timed out": "an answer took longer than MessageTimeout",
    r"Zero Bytes were transmitted": "the connection was closed early",
    r"Message (send|receive) failure|Communication (connection|shutdown) failure|Insane message length": "likewise",
}
# Errors of this machine that may pass, such as a login node's limit on processes.
_EXHAUSTED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO)
# What `sbatch --test-only` says if nodes are drained or down, too, for which a job would wait.
_NOT_AVAILABLE = re.compile(r"not available|nodes are busy", re.IGNORECASE)
_ENDED_ALREADY = re.compile(r"Invalid job id specified|Job/step already completing or completed")
_SUBMITTED = re.compile(r"^\s*(?:Submitted batch job )?(\d+)(?:;\S+| on cluster \S+)?\s*$", re.MULTILINE)


class SlurmError(Exception):
    """A request that SLURM refused, or a client that could not be run; in the client's own words."""


class PassingError(SlurmError):
    """A request that may succeed later. A submission may have been accepted nevertheless: look before the next."""


class UnavailableError(PassingError):
    """A request that SLURM does not accept now because of what it asks for; others may be accepted before."""


class NoAccountingError(SlurmError):
    """The cluster keeps no accounts of jobs."""


class UnansweredError(PassingError):
    """A request that SLURM may carry out after we gave up waiting."""


@dataclass(frozen=True)
class QueuedJob:
    """A live job; comment and reason are empty if it has none."""

    job_id: str
    name: str
    comment: str
    state: str
    reason: str


@dataclass(frozen=True)
class AccountedJob:
    """What accounting knows of a job, of its last start if it was requeued.

    Times are local, None if not reached; `exit_code` is `status:signal`; `cancelled_by` is a user's name, or number
    if it has none. Accounting replaces quotes in names and what is not Latin, and has comments only where the site
    keeps them.

    Figures are those of `seff`, whole once `settled`; CPUs and nodes are those asked for until the job starts. Memory
    is MiB, its peak that of the step with the most, all tasks together. None is what was not counted, or no limit.
    """

    job_id: str
    name: str
    uid: int
    comment: str
    state: str
    cancelled_by: str | None
    exit_code: str
    reason: str
    submitted: datetime | None
    started: datetime | None
    ended: datetime | None
    nodes: str
    elapsed_seconds: int = 0
    time_limit_seconds: int | None = None
    cpus: int = 0
    node_count: int = 0
    gpus: int = 0
    cpu_seconds: int | None = None
    peak_memory_mib: float | None = None
    requested_memory_mib: float | None = None
    request_known: bool = False
    steps_ended: bool = False

    @property
    def settled(self) -> bool:
        """True if all figures are in: they follow some seconds after a job's end, unless a node was lost."""
        return not is_live(self.state) and self.request_known and (self.started is None or self.steps_ended)


def queue(timeout: float = 30) -> list[QueuedJob]:
    """All live jobs of this user. Raises SlurmError."""
    mark = _mark()
    # `--me` would be shorter, but is missing before SLURM 20.02.
    command = ["squeue", "--noheader", "--states=all", f"--user={os.getuid()}"]
    output = _output([*command, f"--format={''.join(mark + field for field in _QUEUE_FIELDS)}{mark}"], timeout)
    jobs = [_queued(row) for row in _rows(output, mark, len(_QUEUE_FIELDS), leading=True)]
    return [job for job in jobs if is_live(job.state)]


def start_of(job_id: str, timeout: float = 20) -> datetime | None:
    """When the last start of a live job was, local time; None if squeue does not say. Raises SlurmError."""
    (checked,) = _checked([job_id])
    return moment(_output(["squeue", "--noheader", f"--jobs={checked}", "--format=%S"], timeout).strip())


def accounting(job_ids: Collection[str], timeout: float = 60) -> dict[str, AccountedJob]:
    """What accounting knows of jobs, however old, by id; without those that it does not know.

    Raises SlurmError, NoAccountingError if the cluster keeps no accounts.
    """
    if not job_ids:
        # sacct would list everything.
        return {}
    mark = _mark()
    command = ["sacct", "--noheader", "--parsable", f"--delimiter={mark}", *_cluster()]
    columns = f"--format={','.join(_ACCOUNTING_FIELDS)}"
    output = _accounts([*command, columns, f"--jobs={','.join(_checked(job_ids))}"], timeout)
    rows = _rows(output, mark, len(_ACCOUNTING_FIELDS), leading=False)
    # Asked for one task of an array, sacct may list others too.
    return {job_id: job for job_id, job in _joined(rows).items() if job_id in set(job_ids)}


def accounted_ids(name: str, folder: Path, since: datetime, timeout: float = 60) -> list[str]:
    """Ids of this user's jobs of a name that were submitted from a folder since then, in order; accounting keeps them.

    Raises SlurmError, NoAccountingError if the cluster keeps no accounts.
    """
    mark, columns = _mark(), ("JobIDRaw", "JobName", "Submit", "WorkDir")
    # sacct refuses a time that is still to come, as where a clock was set back.
    begin = f"--starttime={min(since, datetime.now(UTC)).astimezone():%Y-%m-%dT%H:%M:%S}"
    command = ["sacct", "--allocations", "--noheader", "--parsable", f"--delimiter={mark}", *_cluster()]
    output = _accounts([*command, f"--user={os.getuid()}", begin, f"--format={','.join(columns)}"], timeout)
    found = []
    for job_id, job_name, submitted, place in _rows(output, mark, len(columns), leading=False):
        # Accounting cuts names off.
        is_own = name.startswith(job_name) and place == str(folder)
        if is_own and (time := moment(submitted)) and time >= since.replace(microsecond=0):
            found.append(job_id.strip())
    return sorted(filter(str.isdecimal, found), key=int)


def cancel(job_ids: Collection[str], timeout: float = 60) -> None:
    """Cancel jobs; jobs that have already ended are no error. Raises SlurmError."""
    if not job_ids:
        return
    result = _run(["scancel", *_checked(job_ids)], timeout)
    lines = result.errors.splitlines()
    complaints = [line for line in lines if not _ENDED_ALREADY.search(line)]
    if result.returncode and (complaints or not lines):
        raise _refusal("scancel", ClientResult(result.returncode, "", "\n".join(complaints)))


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
        error = _refusal("sbatch", result)
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
        raise _refusal("sacct", result)
    return result.output


def _cluster() -> list[str]:
    """The option for the cluster that is asked for: unlike the other clients, sacct does not read this variable."""
    cluster = os.environ.get("SLURM_CLUSTERS")
    return [f"--clusters={cluster}"] if cluster else []


def _output(command: Sequence[str], timeout: float, text: str = "") -> str:
    result = _run(command, timeout, text)
    if result.returncode:
        raise _refusal(command[0], result)
    return result.output


def _refusal(client: str, result: ClientResult) -> SlurmError:
    words = result.errors.strip() or result.output.strip() or f"{client} ended with exit status {result.returncode}"
    kinds = ((UnansweredError, _UNANSWERED), (UnavailableError, _UNAVAILABLE), (PassingError, _PASSING))
    for kind, patterns in kinds:
        if any(re.search(pattern, words) for pattern in patterns):
            return kind(words)
    return SlurmError(words)


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
    """The ids, in order; text that is none would mean other jobs to the clients. Raises ValueError."""
    wrong = [job_id for job_id in job_ids if not re.fullmatch(r"[0-9]+", job_id)]
    if wrong:
        raise ValueError(f"not a job id: {wrong[0]!r}")
    return sorted(set(job_ids), key=int)


def _queued(row: Sequence[str]) -> QueuedJob:
    job_id, state, reason, name, comment = row
    return QueuedJob(job_id, name, _known(comment), state, _known(reason))


def _joined(rows: Iterable[Sequence[str]]) -> dict[str, AccountedJob]:
    """Jobs by id, each of its own row and those of its steps, such as `17.batch`."""
    jobs: dict[str, dict[str, str]] = {}
    steps: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        values = dict(zip(_ACCOUNTING_FIELDS, row, strict=True))
        # The first field begins with the line end of the row before.
        job_id, _, step = values["JobIDRaw"].strip().partition(".")
        if step:
            steps.setdefault(job_id, {})[step] = values
        else:
            jobs[job_id] = values
    return {job_id: _accounted(job_id, values, steps.get(job_id, {})) for job_id, values in jobs.items()}


def _accounted(job_id: str, row: Mapping[str, str], steps: Mapping[str, Mapping[str, str]]) -> AccountedJob:
    nodes = _known(row["NodeList"])
    cpus, node_count = count(row["AllocCPUS"]), count(row["NNodes"])
    peaks = [tres_mib(step["TRESUsageInTot"]) for step in steps.values()]
    return AccountedJob(
        job_id=job_id,
        name=row["JobName"],
        uid=int(row["UID"]),
        comment=row["Comment"],
        state=first_word(row["State"]),
        cancelled_by=_canceller(row["State"]),
        exit_code=row["ExitCode"],
        reason=_known(row["Reason"]),
        submitted=moment(row["Submit"]),
        # A job cancelled before it had nodes may have the time of its cancellation as its start.
        started=moment(row["Start"]) if nodes else None,
        ended=moment(row["End"]),
        nodes=nodes,
        elapsed_seconds=count(row["ElapsedRaw"]),
        time_limit_seconds=limit_seconds(row["TimelimitRaw"]),
        cpus=cpus,
        node_count=node_count,
        gpus=tres_gpus(row["AllocTRES"]),
        cpu_seconds=cpu_seconds(row["TotalCPU"]),
        peak_memory_mib=max((peak for peak in peaks if peak is not None), default=None),
        requested_memory_mib=tres_mib(row["AllocTRES"]) or requested_mib(row["ReqMem"], cpus, node_count),
        # The end of a short job may be listed first, without name, limit and requested resources.
        request_known=count(row["ReqCPUS"]) > 0,
        steps_ended=_have_ended(steps),
    )


def _have_ended(steps: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether accounting has the ends of a job's script and its other steps, with which come their figures.

    The step `extern`, of those who log in to the job's nodes, may end much later.
    """
    return "batch" in steps and all(moment(step["End"]) for name, step in steps.items() if name != "extern")


def _known(text: str) -> str:
    return "" if text in ("None", "(null)", "None assigned") else text


def _canceller(state: str) -> str | None:
    """Who cancelled the job: `1000` of `CANCELLED by 1000`."""
    _, by, uid = state.partition(" by ")
    if not by:
        return None
    with suppress(KeyError, ValueError):
        return pwd.getpwuid(int(uid)).pw_name
    return uid
