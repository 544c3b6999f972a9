"""An experiment in which all that can be told of jobs happens within a minute."""

from __future__ import annotations

import os
from pathlib import Path

from cluster_runs import AT_ONCE, Run
from experiments import ExperimentFolder
from scaffolded import Scaffold, make_scaffolded

NVIDIA_SMI = """#!/bin/sh
case "$*" in *index*) echo "0, 93, 30822, 81559, 250.5, 61" ;; esac
"""
# An adapter that was cut off while it was written.
TRUNCATE = """
if run == "r8":
    weights = output / "epoch_1" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
"""
POLL = ["--slurm-attached-poll-seconds", "1"]


def eventful(folder: Path, train: float = 20, evaluate: float = 9) -> ExperimentFolder:
    """r4's training fails, r8's last checkpoint is broken, base is not trained and its evaluation fails."""
    experiment = make_scaffolded(folder / "experiment", 2, Scaffold(sleep=(train, evaluate)))
    experiment.set_parameters("r4", lr=13.0)
    train_py = experiment.path / "train.py"
    train_py.write_text(train_py.read_text() + TRUNCATE)
    experiment.edit("base/eval/shout_base.slurm", "inspect eval", "echo 'no such model'; exit 3; inspect eval")
    for script in experiment.path.rglob("*.slurm"):
        script.write_text(script.read_text().replace("#SBATCH", "#SBATCH --gres=gpu:1 --mem=500M\n#SBATCH", 1))
    return experiment


def with_gpus(folder: Path) -> dict[str, str]:
    """An environment for jobs whose nvidia-smi shows a busy GPU."""
    folder.mkdir(exist_ok=True)
    shim = folder / "nvidia-smi"
    shim.write_text(NVIDIA_SMI)
    shim.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def start(experiment: ExperimentFolder, *arguments: str, environment: dict[str, str] | None = None) -> Run:
    """The workflow, which asks accounting every second."""
    return Run(experiment.path, *AT_ONCE, *POLL, *arguments, environment=environment)
