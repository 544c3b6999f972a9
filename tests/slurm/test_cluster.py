"""The test cluster does what tests of other parts rely on: GPUs, accounting, limits, nodes that die and come back."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# They share a cluster of their own.
pytestmark = pytest.mark.xdist_group("cluster")

CLUSTER = Path(__file__).parent / "cluster"

ENVIRONMENT = dict(os.environ)
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "n1", "n2")


def cluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CLUSTER, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def own_cluster() -> Iterator[Path]:
    """A cluster beside the one of other tests, since these end its daemons; its sockets want a short path."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    ENVIRONMENT["RUN_EXPERIMENT_SLURM"] = str(folder)
    try:
        result = cluster("up")
        assert result.returncode == 0, result.stderr
        ENVIRONMENT["SLURM_CONF"] = result.stdout.strip().partition("=")[2]
        yield folder
    finally:
        assert cluster("down").returncode == 0
    assert not folder.exists()


def slurm(*command: str) -> str:
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.rstrip("\n")


def refusal(*options: str) -> str:
    with pytest.raises(AssertionError) as raised:
        sbatch("true", *options)
    return str(raised.value)


def sbatch(script: str, *options: str) -> str:
    return slurm("sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", *options, f"--wrap={script}")


def sacct(job: str, column: str) -> list[str]:
    """A column of the job and its steps."""
    return slurm("sacct", "-nP", "-j", job, "-o", column).splitlines()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, slurm("sinfo") + "\n" + slurm("squeue")
        time.sleep(0.2)


def finish(job: str, steps: int = 1) -> None:
    """Wait until accounting has the end of a job and of its steps."""
    until(lambda: len(sacct(job, "End")) == 1 + steps and "Unknown" not in sacct(job, "End"))


def start(script: str, *options: str) -> str:
    job = sbatch(script, *options)
    until(lambda: sacct(job, "State")[:1] == ["RUNNING"])
    return job


@pytest.mark.parametrize("account", ["lab", "guests"])
def test_accounts(account: str) -> None:
    job = sbatch("true", f"--account={account}")
    finish(job)
    assert sacct(job, "Account,State") == [f"{account}|COMPLETED"] * 2


def test_jobs_get_gpus_of_their_own(tmp_path: Path) -> None:
    script = 'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"; sleep 2'
    jobs = [sbatch(script, "--gres=gpu:1", "--mem=100", f"--output={tmp_path}/%j") for _ in range(8)]
    for job in jobs:
        finish(job)
    given = {(tmp_path / job).read_text().strip() for job in jobs}
    assert given == {f"{node} {gpu}" for node in ("n1", "n2") for gpu in range(4)}


def test_accounting_has_gpus_memory_and_time() -> None:
    work = "x = bytearray(200 << 20); import time\nwhile time.process_time() < 3: pass"
    job = sbatch(f"python3 -c '{work}'", "--gres=gpu:2", "--cpus-per-task=2", "--mem=400M")
    finish(job)
    assert "gres/gpu=2" in sacct(job, "AllocTRES")[0]
    assert sacct(job, "AllocCPUS,ReqMem,Timelimit,State,ExitCode")[0] == "2|400M|00:10:00|COMPLETED|0:0"
    assert int(sacct(job, "ElapsedRaw")[0]) >= 3
    assert sacct(job, "TotalCPU")[0] >= "00:03.000"
    # In K, or in M if that is a whole number.
    peak = sacct(job, "MaxRSS")[1]
    assert 200 < int(peak[:-1]) / {"K": 1024, "M": 1}[peak[-1]] < 300


def test_too_much_memory_ends_a_job() -> None:
    job = sbatch("python3 -c 'x = bytearray(300 << 20); import time; time.sleep(60)'", "--mem=60M")
    finish(job)
    assert sacct(job, "State,ExitCode")[0] == "FAILED|0:9"


def test_impossible_requests_are_refused() -> None:
    assert "Memory specification can not be satisfied" in refusal("--mem=999G")
    assert "Requested time limit is invalid" in refusal("--partition=short", "--time=10")
    assert "Invalid account" in refusal("--account=unheard-of")


def test_limits_hold() -> None:
    slurm("sacctmgr", "-i", "modify", "user", "nobody", "set", "maxsubmitjobs=1")
    first = start("sleep 60", "--uid=nobody")
    assert "Job violates accounting/QOS policy" in refusal("--uid=nobody")
    slurm("scancel", first)


def test_a_cancelled_job_names_who() -> None:
    job = start("sleep 60")
    slurm("scancel", job)
    finish(job)
    assert sacct(job, "State")[0] == "CANCELLED by 0"


def test_a_preempted_job_is_requeued() -> None:
    low = start("sleep 60", "--partition=preemptible", "--nodelist=n1", "--exclusive")
    finish(sbatch("true", "--nodelist=n1"))
    assert " Restarts=1 " in slurm("scontrol", "--oneliner", "show", "job", low)
    slurm("scancel", low)


def test_a_dead_node_loses_its_jobs_and_comes_back() -> None:
    lost, kept = start("sleep 300", "--nodelist=n2", "--no-requeue"), start("sleep 300", "--nodelist=n1")
    assert cluster("kill", "n2").returncode == 0
    assert cluster("status").returncode == 1
    until(lambda: sacct(lost, "State")[0] == "NODE_FAIL")
    assert sacct(kept, "State")[0] == "RUNNING"
    slurm("scancel", kept)
    assert cluster("up").returncode == 0
    assert cluster("status").returncode == 0


def test_jobs_outlive_all_daemons() -> None:
    job = start("sleep 12")
    for daemon in DAEMONS:
        assert cluster("stop", daemon).returncode == 0
    assert cluster("up").returncode == 0
    finish(job)
    assert sacct(job, "State") == ["COMPLETED"] * 2


def test_up_restarts_what_was_killed() -> None:
    for daemon in reversed(DAEMONS):
        assert cluster("kill", daemon).returncode == 0
    assert cluster("status").stdout.count("not running") == len(DAEMONS)
    assert cluster("up").returncode == 0
    finish(sbatch("true"))


def test_a_pid_file_of_another_process_is_stale(own_cluster: Path) -> None:
    (own_cluster / "run/n2.pid").rename(own_cluster / "run/n2.kept")
    (own_cluster / "run/n2.pid").write_text(f"{os.getpid()}\n")
    assert "n2         not running" in cluster("status").stdout
    assert cluster("kill", "n2").returncode == 0
    (own_cluster / "run/n2.kept").rename(own_cluster / "run/n2.pid")
    assert cluster("status").returncode == 0


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for command in ("up", "down"):
        environment = {**ENVIRONMENT, "RUN_EXPERIMENT_SLURM": str(tmp_path)}
        result = subprocess.run([CLUSTER, command], env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert "is not a folder of this script" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
