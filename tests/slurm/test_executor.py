"""On a real cluster: every job is submitted once, whatever becomes of the main process."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from cluster_runs import (
    ALL,
    AT_ONCE,
    ONLY_R4,
    Run,
    client,
    cluster_name,
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
from inspect_ai.log import read_eval_log
from scaffolded import SITE, Scaffold, make_scaffolded
from snakemake_cli import SOURCE

from run_experiment.inputs.file_hashes import hash_memory
from run_experiment.status.read import read_status

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def test_one_job_for_each_training_and_evaluation(tmp_path: Path) -> None:
    """Evaluations of a run begin when it is trained, while others still train."""
    experiment = sleeping(tmp_path)
    experiment.edit("r8/finetune.slurm", "sleep 3", "sleep 20")
    result = run(experiment.path, *AT_ONCE)
    assert result.process.returncode == 0, result.output
    found = {job.name: job for job in settled(experiment.path, 5)}
    assert names(experiment.path) == Counter(ALL)
    assert {job.state for job in found.values()} == {"COMPLETED"}
    assert {job.gpus for job in found.values()} == {1}
    assert str(found["tiny.r4.shout.e0"].start) < str(found["tiny.r8"].end)
    again = run(experiment.path)
    assert again.process.returncode == 0
    assert "Nothing to be done" in again.output


def test_nothing_is_lost_or_done_twice_when_the_main_process_is_killed_again_and_again(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=25, evaluate=10, epochs=2)
    chance = random.Random()
    for _ in range(8):
        started = Run(experiment.path, *AT_ONCE)
        # Up to the middle of what it does: it begins to submit after some 3 s.
        time.sleep(chance.uniform(1, 7))
        started.kill()
    last = run(experiment.path, *AT_ONCE)
    assert last.process.returncode == 0, last.output
    found = settled(experiment.path, 7)
    assert Counter(job.name for job in found) == Counter(
        ["tiny.base.shout", *[f"tiny.{run}{rest}" for run in ("r4", "r8") for rest in ("", ".shout.e0", ".shout.e1")]]
    )
    assert {job.state for job in found} == {"COMPLETED"}


def test_a_job_of_another_configuration_is_cancelled_not_adopted(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    first = Run(experiment.path, *AT_ONCE)
    until(lambda: sum(job.state == "RUNNING" for job in jobs(experiment.path)) >= 2)
    first.kill()
    experiment.set_parameters("r4", lr=0.02)
    second = Run(experiment.path, *AT_ONCE)
    second.until("cancelled")
    go.touch()
    assert second.wait() == 0, second.output
    found = settled(experiment.path, 6)
    assert Counter((job.name, job.state) for job in found if "." not in job.name.removeprefix("tiny.")) == Counter(
        {("tiny.r4", "CANCELLED"): 1, ("tiny.r4", "COMPLETED"): 1, ("tiny.r8", "COMPLETED"): 1}
    )
    record = experiment.record("r4/finetune.json")
    assert record["config"]["hyperparameters"]["lr"] == 0.02
    assert record["job_id"] == next(job.job_id for job in found if (job.name, job.state) == ("tiny.r4", "COMPLETED"))


def test_interrupts_detach(tmp_path: Path) -> None:
    """First in the middle of a staggered submission: one training is submitted, the other one waits."""
    experiment = sleeping(tmp_path)
    go = hold(experiment, "r4/finetune.slurm", "r8/finetune.slurm", "base/eval/shout_base.slurm")
    staggered = ("--set-resources", "run_finetune:stagger=600", "run_evaluation:stagger=600")
    for number, last in zip(SIGNALS, ("submitted", "following", "following"), strict=True):
        session = Run(experiment.path, *staggered)
        session.until(f"tiny.r4: {last}")
        session.interrupt(number)
        assert session.wait() == 128 + number, session.output
        assert "running; nothing more is submitted" in session.output
        assert "the same command" in session.output
        assert ": scancel " in session.output
        assert "Terminating processes" not in session.output
        assert "Not done:" not in session.output
        if last == "submitted":
            time.sleep(4)
            assert names(experiment.path) == Counter(["tiny.r4"])
    assert max(names(experiment.path).values()) == 1
    assert all(job.state in ("PENDING", "RUNNING") for job in jobs(experiment.path))

    final = Run(experiment.path, *AT_ONCE)
    final.until("tiny.r4: following SLURM job")
    go.touch()
    assert final.wait() == 0, final.output
    assert names(experiment.path) == Counter(ALL)


def test_jobs_are_cancelled_at_an_interrupt_where_that_is_set(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=60)
    first = Run(experiment.path, *AT_ONCE, "--slurm-attached-on-interrupt", "cancel")
    until(lambda: len(jobs(experiment.path)) >= 2)
    first.interrupt(signal.SIGINT)
    assert first.wait() == 130, first.output
    found = settled(experiment.path, 2)
    assert "CANCELLED" in {job.state for job in found}
    assert {job.state for job in found} <= {"CANCELLED", "COMPLETED"}


def test_a_job_that_was_cancelled_and_has_not_left_yet_is_submitted_again(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    first = Run(experiment.path, *AT_ONCE, config=["only=r4"])
    job_id = running(experiment.path, "tiny.r4")["tiny.r4"]
    first.kill()
    comment = client("squeue", "-hj", job_id, "-o%k").strip()
    client("scancel", job_id)
    settled(experiment.path, 1)
    go.touch()
    # What squeue prints is between marks that differ each time; its format has them.
    fields = f'"$mark"{job_id}"$mark"COMPLETING"$mark"None"$mark"tiny.r4"$mark"{comment}"$mark"'
    body = (
        "for last; do :; done; mark=${last##*%k}\n"
        f"mkdir {tmp_path}/asked 2>/dev/null && echo {fields}\n"
        'exec "$real" "$@"'
    )
    second = Run(experiment.path, *AT_ONCE, environment=shim(tmp_path / "bin", "squeue", body), config=["only=r4"])
    assert second.wait() == 0, second.output
    assert f"tiny.r4: following SLURM job {job_id} again (COMPLETING)" in second.output
    assert "it is submitted again: it was cancelled before this command began" in second.output
    assert [job.state for job in settled(experiment.path, 2)] == ["CANCELLED", "COMPLETED"]


def test_a_cancelled_training_stops_no_other_and_is_made_by_the_same_command(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    started = Run(experiment.path, *AT_ONCE)
    client("scancel", running(experiment.path, "tiny.r4")["tiny.r4"])
    # It is reported at once, while the other one still trains.
    started.until("ended as CANCELLED by root")
    go.touch()
    assert started.wait() == 1
    assert "tiny.r4.shout.e0" not in names(experiment.path)
    assert names(experiment.path)["tiny.r8.shout.e0"] == 1
    again = run(experiment.path, *AT_ONCE)
    assert again.process.returncode == 0, again.output
    assert names(experiment.path) == Counter([*ALL, "tiny.r4"])


def test_a_job_that_failed_while_nobody_looked_is_told_and_the_next_command_makes_it(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=6)
    experiment.set_parameters("r4", lr=13.0)
    first = Run(experiment.path, *AT_ONCE)
    until(lambda: {"tiny.r4", "tiny.r8"} <= set(names(experiment.path)))
    first.kill()
    settled(experiment.path, 2)
    second = run(experiment.path, *AT_ONCE)
    assert second.process.returncode == 1
    assert "unlucky learning rate" in second.output
    assert names(experiment.path)["tiny.r4"] == 1
    experiment.set_parameters("r4", lr=0.01)
    third = run(experiment.path, *AT_ONCE)
    assert third.process.returncode == 0, third.output
    assert names(experiment.path) == Counter([*ALL, "tiny.r4"])


def test_a_failure_of_another_configuration_that_nobody_saw_is_told_no_more(tmp_path: Path) -> None:
    """Neither when that configuration is wanted again: then it is tried."""
    experiment = sleeping(tmp_path, train=1)
    experiment.set_parameters("r4", lr=13.0)
    first = Run(experiment.path, *AT_ONCE, config=["only=r4"])
    until(lambda: "tiny.r4" in names(experiment.path))
    first.kill()
    settled(experiment.path, 1)
    experiment.set_parameters("r4", lr=0.01)
    second = run(experiment.path, *AT_ONCE, config=["only=r4"])
    assert second.process.returncode == 0, second.output
    experiment.set_parameters("r4", lr=13.0)
    third = run(experiment.path, *AT_ONCE, config=["only=r4"])
    assert third.process.returncode == 1
    assert names(experiment.path) == Counter({"tiny.r4": 3})


def test_what_slurm_refuses_is_said_before_anything_is_submitted(tmp_path: Path) -> None:
    """Nor is anything submitted to another cluster, where no job would be looked for."""
    experiment = sleeping(tmp_path, train=1)
    elsewhere = Run(experiment.path, *AT_ONCE, "-n", environment={"SBATCH_CLUSTERS": cluster_name()})
    assert elsewhere.wait() == 2, elsewhere.output
    assert "SBATCH_CLUSTERS is set in the environment: jobs run on one cluster" in elsewhere.output
    elsewhere = run(experiment.path, *AT_ONCE, "--default-resources", f"clusters={cluster_name()}")
    assert elsewhere.process.returncode == 2, elsewhere.output
    assert "resource clusters: jobs run on one cluster" in elsewhere.output
    experiment.edit("r4/finetune.slurm", "--mem=800M", "--mem=800M --account=unheard-of")
    experiment.edit("base/eval/shout_base.slurm", "#SBATCH --time", "#SBATCH --time=soon\n#SBATCH --time")
    experiment.edit("base/eval/shout_base.slurm", "#SBATCH --time=0", "# --time=0")
    # Of a plugin that this site does not have.
    experiment.edit("r8/finetune.slurm", "#SBATCH --time", "#SBATCH --uenv=prgenv\n#SBATCH --time")
    result = run(experiment.path, *AT_ONCE)
    assert result.process.returncode == 2, result.output
    assert re.search(r"^r4/finetune\.slurm:\d+: SLURM refuses it: .*account", result.output, re.MULTILINE)
    assert re.search(r"^r8/finetune\.slurm:\d+: SLURM refuses it: .*uenv", result.output, re.MULTILINE)
    assert re.search(r"^base/eval/shout_base\.slurm:\d+: SLURM refuses it: .*time", result.output, re.MULTILINE)
    assert names(experiment.path) == Counter()


def test_a_refused_job_stops_no_other(tmp_path: Path) -> None:
    """As where a script is edited in the meantime, since all are tried before the first submission."""
    experiment = sleeping(tmp_path, train=1)
    late = r"""case "$*" in *tiny.r4\ *) sed 's/--mem=800M/--mem=900G/' | "$real" "$@"; exit;; esac"""
    environment = submission_shim(tmp_path / "shims", f'{late}\nexec "$real" "$@"')
    result = Run(experiment.path, *AT_ONCE, environment=environment)
    assert result.wait() == 1, result.output
    assert "Memory specification can not be satisfied" in result.output
    refused = "was not submitted: sbatch: error: Memory specification can not be satisfied"
    assert f"r4: {refused}" in result.output.partition("Not done:")[2]
    missing = read_status(experiment.path, hash_memory(experiment.path)).missing
    found = {item.subject: (item.state, item.reason) for item in missing}
    assert found["r4"] == ("failed", refused)
    assert found["r4/shout/epoch0"][1] == "its training was not submitted"
    assert refused in (experiment.path / "results/summary.md").read_text()
    assert set(ALL) - set(names(experiment.path)) >= {"tiny.r4.shout.e0"}
    assert names(experiment.path)["tiny.r8.shout.e0"] == 1


def test_a_training_that_is_taken_back_is_noticed(tmp_path: Path) -> None:
    """The job restores the record of another job."""
    experiment = sleeping(tmp_path, train=1)
    assert run(experiment.path, *AT_ONCE, config=ONLY_R4).process.returncode == 0
    first = experiment.record("r4/finetune.json")
    (experiment.path / "r4/finetune.json").unlink()
    again = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert again.process.returncode == 0, again.output
    assert experiment.record("r4/finetune.json")["job_id"] == first["job_id"]
    assert names(experiment.path)["tiny.r4"] == 2


def test_the_rules_run_under_the_stock_executor_too(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=1)
    # It drops the variable that says where the cluster's configuration is, which elsewhere is in its usual place.
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin/srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={os.environ["SLURM_CONF"]} exec /usr/bin/srun "$@"\n')
    srun.chmod(0o755)
    # There, profiles say what jobs ask for, in which are two more Snakemakes each.
    asked_for = ["--default-resources", "gpu=1", "mem_mb=2000"]
    command = [sys.executable, "-m", "snakemake", "--executor", "slurm", "--jobs", "10", *asked_for]
    config = ["--config", f"experiment_dir={experiment.path}", *ONLY_R4]
    result = subprocess.run(
        [*command, "--slurm-init-seconds-before-status-checks", "2", *config],
        cwd=SOURCE,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    ids = re.findall(r"has been submitted with SLURM jobid (\d+)", result.stdout)
    assert len(ids) == 2
    asked = client("sacct", "-XnP", "-j", ",".join(ids), "-o", "ReqTRES").splitlines()
    assert all("gres/gpu=1" in line for line in asked)
    assert len(list(experiment.path.glob("*/eval/*.json"))) == 1


@pytest.mark.parametrize("cell_folders", [True, False], ids=["a folder a cell", "scripts side by side"])
def test_a_scaffolded_folder_runs_as_it_is(tmp_path: Path, cell_folders: bool) -> None:
    """With lines for modules and conda that this machine has not, and logs in a folder of its own.

    Scripts side by side run inspect-ai itself; on this machine, a folder a cell does, too.
    """
    log_dir = "../../their_logs" if cell_folders else '"${{PWD}}/all_logs"'
    scaffold = Scaffold(
        cell_folders,
        log_dir,
        site=SITE,
        sleep=(1, 1),
        parameters={"learning_rat": 3, "packed_bins": True},
        inspect=not cell_folders,
    )
    # inspect-ai takes its time.
    epochs, evaluations = (2, 5) if cell_folders else (1, 3)
    experiment = make_scaffolded(tmp_path / "experiment", epochs, scaffold)
    before = {path: path.read_bytes() for path in experiment.path.rglob("*") if path.is_file()}
    result = run(experiment.path, *AT_ONCE)
    assert result.process.returncode == 0, result.output
    assert "controls.learning_rat: unknown key" in result.output
    assert {path: path.read_bytes() for path in before} == before
    cells = list(experiment.path.glob("*/eval/*.json"))
    assert len(cells) == evaluations
    for path in cells:
        log = read_eval_log(str(path.parent / "logs" / f"{path.stem}.eval"), header_only=True)
        assert any(experiment.record(str(path))["job_id"] in tag for tag in log.eval.tags or [])
    assert len(settled(experiment.path, evaluations + 2)) == evaluations + 2
