"""Faults and limits that take a whole cluster: daemons that stop, nodes that die, queues that are full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_runs import (
    ALL,
    AT_ONCE,
    Run,
    client,
    hold,
    jobs,
    names,
    run,
    running,
    settled,
    shim,
    sleeping,
    submission_shim,
    until,
)
from experiments import ExperimentFolder

# They share a cluster of their own.
pytestmark = pytest.mark.xdist_group("limits")

CLUSTER = Path(__file__).parent / "cluster"
STATUS_CLIENTS = ("sacct", "squeue", "scontrol", "sacctmgr", "sinfo")


@pytest.fixture(scope="module", autouse=True)
def own_cluster() -> Iterator[None]:
    """A cluster beside the one of other tests, since these end its daemons; its sockets want a short path."""
    shared, folder = os.environ["SLURM_CONF"], tempfile.mkdtemp(prefix="slurm-")
    os.environ["RUN_EXPERIMENT_SLURM"] = folder
    try:
        os.environ["SLURM_CONF"] = cluster("up").partition("=")[2]
        yield
    finally:
        cluster("down")
        del os.environ["RUN_EXPERIMENT_SLURM"]
        os.environ["SLURM_CONF"] = shared


@pytest.fixture(autouse=True)
def no_jobs() -> Iterator[None]:
    """Leave the nodes to the next test, also where this one failed before all was up again."""
    yield
    cluster("up")
    client("scancel", "--user=root")
    until(lambda: not client("squeue", "-h"))


def cluster(*arguments: str) -> str:
    result = subprocess.run([CLUSTER, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def sbatch(script: str, *options: str) -> str:
    """Submit a job by hand; returns its id."""
    quiet = ("--parsable", "--chdir=/tmp", "--output=/dev/null", "--mem=100M")
    return client("sbatch", *quiet, *options, f"--wrap={script}").strip()


def directive(experiment: ExperimentFolder, script: str, *options: str) -> None:
    experiment.edit(script, "#SBATCH --time", "".join(f"#SBATCH {option}\n" for option in options) + "#SBATCH --time")


def test_nothing_is_lost_while_daemons_are_down(tmp_path: Path) -> None:
    """First under a main process that follows the jobs, then before one that was killed is started again."""
    experiment = sleeping(tmp_path, train=1)
    go = hold(experiment)
    first = Run(experiment.path, *AT_ONCE)
    running(experiment.path, "tiny.r4", "tiny.r8")
    settled_base = experiment.path / "base/eval/shout_base.json"
    until(settled_base.exists)
    cluster("stop", "slurmdbd")
    first.until("SLURM does not say how the jobs are")
    cluster("stop", "slurmctld")
    # Several polls.
    time.sleep(10)
    cluster("up")
    first.until("SLURM says again how the jobs are")
    first.kill()
    assert first.output.count("SLURM does not say how the jobs are") == 1
    assert first.output.count("SLURM says again how the jobs are") == 1

    cluster("stop", "slurmctld")
    cluster("stop", "slurmdbd")
    second = Run(experiment.path, *AT_ONCE)
    second.until("SLURM does not list the jobs")
    go.touch()
    records = [experiment.path / f"{run}/finetune.json" for run in ("r4", "r8")]
    # Now there is something to be asked of accounting, too.
    until(lambda: all(record.exists() for record in records))
    assert ": submitted as" not in second.output
    cluster("up")
    assert second.wait() == 0, second.output
    assert {job.state for job in settled(experiment.path, 5)} == {"COMPLETED"}
    assert names(experiment.path) == Counter(ALL)


def test_a_limit_of_jobs_is_waited_for(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=2)
    client("sacctmgr", "-i", "modify", "user", "root", "set", "maxsubmitjobs=2")
    try:
        result = run(experiment.path, *AT_ONCE)
    finally:
        client("sacctmgr", "-i", "modify", "user", "root", "set", "maxsubmitjobs=-1")
    assert result.process.returncode == 0, result.output
    assert "AssocMaxSubmitJobLimit" in result.output
    assert {job.state for job in settled(experiment.path, 5)} == {"COMPLETED"}
    assert names(experiment.path) == Counter(ALL)


def test_the_most_jobs_in_the_queue_count_the_users_others(tmp_path: Path) -> None:
    """Jobs that left their records are still there for a while, as where a site's epilog takes its time."""
    experiment = sleeping(tmp_path, train=2)
    lingering = r"""sed 's/&& exec/\&\&/; $a sleep 4' | "$real" "$@" """
    epilog = submission_shim(tmp_path / "shims", lingering)
    others = [sbatch("sleep 300"), sbatch("sleep 300")]
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            seen.append(len(client("squeue", "-h", "-o%A").split()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = Run(experiment.path, *AT_ONCE, "--slurm-attached-max-queued", "3", environment=epilog)
    until(lambda: len(jobs(experiment.path)) == 2)
    client("scancel", others[0])
    try:
        assert started.wait() == 0, started.output
    finally:
        over.set()
        watcher.join()
    assert max(seen) == 3
    assert names(experiment.path) == Counter(ALL)


def many(folder: Path, count: int) -> ExperimentFolder:
    """An experiment of so many jobs, all but one of them trainings, each of which wants a node's GPUs for long."""
    experiment = sleeping(folder, train=600, evaluate=600)
    directive(experiment, "r4/finetune.slurm", "--gres=gpu:4")
    script = (experiment.path / "r4/finetune.slurm").read_text()
    values = experiment.read()
    template = values["runs"][0]
    values["runs"] = [template | {"name": f"r{number}"} for number in range(count - 1)] + values["runs"][2:]
    values["evaluation"]["matrix"] = values["evaluation"]["matrix"][2:]
    for number in range(count - 1):
        path = experiment.path / f"r{number}/finetune.slurm"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            script.replace("train.py r4", f"train.py r{number}").replace("r4/artifacts", f"r{number}/artifacts")
        )
    experiment.write(values)
    return experiment


def test_many_jobs_cost_slurm_little(tmp_path: Path) -> None:
    experiment = many(tmp_path, 200)
    calls = tmp_path / "calls"
    environment: dict[str, str] = {}
    for name in (*STATUS_CLIENTS, "sbatch", "scancel"):
        environment = shim(tmp_path / "shims", name, f'echo "{name} $1" >> {calls}\nexec "$real" "$@"')
    begun = time.monotonic()
    started = Run(experiment.path, *AT_ONCE, "--slurm-attached-poll-seconds", "10", environment=environment)
    until(lambda: started.output.count(": submitted as SLURM job") == 200)
    time.sleep(1)
    before = len(calls.read_text().splitlines())
    time.sleep(25)
    assert 2 <= len(calls.read_text().splitlines()) - before <= 2 * 3
    started.interrupt(signal.SIGTERM)
    signalled = time.monotonic()
    assert started.wait(30) == 143, started.output
    assert time.monotonic() - signalled < 10
    assert "200 SLURM jobs keep running" in started.output
    assert len(client("squeue", "-h", "-o%A").split()) == 200
    polls = (time.monotonic() - begun) / 10 + 1
    made = calls.read_text().splitlines()
    submissions = [call for call in made if call.startswith("sbatch ")]
    trials = submissions.count("sbatch --test-only")
    # A trial for what all trainings ask for, and one for what the evaluation does.
    assert (len(submissions) - trials, trials) == (200, 2)
    # Some more at the start.
    assert len(made) - len(submissions) <= 2 * polls + 5


def test_a_dead_node_costs_nothing_but_time_and_a_preempted_job_starts_again(tmp_path: Path) -> None:
    """What SLURM does not queue again is submitted again, and runs elsewhere; the others keep their ids."""
    experiment = sleeping(tmp_path)
    go = hold(experiment, "r4/finetune.slurm", "r8/finetune.slurm", "base/eval/shout_base.slurm")
    directive(experiment, "r4/finetune.slurm", "--no-requeue")
    directive(experiment, "base/eval/shout_base.slurm", "--nodelist=n1")
    directive(experiment, "r8/finetune.slurm", "--nodelist=n2", "--partition=preemptible")
    in_the_way = sbatch("sleep 300", "--nodelist=n2", "--gres=gpu:4")
    until(lambda: client("squeue", "-hj", in_the_way, "-o%T").strip() == "RUNNING")
    started = Run(experiment.path, *AT_ONCE)
    running(experiment.path, "tiny.r4", "tiny.base.shout")
    client("scancel", in_the_way)
    ids = running(experiment.path, *ALL[:3])
    cluster("kill", "n1")
    urgent = sbatch("sleep 5", "--nodelist=n2", "--gres=gpu:4")
    until(lambda: client("squeue", "-hj", urgent, "-o%T").strip() == "RUNNING")
    started.until(f"SLURM job {ids['tiny.r4']} ended as NODE_FAIL")
    started.until("it is submitted again: its node failed, retry 1 of 3")
    elsewhere = running(experiment.path, "tiny.r4")["tiny.r4"]
    cluster("up")
    for name in ("tiny.r8", "tiny.base.shout"):
        until(lambda name=name: client("squeue", "-hj", ids[name], "-o%T").strip() == "PENDING")  # type: ignore[misc]
        client("scontrol", "update", f"jobid={ids[name]}", "starttime=now")
    go.touch()
    assert started.wait() == 0, started.output
    assert started.output.count("ended as") == 1
    assert names(experiment.path) == Counter([*ALL, "tiny.r4"])
    assert client("sacct", "-nXPj", f"{ids['tiny.r4']},{elsewhere}", "-onodelist").split() == ["n1", "n2"]
    records = {name: experiment.record(f"{name}/finetune.json")["job_id"] for name in ("r4", "r8")}
    assert records == {"r4": elsewhere, "r8": ids["tiny.r8"]}
    assert experiment.record("base/eval/shout_base.json")["job_id"] == ids["tiny.base.shout"]


def test_waits_for_a_full_queue_and_a_drained_partition_are_told_once(tmp_path: Path) -> None:
    """Neither is an error, nor does what waits for the partition keep others waiting."""
    experiment = sleeping(tmp_path, train=0)
    directive(experiment, "r4/finetune.slurm", "--partition=short")
    experiment.edit("r4/finetune.slurm", "--time=00:10:00", "--time=00:05:00")
    client("scontrol", "update", "partitionname=short", "state=DRAIN")
    others = [sbatch("true", "--hold") for _ in range(2)]
    said = "waiting: 2 of your jobs are in the queue, none of this experiment (slurm-attached-max-queued)"
    try:
        started = Run(experiment.path, *AT_ONCE, "--slurm-attached-max-queued", "2")
        started.until(said)
        until(lambda: said in (experiment.path / "run-torchtune.log").read_text())
        status = [sys.executable, "-c", "from run_experiment.cli import main; main()", "status", str(experiment.path)]
        assert said in subprocess.run(status, capture_output=True, text=True, timeout=60, check=True).stdout
        client("scancel", *others)
        until((experiment.path / "r8/eval/shout_epoch0.json").exists)
        assert said not in subprocess.run(status, capture_output=True, text=True, timeout=60, check=True).stdout
    finally:
        client("scontrol", "update", "partitionname=short", "state=UP")
    assert started.wait() == 0, started.output
    assert started.output.count(said) == 1
    delay = "tiny.r4: not submitted yet, trying again until SLURM accepts it"
    assert started.output.count(delay) == 1
    assert "Required partition not available (inactive or drain)" in started.output
    assert names(experiment.path) == Counter(ALL)
