"""Habits of sites and of their users: signals, interpreters, wrappers of sbatch, folders that are tidied away."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from cluster_runs import AT_ONCE, Run, client, jobs, names, running, sleeping, submission_shim, until

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
    """One is sent by SLURM itself, before the time is over, the other by hand."""
    experiment = sleeping(tmp_path)
    for name, script in (("r4", IN_BASH), ("r8", IN_PYTHON)):
        (experiment.path / name / "finetune.slurm").write_text(script)
    started = Run(experiment.path, *AT_ONCE)
    ids = running(experiment.path, "tiny.r4", "tiny.r8")
    until(lambda: all((experiment.path / name / "waits").exists() for name in ("r4", "r8")))
    client("scontrol", "update", f"jobid={ids['tiny.r4']}", "timelimit=1")
    client("scancel", "--batch", "--signal=USR2", ids["tiny.r8"])
    assert started.wait() == 0, started.output
    assert "ended as" not in started.output


def test_jobs_whose_log_folder_was_tidied_away_are_submitted_again(tmp_path: Path) -> None:
    """Nothing ran, and their end says nothing; a wrapper of sbatch has numbers, words and an end of its own."""
    experiment = sleeping(tmp_path, train=0)
    held = "#SBATCH --begin=now+1hour\n"
    experiment.edit("r4/finetune.slurm", "#SBATCH", f"{held}#SBATCH")
    failing = submission_shim(tmp_path / "failing", 'echo 4096; "$real" "$@"; echo "wrapper: no mail" >&2; exit 1')
    first = Run(experiment.path, *AT_ONCE, environment=failing, config=["only=r4"])
    first.until("tiny.r4: submitted as SLURM job")
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
