"""What `#SBATCH` lines become: jobs' requests on a cluster, nothing on this machine."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from scaffolded import make_scaffolded
from snakemake_cli import planned, ran, snakemake

UNUSABLE = "#SBATCH --array=1-3\n#SBATCH --mem=4G --time=soon\n"


@pytest.fixture
def fresh(tmp_path: Path) -> ExperimentFolder:
    """An experiment of quick job scripts, not yet run."""
    return make_scaffolded(tmp_path / "experiment")


@pytest.fixture
def submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File with a line for each sbatch; there is no SLURM behind it, and what it is asked for fails."""
    log, tools = tmp_path / "submissions", tmp_path / "tools"
    tools.mkdir()
    answers = {"sbatch": f"printf '%q ' \"$@\" >> '{log}'; echo >> '{log}'; exit 1", "sinfo": "echo 'gpu*'"}
    for name in ("sbatch", "sinfo", "sacct", "scontrol", "squeue", "sacctmgr"):
        (tools / name).write_text(f"#!/bin/bash\n{answers.get(name, 'exit 1')}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return log


def submit(folder: Path, *arguments: str) -> str:
    """Output of the workflow under the stock SLURM executor."""
    executor = ["--executor", "slurm", "--slurm-init-seconds-before-status-checks=1", "--jobs=5"]
    result = snakemake(folder, *executor, *arguments, profile="default")
    assert result.returncode == 1, result.stdout
    return result.stdout


def requested(submissions: Path, run: str) -> list[str]:
    """The words of a training's sbatch that ask for something."""
    (line,) = [line for line in submissions.read_text().splitlines() if f"_wildcards_{run} " in line]
    words = shlex.split(line)
    asked = words[words.index("--comment") + 2 : words.index("-D")]
    return [*asked, *[word for word in words[words.index("-D") :] if re.match("--(gpus|gres)=", word)]]


def test_a_job_asks_for_what_its_script_asks(fresh: ExperimentFolder, submissions: Path) -> None:
    lines = "#SBATCH --gres=gpu:2 --mem=4G -c 3\n#SBATCH --partition=short --mail-type=END\nset -e"
    fresh.edit("r4/finetune.slurm", "set -e", lines)
    fresh.edit("r8/finetune.slurm", "#SBATCH --time=00:10:00\n", "")
    submit(fresh.path, "r4/finetune.json", "r8/finetune.json")
    expected = "-p short -t 10 --mem 4096 --nodes=1 --cpus-per-task=3 --mail-type=END --gpus=2"
    assert requested(submissions, "r4") == expected.split()
    # Neither memory nor time nor cores: the cluster's defaults, not Snakemake's.
    assert requested(submissions, "r8") == ["-p", "gpu", "--ntasks=1"]


def test_the_command_line_wins_over_the_script(fresh: ExperimentFolder, submissions: Path) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", "#SBATCH --mem=4G --qos=low\nset -e")
    settings = ["run_finetune:mem_mb=77", "run_finetune:qos=high", "run_finetune:runtime=5"]
    submit(fresh.path, "r4/finetune.json", "--set-resources", *settings)
    assert requested(submissions, "r4") == ["-p", "gpu", "-t", "5", "--qos=high", "--mem", "77", "--ntasks=1"]


def test_a_profile_wins_over_the_script(fresh: ExperimentFolder, submissions: Path, tmp_path: Path) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", "#SBATCH --mem=4G\nset -e")
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("set-resources:\n  run_finetune:\n    mem_mb: 78\n    gpu: 3\n")
    submit(fresh.path, "r4/finetune.json", "--workflow-profile", str(profile))
    assert requested(submissions, "r4") == ["-p", "gpu", "-t", "10", "--mem", "78", "--gpus=3"]


@pytest.mark.parametrize("how", ["-n", "--printshellcmds"])
def test_unusable_lines_are_refused_before_anything_is_submitted(
    fresh: ExperimentFolder, submissions: Path, how: str
) -> None:
    fresh.edit("r4/finetune.slurm", "set -e", f"{UNUSABLE}set -e")
    fresh.edit("base/eval/shout_base.slurm", "set -e", "#SBATCH --chdir=/x\nset -e")
    result = snakemake(fresh.path, "--executor", "slurm", "--jobs=5", how, profile="default")
    assert result.returncode == 2
    assert [line for line in result.stdout.splitlines() if ".slurm:" in line] == [
        "r4/finetune.slurm:3: --array='1-3': a job script must not have it: one script is one job",
        "r4/finetune.slurm:4: --time='soon': is not of a form that is passed on: see `man sbatch`",
        "base/eval/shout_base.slurm:3: --chdir='/x': a job script must not have it: "
        "write `cd` in the script's commands",
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


def test_one_job_at_a_time_has_this_machine_s_gpu(fresh: ExperimentFolder) -> None:
    for run in ("r4", "r8"):
        fresh.edit(f"{run}/finetune.slurm", "set -e", "set -e\nexec 9> busy\nflock --nonblock 9\nsleep 1")
    result = snakemake(fresh.path, "r4/finetune.json", "r8/finetune.json", "--cores=16")
    assert result.returncode == 0, result.stdout
