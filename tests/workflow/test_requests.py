"""What `#SBATCH` lines become: jobs' requests on a cluster, nothing on this machine."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from scaffolded import make_scaffolded
from small_experiment import make_small_experiment
from snakemake_cli import planned, ran, snakemake

UNUSABLE = "#SBATCH --array=1-3\n#SBATCH --mem=4G stray\n"


@pytest.fixture
def fresh(tmp_path: Path) -> ExperimentFolder:
    """An experiment of quick job scripts, not yet run."""
    return make_scaffolded(tmp_path / "experiment")


@pytest.fixture
def submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File with a line for each sbatch: its arguments, and the `#SBATCH` lines of what it is given.

    There is no SLURM behind it: it would take all, no jobs are known, and what is submitted fails.
    """
    log, tools = tmp_path / "submissions", tmp_path / "tools"
    tools.mkdir()
    noted = f"{{ printf '%q ' \"$@\"; grep '^#SBATCH' | tr '\\n' ' '; echo; }} >> '{log}'"
    sbatch = f'[ "$1" = --test-only ] && exit\n{noted}\nexit 1'
    for name in ("sbatch", "sinfo", "sacct", "scontrol", "squeue", "sacctmgr"):
        (tools / name).write_text(f"#!/bin/bash\n{sbatch if name == 'sbatch' else 'exit 0'}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return log


def submit(folder: Path, *arguments: str) -> str:
    """Run the workflow on a cluster whose sbatch fails; returns what it said."""
    result = snakemake(folder, *arguments, profile="slurm")
    assert result.returncode == 1, result.stdout
    return result.stdout


def requested(submissions: Path, run: str) -> tuple[list[str], str]:
    """The words of a training's sbatch that ask for something, and the script's lines beside them."""
    (line,) = [line for line in submissions.read_text().splitlines() if f".{run} " in line]
    command, _, lines = line.partition("#SBATCH ")
    words = shlex.split(command)
    return words[words.index("--comment") + 2 : words.index("--chdir")], lines.replace("#SBATCH ", "").strip()


def test_a_job_is_submitted_with_the_lines_of_its_script(fresh: ExperimentFolder, submissions: Path) -> None:
    lines = "#SBATCH --gres=gpu:2 --mem=4G -c 3\n#SBATCH --partition=short --site-option='a b'\nset -e"
    fresh.edit("r4/finetune.slurm", "set -e", lines)
    fresh.edit("r8/finetune.slurm", "#SBATCH --time=00:10:00\n", "")
    for run in ("r4", "r8"):
        fresh.edit(f"{run}/finetune.slurm", "set -e\n", "set -e\n#SBATCH --mem=64G\n")
    said = submit(fresh.path, "r4/finetune.json", "r8/finetune.json")
    expected = "--time=00:10:00 --gres=gpu:2 --mem=4G -c 3 --partition=short --site-option='a b'"
    assert requested(submissions, "r4") == ([], expected)
    # Neither memory nor time nor cores: the cluster's defaults, not Snakemake's.
    assert requested(submissions, "r8") == ([], "")
    why = "is below the first command, where sbatch reads no such lines: move it up (so in 1 other script)"
    assert [line for line in said.splitlines() if "below" in line] == [
        f"r4/finetune.slurm:6: `#SBATCH --mem=64G` {why}"
    ]


def test_the_command_line_wins_over_the_script(fresh: ExperimentFolder, submissions: Path) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", "#SBATCH --mem-per-cpu=4G --qos=low -c 3\nset -e")
    settings = ["run_finetune:mem_mb=77", "run_finetune:qos=high", "run_finetune:runtime=5"]
    submit(fresh.path, "r4/finetune.json", "--set-resources", *settings)
    assert requested(submissions, "r4") == (["--qos=high", "--time=5", "--mem=77"], "-c 3")


def test_a_profile_wins_over_the_script(fresh: ExperimentFolder, submissions: Path, tmp_path: Path) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", "#SBATCH --mem=4G --gres=gpu:1 --mail-type=END\nset -e")
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("set-resources:\n  run_finetune:\n    mem_mb: 78\n    gpu: 3\n")
    submit(fresh.path, "r4/finetune.json", "--workflow-profile", str(profile))
    assert requested(submissions, "r4") == (["--mem=78", "--gres=gpu:3"], "--time=00:10:00 --mail-type=END")


def test_default_resources_are_for_what_no_script_says(fresh: ExperimentFolder, submissions: Path) -> None:
    submit(fresh.path, "r4/finetune.json", "--default-resources", "runtime=5", "mem_mb=79")
    assert requested(submissions, "r4") == (["--mem=79"], "--time=00:10:00")


@pytest.mark.parametrize("how", ["-n", "--printshellcmds"])
def test_unusable_lines_are_refused_before_anything_is_submitted(
    fresh: ExperimentFolder, submissions: Path, how: str
) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", f"{UNUSABLE}set -e")
    fresh.edit("base/eval/shout_base.slurm", "set -e", "#SBATCH --chdir=/x\nset -e")
    result = snakemake(fresh.path, "--executor", "slurm", "--jobs=5", how, profile="default")
    assert result.returncode == 2
    assert [line for line in result.stdout.splitlines() if ".slurm:" in line] == [
        "r4/finetune.slurm:3: --array='1-3': not allowed: one script is one job",
        "r4/finetune.slurm:4: 'stray' is not an option of sbatch",
        "base/eval/shout_base.slurm:3: --chdir='/x': not allowed: write `cd` in the script's commands",
    ]
    assert "Traceback" not in result.stdout
    assert not submissions.exists()


def test_lines_of_jobs_that_are_not_asked_for_do_not_matter(fresh: ExperimentFolder) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", f"{UNUSABLE}set -e")
    cluster = ["-n", "--executor", "slurm", "--jobs=5"]
    assert snakemake(fresh.path, *cluster, "r8/eval/shout_epoch0.json", profile="default").returncode == 0
    assert snakemake(fresh.path, *cluster, "r4/eval/shout_epoch0.json", profile="default").returncode == 2


def test_on_this_machine_they_mean_nothing(fresh: ExperimentFolder) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", f"{UNUSABLE}#SBATCH --gpus=2 --unheard-of\nset -e")
    assert planned(fresh.path, "r4/finetune.json") == Counter(run_finetune=1)
    result = snakemake(fresh.path, "r4/finetune.json", "--resources", "gpu_jobs=1", "gpu=1")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == Counter(run_finetune=1)


def test_several_nodes_are_refused_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    experiment = make_small_experiment(tmp_path / "experiment")
    summary = experiment.read()
    summary["tools"] = {"preparation": "trl"}
    summary["runs"][0]["compute"] = {"nodes": 2}
    experiment.write(summary)
    problem = "runs[].compute.nodes: r4: several nodes need SLURM"
    here = snakemake(experiment.path, "-n")
    assert (here.returncode, problem in here.stdout) == (2, True)
    assert problem not in snakemake(experiment.path, "-n", "--executor", "slurm", "--jobs=5", profile="default").stdout


def test_one_job_at_a_time_has_this_machine_s_gpu(fresh: ExperimentFolder) -> None:
    for run in ("r4", "r8"):
        fresh.edit(f"{run}/finetune.slurm", "set -e", "set -e\nexec 9> busy\nflock --nonblock 9\nsleep 1")
    result = snakemake(fresh.path, "r4/finetune.json", "r8/finetune.json", "--cores=16")
    assert result.returncode == 0, result.stdout
