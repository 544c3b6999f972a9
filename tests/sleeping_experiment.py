"""An experiment whose jobs only take time, on a GPU each: what it takes longer than they sleep is the workflow's.

Its scripts are as a user edited them. `render_evaluations` has evaluations with rendered ones, which can share a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from experiments import WORDS, ExperimentFolder, summary
from finished_log import LEAVE_LOG, make_log
from scaffolded import TASK
from small_experiment import make_model, write_adapter

from run_experiment.common.paths import cell, eval_record, finetune_record, manifest, subject
from run_experiment.finetuning.resume_state import RECIPE_STATE, TUNE_ADAPTER


@dataclass(frozen=True)
class Work:
    """Seconds that each training takes, one a run, and each evaluation: of every task after every epoch."""

    trainings: Sequence[int]
    evaluation: int
    epochs: int = 2
    tasks: Sequence[str] = ("shout", "cry")

    @property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return [f"r{number}" for number in range(len(self.trainings))]

    @property
    def cells(self) -> list[str]:
        """Names of the evaluations of a run."""
        return [cell(task, epoch) for task in self.tasks for epoch in range(self.epochs)]

    @property
    def records(self) -> dict[str, str]:
        """Paths of the jobs' records, by what the logs call the jobs."""
        trainings = {run: finetune_record(run) for run in self.runs}
        cells = [(run, task, epoch) for run in self.runs for task in self.tasks for epoch in range(self.epochs)]
        return trainings | {subject(*one): eval_record(one[0], cell(*one[1:])) for one in cells}

    @property
    def manifests(self) -> list[str]:
        """Paths of the manifests of all checkpoints."""
        return [manifest(run, epoch) for run in self.runs for epoch in range(self.epochs)]


_SCRIPT = """#!/bin/bash
#SBATCH --time=00:10:00 --gres=gpu:1 --cpus-per-task=1 --mem=800M
set -e
date +%s.%N > {times}
{command}
date +%s.%N >> {times}
"""
# Publishes epochs and resumes after the last whole one as our recipe does, whose name says that the script can.
_TRAINING = """: run_experiment.finetuning.recipe
next=0
if [ -n "${RUN_EXPERIMENT_CHANGES:-}" ]; then
    next=$(($(grep -o 'epoch_[0-9]*' "$RUN_EXPERIMENT_CHANGES" | head -n 1 | tr -dc 0-9) + 1))
fi
for ((epoch = next; epoch < EPOCHS; epoch++)); do
    sleep SECONDS_EACH
    new=RUN/artifacts/.epoch_$epoch.partial
    rm -rf "$new"
    mkdir -p RUN/artifacts
    cp -r "../made/epoch_$epoch" "$new"
    echo "{\\"job_id\\": \\"$RUN_EXPERIMENT_JOB\\", \\"ended\\": \\"$(date -Is)\\"}" > "$new/trained.json"
    rm -rf "RUN/artifacts/epoch_$epoch"
    mv "$new" "RUN/artifacts/epoch_$epoch"
done"""

# Stands for inspect-ai in rendered scripts; the evaluation that `fails_once` names fails the first time.
_INSPECT = """#!/bin/bash
while [ "$1" != --task-config ]; do shift; done
if grep -qsx "$2" ../fails_once; then
    rm ../fails_once
    echo 'ValueError: the first time'
    exit 3
fi
sleep {seconds}
exec python -I -S {leave_log} ../made/log.eval
"""


def make_sleeping(folder: Path, work: Work) -> ExperimentFolder:
    """The experiment, in a folder `experiment`."""
    experiment = ExperimentFolder(folder / "experiment")
    experiment.path.mkdir(parents=True)
    splits = {"train": WORDS, **{name: [f"{name} {word}" for word in WORDS] for name in ("validation", "test")}}
    experiment.write_data(
        {name: [{"input": text, "output": text.upper()} for text in texts] for name, texts in splits.items()}
    )
    (experiment.path / "shout.py").write_text(TASK)
    _write_summary(experiment, work, make_model(folder / "model"))
    for epoch in range(work.epochs):
        made = folder / "made" / f"epoch_{epoch}"
        write_adapter(made, seed=epoch)
        for name in (TUNE_ADAPTER, RECIPE_STATE):
            with ZipFile(made / name, "w") as archive:
                archive.writestr("state", "whole")
    make_log(experiment.path, folder / "made" / "log.eval")
    for run, seconds in zip(work.runs, work.trainings, strict=True):
        _write_scripts(experiment.path, run, seconds, work)
    return experiment


def render_evaluations(experiment: ExperimentFolder, work: Work) -> str:
    """Have evaluations rendered; returns the setting with which their scripts find what stands for inspect-ai."""
    values = experiment.read()
    values["evaluation"]["compute"] = {"time": "00:10:00", "gpus": 1, "cpus_per_task": 1, "mem": "800M"}
    experiment.write(values)
    for script in experiment.path.glob("*/eval/*.slurm"):
        script.unlink()
    program = experiment.path.with_name("programs") / "inspect"
    program.parent.mkdir()
    program.write_text(_INSPECT.format(seconds=work.evaluation, leave_log=LEAVE_LOG))
    program.chmod(0o755)
    return f"modules=export PATH={program.parent}:$PATH"


def fail_once(experiment: ExperimentFolder, record: str) -> None:
    """Have a rendered evaluation fail the first time; `record` is the path of its record."""
    experiment.path.with_name("fails_once").write_text(record.replace(".json", ".args.yaml") + "\n")


def times_file(target: str) -> str:
    """File of when a job's script began and ended, by the job's record, relative to the experiment's folder."""
    return f"{target.removesuffix('.json')}.times"


def _write_summary(experiment: ExperimentFolder, work: Work, model: Path) -> None:
    values = summary(model, work.epochs)
    values["runs"] = [
        {"name": run, "type": "fine-tuned", "model": "tiny", "parameters": {"lora_rank": number + 1}}
        for number, run in enumerate(work.runs)
    ]
    (task,) = values["evaluation"]["tasks"]
    values["evaluation"]["tasks"] = [{**task, "name": name} for name in work.tasks]
    values["evaluation"]["matrix"] = [
        {"run": run, "tasks": [*work.tasks], "epochs": [*range(work.epochs)]} for run in work.runs
    ]
    experiment.write(values)


def _write_scripts(folder: Path, run: str, seconds: int, work: Work) -> None:
    training = _TRAINING.replace("RUN/", f"{run}/").replace("EPOCHS", str(work.epochs))
    _write_script(folder, f"{run}/finetune", training.replace("SECONDS_EACH", f"{seconds / work.epochs:g}"))
    for name in work.cells:
        command = f"sleep {work.evaluation}\npython -I -S {LEAVE_LOG} ../made/log.eval"
        _write_script(folder, f"{run}/eval/{name}", command)


def _write_script(folder: Path, name: str, command: str) -> None:
    path = folder / f"{name}.slurm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_SCRIPT.format(times=times_file(f"{name}.json"), command=command))
