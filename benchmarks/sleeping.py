"""An experiment whose jobs only take time, on a GPU each: what it takes longer than they sleep is the workflow's."""

from __future__ import annotations

import random
from pathlib import Path

from experiments import WORDS, ExperimentFolder, summary
from finished_log import LEAVE_LOG, make_log
from scaffolded import TASK
from small_experiment import make_model, write_adapter

from run_experiment.common.paths import eval_record, finetune_record, manifest

# Seconds that trainings and evaluations take.
TRAININGS = (10, 10, 12, 15, 20, 30, 45, 60)
EVALUATION = 6
EPOCHS = 2
TASKS = ("shout", "cry")
GPUS = 8

RUNS = [f"r{number}" for number in range(len(TRAININGS))]
CELLS = [f"{task}_epoch{epoch}" for task in TASKS for epoch in range(EPOCHS)]
MANIFESTS = [manifest(run, epoch) for run in RUNS for epoch in range(EPOCHS)]
RECORDS = [*(finetune_record(run) for run in RUNS), *(eval_record(run, cell) for run in RUNS for cell in CELLS)]
# No order of jobs is done sooner: one run after its training, and all the work on all GPUs.
NEEDED = sum(TRAININGS) + EVALUATION * len(CELLS) * len(RUNS)
BOUND = max(max(TRAININGS) + EVALUATION, NEEDED / GPUS)

_SCRIPT = """#!/bin/bash
#SBATCH --time=00:10:00 --gres=gpu:1 --cpus-per-task=1 --mem=800M
set -e
date +%s.%N > {times}
sleep {seconds}
{command}
date +%s.%N >> {times}
"""


def make_sleeping(folder: Path) -> ExperimentFolder:
    """The experiment, in a folder `experiment`; the order of the trainings is a new one each time."""
    experiment = ExperimentFolder(folder / "experiment")
    experiment.path.mkdir(parents=True)
    rows = [{"input": word, "output": word.upper()} for word in WORDS]
    experiment.write_data(dict.fromkeys(("train", "validation", "test"), rows))
    (experiment.path / "shout.py").write_text(TASK)
    _write_summary(experiment, make_model(folder / "model"))
    for epoch in range(EPOCHS):
        write_adapter(folder / "made" / f"epoch_{epoch}", seed=epoch)
    make_log(experiment.path, folder / "made" / "log.eval")
    for run, seconds in zip(RUNS, random.sample(TRAININGS, len(TRAININGS)), strict=True):
        _write_scripts(experiment.path, run, seconds)
    return experiment


def times_file(target: str) -> str:
    """File of when a job's script began and ended, by the job's record, relative to the experiment's folder."""
    return f"{target.removesuffix('.json')}.times"


def _write_summary(experiment: ExperimentFolder, model: Path) -> None:
    values = summary(model, EPOCHS)
    values["runs"] = [
        {"name": run, "type": "fine-tuned", "model": "tiny", "parameters": {"lora_rank": number + 1}}
        for number, run in enumerate(RUNS)
    ]
    (task,) = values["evaluation"]["tasks"]
    values["evaluation"]["tasks"] = [{**task, "name": name} for name in TASKS]
    values["evaluation"]["matrix"] = [{"run": run, "tasks": [*TASKS], "epochs": [*range(EPOCHS)]} for run in RUNS]
    experiment.write(values)


def _write_scripts(folder: Path, run: str, seconds: int) -> None:
    copied = " ".join(f"../made/epoch_{epoch}" for epoch in range(EPOCHS))
    training = f"mkdir -p {run}/artifacts\ncp -r {copied} {run}/artifacts/"
    _write_script(folder, f"{run}/finetune", seconds, training)
    for cell in CELLS:
        command = f"python -I -S {LEAVE_LOG} ../made/log.eval"
        _write_script(folder, f"{run}/eval/{cell}", EVALUATION, command)


def _write_script(folder: Path, name: str, seconds: int, command: str) -> None:
    path = folder / f"{name}.slurm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_SCRIPT.format(times=times_file(f"{name}.json"), seconds=seconds, command=command))
