"""Jobs that the SLURM executor submits get what `sbatch` gives the same script: SLURM itself is the judge."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from run_experiment.jobscripts.sbatch_lines import read_options
from snakemake_executor_plugin_slurm_attached import ExecutorSettings
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Overrides, sbatch_call

# What a job got, and what GPUs were asked for by: filters of sites look for one option or another.
GOT = re.compile(
    "Num(Nodes|CPUs|Tasks)|TRES|TresPer(Job|Node|Socket|Task)|TimeLimit|Partition|Account|QOS|Features|OverSubscribe|Contiguous|ExcNodeList"
    "|Nice|Requeue|MailUser|MailType|Licenses|Reservation"
)

SCRIPTS = {
    "nothing": [],
    "as rendered": ["--nodes=1", "--ntasks=1", "--cpus-per-task=4", "--gres=gpu:1", "--mem=9G", "--time=04:00:00"],
    "GPUs of a node": ["--gres=gpu:2", "-c 2", "--mem=4G"],
    # Of one node: other tests may leave so many free on both together only.
    "GPUs of a job": ["--nodes=1", "--gpus=3", "--cpus-per-gpu=2"],
    "GPUs of each node": ["-N2", "--gpus-per-node=2", "--mem-per-gpu=1G"],
    "GPUs by two options": ["--gres=gpu:2 --gpus-per-task=1 --ntasks=2"],
    "GPUs of each task": ["-N1", "-n2", "--gpus-per-task=2", "-c1"],
    "memory of a CPU": ["--mem-per-cpu=500M", "-c", "4"],
    "memory of a node": ["--mem=0", "--exclusive"],
    "tasks": ["--nodes=2", "--ntasks-per-node=2", "--mem=1G"],
    "minutes": ["-t 90"],
    "minutes and seconds": ["--time=90:30"],
    "days": ["--time=0-12"],
    "site": ["--partition=short", "--account=guests", "--qos=normal"],
    "partitions": ["--partition=gpu,preemptible"],
    "mail": ["--mail-type=END,FAIL --mail-user=me@uni.edu # ours"],
    "nodes": ["--exclude=n1", "--nice=10", "--no-requeue", "--signal=B:USR1@60"],
    "named nodes": ["--nodelist=n[1-2]", "--nodes=2", "--contiguous"],
}
REFUSED = {
    "a type of GPU that no node has": ["--gres=gpu:a100:1"],
    "a feature that no node has": ["--constraint='gpu80|gpu40'"],
    "more memory than there is": ["--mem=999G"],
    "more time than there may be": ["--partition=short", "--time=10"],
    "no such account": ["--account=unheard-of"],
}
# A script's lines, resources that win over them, and lines that ask for the same.
OVERRIDDEN: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "memory": (["--mem-per-cpu=100M", "-c 2"], {"mem_mb": 300}, ["--mem=300", "-c 2"]),
    "memory of a CPU": (["--mem=900M", "-c 2"], {"mem_mb_per_cpu": 150}, ["--mem-per-cpu=150M", "-c 2"]),
    "GPUs": (["--gres=gpu:2", "--mem=1G"], {"gpu": 1}, ["--gres=gpu:1", "--mem=1G"]),
    "GPUs by another option": (["--gpus=2", "-N1"], {"gres": "gpu:1"}, ["--gres=gpu:1", "-N1"]),
    "time and partition": (["-t 9"], {"runtime": 4, "slurm_partition": "short"}, ["--time=4", "-p short"]),
    "CPUs": (["-N1", "-G1", "--cpus-per-gpu=2"], {"cpus_per_task": 1}, ["-N1", "-G1", "-c1"]),
    "further options": (["--nice=10 --mem=900M"], {"slurm_extra": "--nice=20"}, ["--nice=20", "--mem=900M"]),
}


def script(lines: list[str]) -> str:
    return "\n".join(["#!/bin/bash", *[f"#SBATCH {line}" for line in lines], "sleep 300"]) + "\n"


def submitted(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/tmp")


def allocated(job: str) -> dict[str, str]:
    """What a job got, once it runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        text = slurm("scontrol", "--oneliner", "show", "job", job)
        if " JobState=RUNNING " in text:
            return {name: value for name, value in re.findall(r"(\S+?)=(\S*)", text) if GOT.fullmatch(name)}
        time.sleep(0.1)
    raise AssertionError(f"does not start: {text}")


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def jobs() -> Iterator[list[str]]:
    """Ids of the jobs of a test, which are cancelled at its end."""
    found: list[str] = []
    yield found
    if found:
        slurm("scancel", *found)


def by_hand(lines: list[str], folder: Path) -> list[str]:
    """How a user submits a script."""
    file = folder / "by_hand.slurm"
    file.write_text(script(lines))
    return ["sbatch", "--parsable", "--output=/dev/null", str(file)]


def by_executor(lines: list[str], folder: Path, **wins: Any) -> list[str]:
    """How the executor submits its job."""
    call = sbatch_call(read_options(script(lines)), Overrides(wins, {}), ExecutorSettings())
    file = folder / "by_executor.slurm"
    file.write_text(f"#!/bin/bash\n{call.lines}sleep 300\n")
    return ["sbatch", "--parsable", "--output=/dev/null", *call.arguments, str(file)]


def got(command: list[str], jobs: list[str]) -> dict[str, str]:
    """What a job gets that is submitted so."""
    result = submitted(command)
    assert result.stderr == ""
    jobs.append(result.stdout.strip())
    found = allocated(jobs[-1])
    slurm("scancel", jobs[-1])
    assert {"NumCPUs", "TRES", "TimeLimit", "Partition", "Account", "QOS"} <= found.keys()
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_executor_gets_what_the_script_gets(name: str, tmp_path: Path, jobs: list[str]) -> None:
    expected = got(by_hand(SCRIPTS[name], tmp_path), jobs)
    assert got(by_executor(SCRIPTS[name], tmp_path), jobs) == expected


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_an_override_wins_over_the_script(name: str, tmp_path: Path, jobs: list[str]) -> None:
    lines, wins, same_as = OVERRIDDEN[name]
    expected = got(by_hand(same_as, tmp_path), jobs)
    assert got(by_executor(lines, tmp_path, **wins), jobs) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_slurm_refuses_the_same(name: str, tmp_path: Path, jobs: list[str]) -> None:
    hand, executor = submitted(by_hand(REFUSED[name], tmp_path)), submitted(by_executor(REFUSED[name], tmp_path))
    jobs += [result.stdout.strip() for result in (hand, executor) if result.stdout]
    assert hand.returncode != 0
    assert executor.stderr == hand.stderr
