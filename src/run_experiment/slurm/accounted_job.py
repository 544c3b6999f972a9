"""A job as accounting has it, read from the rows that sacct prints."""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from run_experiment.slurm.amounts import count, cpu_seconds, limit_seconds, moment, requested_mib, tres_gpus, tres_mib
from run_experiment.slurm.states import first_word, is_live

# Columns of the rows.
FIELDS = (
    "JobID",
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
# Ids in a row of several elements of an array; `%2` is how many may run at a time.
_SHARED_ROW = re.compile(r"(?P<array>\d+)_\[(?P<elements>\d+(-\d+)?(,\d+(-\d+)?)*)(%\d+)?\]")


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


def read_jobs(rows: Iterable[Sequence[str]]) -> dict[str, AccountedJob]:
    """Jobs by id, each of its own row and those of its steps, such as `17.batch`."""
    jobs: dict[str, dict[str, str]] = {}
    waiting: dict[str, dict[str, str]] = {}
    steps: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        values = dict(zip(FIELDS, row, strict=True))
        # The first field begins with the line end of the row before.
        job_id, _, step = values["JobID"].strip().partition(".")
        if step:
            steps.setdefault(job_id, {})[step] = values
        else:
            known = waiting if _SHARED_ROW.fullmatch(job_id) else jobs
            known |= dict.fromkeys(_elements(job_id), values)
    # The row of elements that wait may keep naming those that have started, which have rows of their own.
    of_each = waiting | jobs
    return {job_id: _accounted(job_id, values, steps.get(job_id, {})) for job_id, values in of_each.items()}


def _elements(job_id: str) -> list[str]:
    """Ids of the elements of an array that share a row, `17_[1,3-5%2]`, until they start; of another job, its id."""
    found = _SHARED_ROW.fullmatch(job_id)
    if found is None:
        return [job_id]
    ends = [list(map(int, part.split("-"))) for part in found["elements"].split(",")]
    return [f"{found['array']}_{number}" for part in ends for number in range(part[0], part[-1] + 1)]


def _accounted(job_id: str, row: Mapping[str, str], steps: Mapping[str, Mapping[str, str]]) -> AccountedJob:
    nodes = known(row["NodeList"])
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
        reason=known(row["Reason"]),
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


def known(text: str) -> str:
    """A text of SLURM's; empty if it stands for none."""
    return "" if text in ("None", "(null)", "None assigned") else text


def _canceller(state: str) -> str | None:
    """Who cancelled the job: `1000` of `CANCELLED by 1000`."""
    _, by, uid = state.partition(" by ")
    if not by:
        return None
    with suppress(KeyError, ValueError):
        return pwd.getpwuid(int(uid)).pw_name
    return uid
