"""Which ends of jobs another job can mend, and what is said of those that it cannot."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ends import shell_status

# Exit codes (status:signal) of what SIGKILL ended: of the job's own process, or of one that its shell waited for.
_KILLED = ("0:9", "137:0")
# Exit code of a job that ended itself at SIGTERM, which `#SBATCH --signal` sends before its time is over: some minutes,
# at most half of it.
_TERMINATED = "143:0"
# Exit code of a job whose output SLURM could not open on its node, among others: it has run nothing.
NOT_OPENED = "0:53"
# Resources of Snakemake that decide in place of an option.
_RESOURCES = {"time": {"runtime"}, "mem": {"mem_mb", "mem_mb_per_cpu"}}
# States of jobs that may have judged themselves before SLURM did.
_OWN = ("FAILED", "OUT_OF_MEMORY")


class Cut(enum.Enum):
    """What cut a job that another one may bring to its end, in words for the user."""

    PREEMPTED = "preempted"
    NODE_FAIL = "its node failed"
    BOOT_FAIL = "its node did not boot"
    TIMEOUT = "out of time"
    OUT_OF_MEMORY = "out of memory"
    KILLED = "killed"
    NO_OUTPUT = "SLURM could not write its output"


@dataclass(frozen=True)
class Left:
    """What a job left that ended badly.

    `reported`: why it failed, by its own word; `over_memory`: SLURM's word that it took too much; `goes_on`: what lets
    another job of the same time limit come further; `smaller`: that one would take less memory; `output`: the file with
    SLURM's messages.
    """

    reported: bool = False
    over_memory: bool = False
    goes_on: bool = True
    smaller: bool = True
    output: bool = True


@dataclass(frozen=True)
class Limits:
    """How often a target may be submitted again in a session, and the script that asks SLURM for what it needs.

    `keys` say where the summary decides on `time` and `mem`; `resources` are those of a profile or of --set-resources,
    which win over the script.
    """

    retries: int
    script: str
    keys: Mapping[str, str] = field(default_factory=dict)
    resources: Collection[str] = ()

    def place(self, name: str) -> str:
        """What is to be changed for another `time` or `mem`."""
        wins = sorted(_RESOURCES[name] & set(self.resources))
        if wins:
            return f"the resource {wins[0]} of the profile or of --set-resources"
        key = f" ({self.keys[name]})" if name in self.keys else ""
        return f"`#SBATCH --{name}` in {self.script}{key}"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a target: `again` is why it is submitted again; where that is empty the end is final.

    `state` is SLURM's, or OUT_OF_MEMORY where SLURM only said so in words; `advice` is for the user.
    """

    state: str
    again: str = ""
    advice: str = ""


def judge(job: AccountedJob, left: Left, retried: int, limits: Limits) -> Verdict:
    """What becomes of a target whose job ended badly after so many were `retried` in this session."""
    cut = cut_of(job, left)
    if cut is None:
        return Verdict(job.state)
    state = Cut.OUT_OF_MEMORY.name if cut is Cut.OUT_OF_MEMORY else job.state
    if cut is Cut.TIMEOUT and not left.goes_on:
        nothing = "No state that another job could resume from was saved within its time limit"
        return Verdict(state, advice=f"{nothing}: {_remedy(cut, job, limits)}")
    if cut is Cut.OUT_OF_MEMORY and not left.smaller:
        return Verdict(state, advice=f"Another job would take as much: {_remedy(cut, job, limits)}")
    if retried < limits.retries:
        return Verdict(state, again=f"{cut.value}, retry {retried + 1} of {limits.retries}")
    times = f"{retried + 1} times" if retried else "once"
    advice = f"It was submitted {times}: raise the setting `retries`, or {_remedy(cut, job, limits)}"
    return Verdict(state, advice=advice)


def cut_of(job: AccountedJob, left: Left) -> Cut | None:
    """What cut a job; None where another one would end as badly, or is not wanted.

    A job tries again by itself what that can mend: what it reports is final.
    """
    exit_code = shell_status(job.exit_code)
    if left.reported and job.state in _OWN and exit_code != _TERMINATED:
        return None
    if job.state != "FAILED":
        return Cut.__members__.get(job.state)
    if exit_code == _TERMINATED and job.time_limit_seconds and 2 * job.elapsed_seconds >= job.time_limit_seconds:
        return Cut.TIMEOUT
    if exit_code == NOT_OPENED and not left.output:
        return Cut.NO_OUTPUT
    if exit_code in (*_KILLED, _TERMINATED):
        return Cut.OUT_OF_MEMORY if left.over_memory else Cut.KILLED
    return None


def _remedy(cut: Cut, job: AccountedJob, limits: Limits) -> str:
    """What the user can do about it."""
    match cut:
        case Cut.TIMEOUT:
            return f"raise {limits.place('time')}"
        case Cut.OUT_OF_MEMORY:
            return f"raise {limits.place('mem')}"
        case Cut.PREEMPTED:
            return f"name a partition in {limits.script} whose jobs are not preempted"
        case Cut.NODE_FAIL | Cut.BOOT_FAIL:
            return f"leave out what fails with `#SBATCH --exclude={job.nodes}` in {limits.script}"
        case Cut.KILLED:
            return f"see what kills it on {job.nodes}"
        case Cut.NO_OUTPUT:
            return f"see why {job.nodes} cannot write to the experiment's folder logs/slurm"
