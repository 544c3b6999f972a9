"""On a real cluster: a job that was cut is submitted again, in the same session, and no other is."""

from __future__ import annotations

import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from cluster_runs import (
    ALL,
    AT_ONCE,
    OF_R4,
    ONLY_R4,
    ClusterJob,
    Run,
    hold,
    jobs,
    names,
    run,
    running,
    settled,
    sleeping,
    time_out,
    until,
)
from experiments import ExperimentFolder

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.evaluation.environment import EVAL_SET_FOLDER

TOO_LONG = "sleep 150"
# What runs a job's script is the job's own process: with it the job is dead, without a word.
KILLED = "kill -9 $PPID; exit 1"
TOO_MUCH = 'python -c "import time; taken = bytearray(1_500_000_000); time.sleep(60)"'
FIRST_ONLY = "[ -e {marker} ] || {{ touch {marker}; {body}; }}"


def cut(experiment: ExperimentFolder, script: str, body: str, always: bool = False) -> None:
    """Have a job's script do something before its work, the first time that it runs or each time."""
    line = body if always else FIRST_ONLY.format(marker=marker(experiment, script), body=body)
    experiment.edit(script, "\nsleep", f"\n{line}\nsleep")


def marker(experiment: ExperimentFolder, script: str) -> Path:
    """What a script that is cut the first time leaves when it has begun."""
    return experiment.path / f"{script.replace('/', '.')}.began"


def by_name(found: list[ClusterJob]) -> dict[str, list[ClusterJob]]:
    return {name: [job for job in found if job.name == name] for name in ALL}


def assert_one_at_a_time(found: list[ClusterJob]) -> None:
    for tries in by_name(found).values():
        assert all(str(former.end) <= str(later.start) for former, later in pairwise(tries))


def test_what_was_cut_is_submitted_again(tmp_path: Path) -> None:
    """Out of time (an evaluation, and a training that saved an epoch), out of memory, and killed."""
    experiment = sleeping(tmp_path, train=2)
    state = experiment.path / "r4/artifacts/epoch_0/recipe_state.pt"
    cut(experiment, "r4/finetune.slurm", f"mkdir -p {state.parent}; touch {state}; {TOO_LONG}")
    cut(experiment, "base/eval/shout_base.slurm", TOO_LONG)
    # As a script whose evaluation the next job continues.
    experiment.edit("base/eval/shout_base.slurm", "set -e\n", f"set -e\nexport INSPECT_LOG_DIR=${EVAL_SET_FOLDER}\n")
    # As of a script that can be told to take less.
    recipe = f": run_experiment.finetuning.recipe --config {experiment.path}/r8/finetune.yaml"
    cut(experiment, "r8/finetune.slurm", f"{recipe}; {TOO_MUCH}")
    cut(experiment, "r8/eval/shout_epoch0.slurm", KILLED)
    result = Run(experiment.path, *AT_ONCE)
    ids = running(experiment.path, "tiny.r4", "tiny.base.shout")
    until(lambda: state.exists() and marker(experiment, "base/eval/shout_base.slurm").exists())
    time_out(ids["tiny.r4"], ids["tiny.base.shout"])
    assert result.wait(300) == 0, result.output
    found = settled(experiment.path, 9)
    states = {name: [job.state for job in tries] for name, tries in by_name(found).items()}
    assert states == {
        "tiny.r4": ["TIMEOUT", "COMPLETED"],
        "tiny.r8": ["FAILED", "COMPLETED"],
        "tiny.base.shout": ["TIMEOUT", "COMPLETED"],
        "tiny.r4.shout.e0": ["COMPLETED"],
        "tiny.r8.shout.e0": ["FAILED", "COMPLETED"],
    }
    assert_one_at_a_time(found)
    for name, why in (("r4", "out of time"), ("r8", "out of memory"), ("r8.shout.e0", "killed")):
        (line,) = [
            line for line in result.output.splitlines() if line.startswith(f"tiny.{name}: SLURM job") and why in line
        ]
        assert line.endswith(f"it is submitted again: {why}, retry 1 of 3")
    assert (
        experiment.record(f"r8/attempts/{by_name(found)['tiny.r8'][0].job_id}/slurm.json")["state"] == "OUT_OF_MEMORY"
    )
    again = run(experiment.path, *AT_ONCE)
    assert "Nothing to be done" in again.output


def test_what_no_other_job_mends_is_reported(tmp_path: Path) -> None:
    """A job that is killed each time, one in whose time limit not one epoch fits, and one that fails by itself."""
    experiment = sleeping(tmp_path)
    cut(experiment, "r4/finetune.slurm", KILLED, always=True)
    cut(experiment, "r8/finetune.slurm", TOO_LONG, always=True)
    cut(experiment, "base/eval/shout_base.slurm", "exit 3", always=True)
    result = Run(experiment.path, *AT_ONCE, config=["retries=1"])
    time_out(running(experiment.path, "tiny.r8")["tiny.r8"])
    assert result.wait(300) == 1
    assert "It was submitted 2 times: raise the setting `retries`" in result.output
    assert "No state that another job could resume from was saved within its time limit: raise" in result.output
    assert "exit status 3" in result.output
    assert result.output.count("it is submitted again") == 1
    found = settled(experiment.path, 4)
    assert names(experiment.path) == Counter(["tiny.r4", "tiny.r4", "tiny.r8", "tiny.base.shout"])
    assert_one_at_a_time(found)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_main_process_before_it_submits_again(tmp_path: Path, number: signal.Signals) -> None:
    experiment = sleeping(tmp_path)
    cut(experiment, "r4/finetune.slurm", KILLED)
    first = Run(experiment.path, "--set-resources", "run_finetune:stagger=600", config=ONLY_R4)
    first.until("tiny.r4: submitted")
    first.until("it is submitted again: killed, retry 1 of 3")
    first.process.send_signal(number)
    assert first.wait() in (-signal.SIGKILL, 128 + signal.SIGTERM), first.output
    assert names(experiment.path)["tiny.r4"] == 1
    second = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert second.process.returncode == 0, second.output
    found = settled(experiment.path, 3)
    assert names(experiment.path) == Counter([*OF_R4, "tiny.r4"])
    assert_one_at_a_time(found)


def test_what_was_cut_while_nobody_looked_is_submitted_again(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    cut(experiment, "r4/finetune.slurm", KILLED)
    go = hold(experiment, "r4/finetune.slurm")
    first = Run(experiment.path, *AT_ONCE, config=ONLY_R4)
    ids = running(experiment.path, "tiny.r4")
    first.kill()
    go.touch()
    until(lambda: next(job for job in jobs(experiment.path) if job.name == "tiny.r4").end is not None)
    second = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert second.process.returncode == 0, second.output
    assert f"tiny.r4: following SLURM job {ids['tiny.r4']} again (FAILED)" in second.output
    assert "it is submitted again: killed, retry 1 of 3" in second.output
    found = settled(experiment.path, 3)
    assert names(experiment.path) == Counter([*OF_R4, "tiny.r4"])
    assert_one_at_a_time(found)
    told = read_action_logs(experiment.path)
    of_first = told[told["job_id"] == ids["tiny.r4"]]
    assert (of_first["action"] == "COMPUTE_METRICS").sum() == 1
