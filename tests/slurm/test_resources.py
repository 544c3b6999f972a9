"""Jobs that the SLURM executor submits get what `sbatch` gives the same script: SLURM itself is the judge."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

from run_experiment.jobscripts.sbatch_lines import read_directives, snakemake_resources

# What a job got; by which options is not compared.
GOT = re.compile(
    "Num(Nodes|CPUs|Tasks)|TRES|TimeLimit|Partition|Account|QOS|Features|OverSubscribe|Contiguous|ExcNodeList"
    "|Nice|Requeue|MailUser|MailType|Licenses|Reservation"
)

SCRIPTS = {
    "nothing": [],
    "as rendered": ["--nodes=1", "--ntasks=1", "--cpus-per-task=4", "--gres=gpu:1", "--mem=9G", "--time=04:00:00"],
    "GPUs of a node": ["--gres=gpu:2", "-c 2", "--mem=4G"],
    # Of one node: other tests may leave so many free on both together only.
    "GPUs of a job": ["--nodes=1", "--gpus=3", "--cpus-per-gpu=2"],
    "GPUs of each node": ["-N2", "--gpus-per-node=2", "--mem-per-gpu=1G"],
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


def script(lines: list[str]) -> str:
    return "\n".join(["#!/bin/bash", *[f"#SBATCH {line}" for line in lines], "sleep 300"]) + "\n"


class _Resources(dict):
    def __getattr__(self, name: str) -> int | str:
        return self[name]


def executor_command(text: str) -> list[str]:
    """What the stock executor runs for a job with the script's resources, as a shell splits it."""
    found = snakemake_resources(read_directives(text))
    job = SimpleNamespace(resources=_Resources(found), threads=3)
    if "slurm_extra" in found:
        validate_slurm_extra(job)
    account, partition = found.get("slurm_account"), found.get("slurm_partition")
    params = {
        "run_uuid": "u",
        "slurm_logfile": "/dev/null",
        "comment_str": "c",
        "account": f"-A {account}" if account else "",
        "partition": f"-p {partition}" if partition else "",
        "workdir": "/tmp",
    }
    return shlex.split(get_submit_command(job, params) + set_gres_string(job))


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


def commands(lines: list[str], folder: Path) -> list[list[str]]:
    """How a script is submitted by hand, and by the executor."""
    file = folder / "job.slurm"
    file.write_text(script(lines))
    by_hand = ["sbatch", "--parsable", "--output=/dev/null", str(file)]
    return [by_hand, [*executor_command(file.read_text()), "--wrap=sleep 300"]]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_executor_gets_what_the_script_gets(name: str, tmp_path: Path, jobs: list[str]) -> None:
    got = []
    for command in commands(SCRIPTS[name], tmp_path):
        result = submitted(command)
        assert result.stderr == ""
        jobs.append(result.stdout.strip())
        got.append(allocated(jobs[-1]))
        slurm("scancel", jobs[-1])
    by_hand, by_executor = got
    assert {"NumCPUs", "TRES", "TimeLimit", "Partition", "Account", "QOS"} <= by_hand.keys()
    assert by_executor == by_hand


@pytest.mark.parametrize("name", REFUSED)
def test_slurm_refuses_the_same(name: str, tmp_path: Path, jobs: list[str]) -> None:
    by_hand, by_executor = (submitted(command) for command in commands(REFUSED[name], tmp_path))
    jobs += [result.stdout.strip() for result in (by_hand, by_executor) if result.stdout]
    assert by_hand.returncode != 0
    assert by_executor.stderr == by_hand.stderr
