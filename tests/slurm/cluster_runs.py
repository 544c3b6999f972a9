"""The workflow on the test cluster: started as a user does, judged by what SLURM's accounting says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from experiments import ExperimentFolder
from scaffolded import Scaffold, make_scaffolded
from snakemake_cli import Snakemake

from run_experiment.common import paths
from run_experiment.slurm.job_ids import in_order, slurm_id, submitted_id
from run_experiment.slurm.ledger import PATH as LEDGER

# Tests have no time to wait for what is right for a real cluster.
QUICK = ["--slurm-attached-poll-seconds", "3", "--slurm-attached-max-queued", "500", "--latency-wait", "10"]
AT_ONCE = ["--set-resources", "run_finetune:stagger=0", "run_evaluation:stagger=0"]


@dataclass(frozen=True)
class ClusterJob:
    """A job as accounting has it."""

    job_id: str
    name: str
    state: str
    start: datetime | None
    end: datetime | None
    gpus: int


class Run:
    """The workflow in a process of its own, with its output in a file."""

    def __init__(
        self, folder: Path, *arguments: str, environment: dict[str, str] | None = None, config: Sequence[str] = ()
    ) -> None:
        self.log = folder.with_name(f"{folder.name}.{time.monotonic_ns()}.log")
        options = ["--quiet", "host", "--profile", "profiles/slurm", *QUICK, *arguments]
        given = [*options, "--config", f"experiment_dir={folder}", *config]
        self.process = Snakemake(given, self.log, {**os.environ, **(environment or {})})

    @property
    def output(self) -> str:
        """What it said so far."""
        return self.log.read_text()

    def wait(self, seconds: float = 180) -> int:
        """Exit status at its end."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None

    def until(self, text: str, seconds: float = 120) -> None:
        """Wait until it says something."""
        until(lambda: text in self.output or self.process.returncode is not None, seconds)
        assert text in self.output, self.output

    def kill(self) -> None:
        """End it as a crash does; jobs of SLURM are not its children."""
        self.process.kill()

    def interrupt(self, number: signal.Signals) -> None:
        """Send a signal: Ctrl-C reaches all of the process group, others the process."""
        if number is signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)


def run(folder: Path, *arguments: str, seconds: float = 180, config: Sequence[str] = ()) -> Run:
    """Run the workflow to its end."""
    started = Run(folder, *arguments, config=config)
    started.wait(seconds)
    return started


def jobs(folder: Path) -> list[ClusterJob]:
    """All jobs that were ever submitted for an experiment, in order, as sacct has them.

    A job of several targets is one for each.
    """
    return [one for job in _accounted(folder) for one in ([job] if "+" not in job.name else _by_target(folder, job))]


def unnoted(folder: Path) -> list[str]:
    """Jobs and arrays of several targets of which the ledger lacks some."""
    # Once each: what was found again is noted again.
    noted = {one["job_id"] for one in _noted(folder) if one["event"] == "accepted"}
    accepted = Counter(map(submitted_id, noted))
    wanted = {submitted_id(job.job_id): job.name for job in _accounted(folder) if "+" in job.name}
    sizes = {job_id: 1 + int(name.rpartition("+")[2]) for job_id, name in wanted.items()}
    return [
        f"job {job_id}: the ledger has {accepted[job_id]} targets of it, not {size}"
        for job_id, size in sizes.items()
        if accepted[job_id] != size
    ]


def _accounted(folder: Path) -> list[ClusterJob]:
    """An experiment's jobs, each element of an array by itself."""
    columns = "JobID,JobName%200,State,Start,End,AllocTRES%200,NodeList%200,WorkDir%500"
    lines = client("sacct", "-XnP", "-S", "now-1day", "-o", columns).splitlines()
    own = [_job(row) for row in (line.split("|") for line in lines) if row[-1] == str(folder)]
    started = {job.job_id: job for job in own if "[" not in job.job_id}
    waiting = {one: replace(job, job_id=one) for job in own if "[" in job.job_id for one in _elements(job.job_id)}
    return sorted((waiting | started).values(), key=lambda job: in_order(job.job_id))


def _elements(job_id: str) -> list[str]:
    """Elements of an array that have one row while they wait, as `17_[2]` or `17_[1,3-5%2]`; some may have started."""
    array, _, text = job_id.rstrip("]").partition("_[")
    ends = [part.split("-") for part in text.partition("%")[0].split(",")]
    return [f"{array}_{number}" for part in ends for number in range(int(part[0]), int(part[-1]) + 1)]


def _by_target(folder: Path, job: ClusterJob) -> list[ClusterJob]:
    """A job that has its name with others, or makes several targets, as the ledger has it: by the name of each.

    One that the ledger does not have keeps its name, which is that of no target.
    """
    noted = {one["job_id"]: one["target"] for one in _noted(folder) if one["event"] == "accepted"}
    own = {job_id: target for job_id, target in noted.items() if slurm_id(job_id) == job.job_id}
    experiment = job.name.partition(".")[0]
    return [replace(job, job_id=one, name=f"{experiment}.{_name(target)}") for one, target in own.items()] or [job]


def _noted(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / LEDGER).read_text().splitlines() if line]


def _name(target: str) -> str:
    run, cell = paths.target_of(target)
    task, _, epoch = cell.rpartition("_epoch")
    if "/eval/" not in target:
        return run
    return f"{run}.{task}.e{epoch}" if task else f"{run}.{cell.removesuffix('_base')}"


def _job(row: list[str]) -> ClusterJob:
    job_id, name, state, start, end, tres, nodes, _ = row
    gpus = next((int(item.partition("=")[2]) for item in tres.split(",") if item.startswith("gres/gpu=")), 0)
    # One that is cancelled before it has nodes may have the time of that as its start.
    started = None if nodes == "None assigned" else _time(start)
    return ClusterJob(job_id, name, state.split()[0], started, _time(end), gpus)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def settled(folder: Path, count: int) -> list[ClusterJob]:
    """The experiment's jobs, once accounting has the end of as many as there should be."""

    def over() -> bool:
        found = jobs(folder)
        return len(found) >= count and all(job.end for job in found)

    until(over)
    return jobs(folder)


def client(*command: str) -> str:
    """Output of one of SLURM's clients."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, client("squeue")
        time.sleep(0.2)


# Jobs of `sleeping`.
ALL = ["tiny.r4", "tiny.r8", "tiny.base.shout", "tiny.r4.shout.e0", "tiny.r8.shout.e0"]
# Those of one run: each job costs this machine a second or two.
OF_R4 = ["tiny.r4", "tiny.r4.shout.e0"]
ONLY_R4 = ["only=r4,r4/*/*"]


def sleeping(folder: Path, train: float = 3, evaluate: float = 1, epochs: int = 1) -> ExperimentFolder:
    """Two trained runs, evaluated after every epoch, and a control, whose jobs sleep for so many seconds."""
    experiment = make_scaffolded(folder / "experiment", epochs, Scaffold(sleep=(train, evaluate)))
    for script in experiment.path.rglob("*.slurm"):
        script.write_text(script.read_text().replace("#SBATCH", "#SBATCH --gres=gpu:1 --mem=800M\n#SBATCH", 1))
    return experiment


def hold(experiment: ExperimentFolder, *scripts: str) -> Path:
    """Have jobs, the trainings by default, wait for a file that a test makes when it is ready; returns its path.

    Seconds of sleep that are enough on an idle machine are too few on a busy one.
    """
    go = experiment.path.with_name("go")
    for script in scripts or ("r4/finetune.slurm", "r8/finetune.slurm"):
        experiment.edit(script, "set -e\n", f"set -e\nuntil [ -e {go} ]; do sleep 0.2; done\n")
    return go


def names(folder: Path) -> Counter[str]:
    """How often jobs of each name were submitted."""
    return Counter(job.name for job in jobs(folder))


def running(folder: Path, *wanted: str) -> dict[str, str]:
    """Ids of an experiment's jobs by name, once those that are wanted run; of the last one where there are several."""

    def found() -> dict[str, ClusterJob]:
        return {job.name: job for job in jobs(folder)}

    until(lambda: all((job := found().get(name)) and job.state == "RUNNING" for name in wanted), 180)
    return {name: job.job_id for name, job in found().items()}


def time_out(*job_ids: str) -> None:
    """Let the time of running jobs be over now, whatever their limit; SLURM looks every 30 s."""
    for job_id in job_ids:
        client("scontrol", "update", f"jobid={job_id}", "endtime=now")


def shim(folder: Path, client: str, body: str) -> dict[str, str]:
    """A script before one of SLURM's clients, called `$real` in it; returns the environment that has it on its PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / client
    path.write_text(f"#!/bin/bash\nreal={shutil.which(client)}\n{body}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def cluster_name() -> str:
    """Name of the cluster that SLURM's clients ask."""
    named = re.search(r"^ClusterName=(\S+)", Path(os.environ["SLURM_CONF"]).read_text(), re.MULTILINE)
    assert named
    return named[1]


def without_accounts(folder: Path) -> dict[str, str]:
    """The environment of a login node whose cluster keeps no accounts of jobs."""
    return _login_node(folder, r"^Accounting\w+=.*$", "")


def of_another_cluster(folder: Path) -> dict[str, str]:
    """The environment of a login node of another cluster, in which this one is asked for."""
    return {**_login_node(folder, r"^ClusterName=.*$", "ClusterName=elsewhere"), "SLURM_CLUSTERS": cluster_name()}


def _login_node(folder: Path, line: str, instead: str) -> dict[str, str]:
    """The environment of a machine whose own slurm.conf has another line, which only clients read."""
    path = folder / "slurm.conf"
    known = Path(os.environ["SLURM_CONF"]).read_text()
    text, count = re.subn(line, instead, known, flags=re.MULTILINE)
    assert count
    path.write_text(text)
    return {"SLURM_CONF": str(path)}


def submission_shim(folder: Path, body: str) -> dict[str, str]:
    """The same for sbatch, which is itself when it only tries what it is given."""
    return shim(folder, "sbatch", f'[ "$1" = --test-only ] && exec "$real" "$@"\n{body}')


def kill_processes(job_id: str, command: str = "") -> None:
    """Kill what a job runs, so that it can leave nothing, or only what has a word in its command.

    Other clusters have jobs of this id, too.
    """
    marks = {f"SLURM_JOB_ID={job_id}".encode(), f"SLURM_CONF={os.environ['SLURM_CONF']}".encode()}
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            wanted = command.encode() in (process / "cmdline").read_bytes()
            if wanted and marks <= set((process / "environ").read_bytes().split(b"\0")):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    assert killed
