"""The files that a summary names: models, data, checkpoints; `tasks` has those of the tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from run_experiment.common.errors import CheckpointError
from run_experiment.common.paths import ADAPTER_CONFIG
from run_experiment.common.yaml_lines import shown
from run_experiment.finetuning.architecture import ModelError
from run_experiment.finetuning.model_files import first_problem, folder_problem, pointer_problem
from run_experiment.summary.checks.checkpoints import check_checkpoints
from run_experiment.summary.checks.data import check_training_data
from run_experiment.summary.checks.tasks import check_tasks
from run_experiment.summary.draft import Draft, Finding
from run_experiment.summary.path_hints import (
    broken_link,
    no_config,
    other_weights,
    why_no_folder,
)
from run_experiment.trainers.known import TRAINERS
from run_experiment.trainers.trainer import Trainer


def check_files(draft: Draft, folder: Path) -> list[Finding]:
    """What is missing or wrong in the files that a summary names; paths are relative to `folder`."""
    return [
        *_models(draft, folder),
        *_options(draft, folder),
        *_run_folders(draft, folder),
        *_base_directory(draft, folder),
        *check_checkpoints(draft, folder),
        *check_training_data(draft, folder),
        *check_tasks(draft, folder),
    ]


def _models(draft: Draft, folder: Path) -> Iterator[Finding]:
    for path, model in draft.models.items():
        place, where = (*path, "path"), folder / model.path
        if not os.path.isdir(where):
            yield Finding(place, f"there is no folder {shown(str(where), 200)}{why_no_folder(model.path, where)}")
        elif not os.access(where, os.R_OK | os.X_OK):
            yield Finding(place, f"you have no right to look into {shown(str(where), 200)}")
        elif broken := broken_link(where):
            message = f"is a link to {shown(os.readlink(broken), 200)}, which is not there; copy the model again"
            yield Finding(place, f"{shown(str(broken), 200)} {message}")
        elif not os.path.isfile(where / "config.json"):
            yield Finding(place, f"{shown(str(where), 200)} has no config.json{no_config(where)}")
        elif not any(where.glob("*.safetensors")):
            yield Finding(place, f"{shown(str(where), 200)} has no weights (*.safetensors){other_weights(where)}")
        elif os.path.isfile(where / ADAPTER_CONFIG):
            message = f"holds {ADAPTER_CONFIG}, so transformers would load an adapter in place of the model"
            yield Finding(place, f"{shown(str(where), 200)} {message}; move the adapter's files to another folder")
        elif problem := _model_problem(where, _trainers(draft, model.name)):
            yield Finding(place, problem)


def _model_problem(folder: Path, trainers: Sequence[Trainer]) -> str | None:
    """What a job would find wrong with the files of a model, which these train."""
    of_trainers = [trainer.model_problem for trainer in trainers]
    return first_problem(folder, *([pointer_problem, *of_trainers] if of_trainers else [folder_problem]))


def _options(draft: Draft, folder: Path) -> Iterator[Finding]:
    """Options that the trainer of a run cannot do."""
    folders = {model.name: folder / model.path for model in draft.models.values()}
    for path, run in draft.runs.items():
        where = folders.get(run.model or next(iter(folders), ""))
        if run.type != "fine-tuned" or where is None:
            continue
        trainer = TRAINERS[draft.trainer(run)]
        # A model that cannot be read is reported by itself.
        with suppress(ModelError, CheckpointError, OSError):
            for key, problem in trainer.option_problems(draft.merged(run), where).items():
                yield Finding(draft.place_of(path, run, key), problem)


def _trainers(draft: Draft, model: str) -> list[Trainer]:
    """What trains a model."""
    runs = [run for run in draft.runs.values() if run.type == "fine-tuned" and run.model in (None, model)]
    return [TRAINERS[name] for name in dict.fromkeys(draft.trainer(run) for run in runs)]


def _run_folders(draft: Draft, folder: Path) -> Iterator[Finding]:
    models = {os.path.normpath(folder / model.path): model.name for model in draft.models.values()}
    for path, run in draft.runs.items():
        own = os.path.normpath(folder / run.name)
        if os.path.isfile(own):
            yield Finding((*path, "name"), f"{run.name} would be the run's folder, but a file has that name")
        elif own in models:
            yield Finding((*path, "name"), f"{run.name} would be the run's folder, but model {models[own]} is there")


def _base_directory(draft: Draft, folder: Path) -> Iterator[Finding]:
    """What keeps checkpoints from being written below `output.base_directory`, which need not exist yet."""
    base = draft.output.base_directory
    if not base:
        return
    where = Path(os.path.normpath(folder / base))
    there = next(place for place in (where, *where.parents) if os.path.lexists(place))
    if not os.path.isdir(there):
        yield Finding(("output", "base_directory"), f"{shown(str(there), 200)} is no folder, so nothing can be in it")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Finding(("output", "base_directory"), f"you have no right to write in {shown(str(there), 200)}")
