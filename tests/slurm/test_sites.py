"""Habits of sites and of their users: signals, interpreters, wrappers, folders that are tidied away, odd names."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

from cluster_runs import (
    AT_ONCE,
    Run,
    client,
    cluster_name,
    jobs,
    names,
    of_another_cluster,
    run,
    running,
    sleeping,
    submission_shim,
    until,
    without_accounts,
)
from experiments import ExperimentFolder
from scaffolded import Scaffold, make_scaffolded

from run_experiment.slurm.ledger import PATH, Ledger

# Both train only when a signal has told them to, and end well.
IN_BASH = """#!/bin/bash
#SBATCH --gres=gpu:1 --mem=800M --time=5 --signal=B:USR1@60
early() { python train.py r4 1; exit 0; }
trap early USR1
touch r4/waits
while :; do sleep 0.2; done
"""
IN_PYTHON = """#!/usr/bin/env python3
#SBATCH --gres=gpu:1 --mem=800M --time=5
import pathlib, signal, subprocess, sys
def early(*_):
    subprocess.run([sys.executable, "train.py", "r8", "1"], check=True)
    sys.exit()
signal.signal(signal.SIGUSR2, early)
pathlib.Path("r8/waits").touch()
while True:
    signal.pause()
"""


def test_signals_reach_scripts_which_run_with_what_their_first_line_names(tmp_path: Path) -> None:
    """One is sent by SLURM itself, before the time is over, the other by hand; the cluster keeps no accounts."""
    experiment = sleeping(tmp_path)
    for name, script in (("r4", IN_BASH), ("r8", IN_PYTHON)):
        (experiment.path / name / "finetune.slurm").write_text(script)
    started = Run(experiment.path, *AT_ONCE, environment=without_accounts(tmp_path))
    ids = running(experiment.path, "tiny.r4", "tiny.r8")
    until(lambda: all((experiment.path / name / "waits").exists() for name in ("r4", "r8")))
    until(lambda: "2 jobs: 0 PENDING, 2 RUNNING" in (experiment.path / "run-torchtune.log").read_text())
    client("scontrol", "update", f"jobid={ids['tiny.r4']}", "timelimit=1")
    client("scancel", "--batch", "--signal=USR2", ids["tiny.r8"])
    assert started.wait() == 0, started.output
    assert "ended as" not in started.output
    # Figures that accounting will never have are not waited for, which takes 30 s.
    assert time.time() - (experiment.path / "results/summary.md").stat().st_mtime < 20


def test_jobs_whose_log_folder_was_tidied_away_are_submitted_again(tmp_path: Path) -> None:
    """Nothing ran, and their end says nothing; a wrapper of sbatch has numbers, words and an end of its own."""
    experiment = sleeping(tmp_path, train=0)
    held = "#SBATCH --begin=now+1hour\n"
    experiment.edit("r4/finetune.slurm", "#SBATCH", f"{held}#SBATCH")
    failing = submission_shim(tmp_path / "failing", 'echo 4096; "$real" "$@"; echo "wrapper: no mail" >&2; exit 1')
    first = Run(experiment.path, *AT_ONCE, environment=failing, config=["only=r4"])
    first.until("tiny.r4: submitted as SLURM job")
    # The folder is made again while a command follows its jobs, and else once they have failed for it.
    shutil.rmtree(experiment.path / "logs")
    until((experiment.path / "logs/slurm").is_dir)
    first.kill()
    submitted = Ledger(experiment.path / PATH).open()["r4/finetune.json"].job_id
    assert submitted in client("squeue", "--noheader", "--format=%A").split()
    shutil.rmtree(experiment.path / "logs")
    client("scontrol", "update", f"jobid={submitted}", "starttime=now+3")
    until(lambda: [job.state for job in jobs(experiment.path)] == ["FAILED"])
    experiment.edit("r4/finetune.slurm", held, "")
    counting = submission_shim(
        tmp_path / "counting",
        'for last in "$@"; do [ "$last" = tiny.r8 ] && { echo "sbatch: error: no budget" >&2; exit 1; }; done\n'
        'echo 4096; exec "$real" "$@"',
    )
    # As in an allocation, where the SLURM executor removes SLURM's variables.
    second = Run(experiment.path, *AT_ONCE, environment={**counting, "SLURM_JOB_ID": "4711"})
    assert second.wait() == 1
    said = second.output
    assert f"SLURM could not write {experiment.path}/logs/slurm/tiny.r4-{submitted}.out: its folder has to" in said
    assert "it is submitted again: SLURM could not write its output, retry 1 of 3" in said
    assert "r8: was not submitted: sbatch: error: no budget" in said.partition("Not done:")[2]
    assert names(experiment.path) == Counter(
        {"tiny.r4": 2, "tiny.r4.shout.e0": 1, "tiny.base.shout": 1},
    )


LONG = "r4" + "".join(f"-{number}" for number in range(10, 52))


def with_long_names(experiment: ExperimentFolder) -> None:
    """One run and its evaluation, with names as long as the schema allows: together more than a file's name may be."""
    (experiment.path / "r4").rename(experiment.path / LONG)
    for path in (experiment.path / LONG).rglob("*.*"):
        path.write_text(path.read_text().replace("r4", LONG))
    values = experiment.read()
    values["experiment"]["name"] = 128 * "t"
    values["runs"] = [values["runs"][0] | {"name": LONG}]
    values["evaluation"]["matrix"] = [values["evaluation"]["matrix"][0] | {"run": LONG}]
    experiment.write(values)


def test_odd_names_and_places_accounts_of_the_profile_and_nodes_without_a_home(tmp_path: Path) -> None:
    """From a login node of another cluster, after scripts that no job may have were refused."""
    experiment = make_scaffolded(tmp_path / "it's lr{run}={x}/experiment", scaffold=Scaffold(inspect=True))
    with_long_names(experiment)
    training, evaluation = f"{LONG}/finetune.slurm", f"{LONG}/eval/shout_epoch0.slurm"
    experiment.edit(training, "#SBATCH", "#SBATCH --begin=now+2 --export=NONE --mem=800M\n#SBATCH")
    experiment.edit(evaluation, "#SBATCH", "#SBATCH --account=lab --mem=800M\n#SBATCH")
    submitted = (experiment.path / evaluation).read_text()
    experiment.edit(evaluation, "#SBATCH --acc", f"#SBATCH --clusters={cluster_name()}\n#SBATCH hetjob\n#SBATCH --acc")
    profile = [*AT_ONCE, "--default-resources", "slurm_account=guests"]
    unix = (experiment.path / training).read_bytes()
    (experiment.path / training).write_bytes(unix.replace(b"\n", b"\r\n"))
    refused = run(experiment.path, *profile)
    assert (refused.process.returncode, jobs(experiment.path)) == (2, []), refused.output
    assert f"{training}:1: its lines end as on Windows" in refused.output
    assert f"{evaluation}:2: --clusters='{cluster_name()}': not allowed: jobs run on one cluster" in refused.output
    assert f"{evaluation}:3: 'hetjob' is not allowed: one script is one job" in refused.output
    (experiment.path / training).write_bytes(unix)
    (experiment.path / evaluation).write_text(submitted)
    homeless = {"HOME": "/proc/nohome", "XDG_DATA_HOME": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    accepted = Run(experiment.path, *profile, environment={**homeless, **of_another_cluster(tmp_path)})
    assert accepted.wait() == 0, accepted.output
    ids = [experiment.record(script.replace(".slurm", ".json"))["job_id"] for script in (training, evaluation)]
    accounts = client("sacct", "-XnP", "-j", ",".join(ids), "-o", "JobIDRaw,Account,State").split()
    assert accounts == [f"{ids[0]}|guests|COMPLETED", f"{ids[1]}|lab|COMPLETED"]
    assert "accounting has no figures" not in (experiment.path / "run-torchtune.log").read_text()
