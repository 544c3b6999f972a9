"""Checks of models with their prompts and data, which trainings and evaluations of whole models need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from run_experiment.checkpoints.verify import tokenizer_folder
from run_experiment.common.json_files import Config, short_hash
from run_experiment.experiment.columns import DEFAULT_COLUMNS
from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.model import Evaluation, Experiment, Prompting, Run, Training
from run_experiment.finetuning.model_check import ModelCheck, PackedSteps
from run_experiment.inputs.configuration import Determinants
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.trainers.known import TRAINERS

# Hyperparameters that decide what a packed training makes of its packs.
_OF_PACKED_STEPS = tuple(field.name for field in fields(PackedSteps))
# Of a model folder: config, tokenizer and chat template.
_SMALL = (".json", ".model", ".txt", ".jinja", ".tiktoken")


class ModelChecks:
    """The checks that were asked for, by name; those that depend on the same are one."""

    def __init__(self, experiment: Experiment, determinants: Determinants, memory: HashMemory) -> None:
        self._experiment = experiment
        self._determinants = determinants
        self._memory = memory
        self._evaluated = {evaluation.run.name for evaluation in experiment.evaluations}
        self.by_name: dict[str, ModelCheck] = {}
        # Those of trainings, by their runs.
        self.by_run: dict[str, ModelCheck] = {}

    def of_training(self, run: Run, training: Training) -> ModelCheck:
        """The check of a training: every row, encoded as the training will."""
        given = self._determinants.training(training)
        hyperparameters = training.hyperparameters
        self.by_run[run.name] = check = self._check(
            run,
            training.prompting,
            training.model.path,
            data=[str(file) for file in training.data],
            splits=list(given["data"]),
            max_seq_len=TRAINERS[training.trainer].max_seq_len(training),
            hashes=given["data"],
            training_samples=hyperparameters.training_samples,
            columns=hyperparameters.columns,
            mask_history=hyperparameters.mask_history,
            packed=_packed_steps(hyperparameters) if hyperparameters.packed else None,
        )
        return check

    def of_evaluation(self, evaluation: Evaluation) -> ModelCheck | None:
        """The check of an evaluation; None if that of its run's training has seen the same."""
        run, call = evaluation.run, self._determinants.call(evaluation)
        is_given = call.signature.takes("system_prompt") or call.config is not None
        system_prompt = evaluation.prompting.system_prompt if is_given else ""
        if run.training and system_prompt in ("", run.training.prompting.system_prompt):
            return None
        prompting = Prompting("{input}", system_prompt, evaluation.prompting.dataset_type)
        return self._check(run, prompting, tokenizer_folder(run))

    def _check(
        self, run: Run, prompting: Prompting, tokenizer: Path, hashes: Config | None = None, **training: Any
    ) -> ModelCheck:
        facts: dict[str, Any] = {
            "model": run.model.name,
            "dataset_type": prompting.dataset_type,
            "prompt": prompting.prompt,
            "system_prompt": prompting.system_prompt,
            "evaluated": run.name in self._evaluated,
        }
        limit = {"max_seq_len": training["max_seq_len"]} if training else {}
        config = {**facts, **limit, "files": self._hashes(tokenizer.iterdir()), "data": hashes or {}}
        # Checks of other trainings keep their names.
        config |= {"packed": training["packed"]} if training.get("packed") else {}
        config |= {} if training.get("mask_history", True) else {"mask_history": False}
        config |= (
            {"columns": columns} if (columns := training.get("columns", DEFAULT_COLUMNS)) != DEFAULT_COLUMNS else {}
        )
        name = f"{run.model.name}-{short_hash(config)}"
        check = ModelCheck(
            name=name,
            config=config,
            tokenizer=str(tokenizer),
            # An adapter may bring an embedding of its own.
            weights=None if run.checkpoint else str(run.model.path),
            **facts,
            **training,
        )
        return self.by_name.setdefault(name, check)

    def _hashes(self, files: Iterable[Path]) -> Config:
        """Hashes of a model's small files, by their names."""
        small = sorted(path for path in files if path.suffix in _SMALL and path.is_file())
        return {path.name: {"sha256": self._memory.file(path)} for path in small}


def _packed_steps(given: Hyperparameters) -> Config:
    return {name: getattr(given, name) for name in _OF_PACKED_STEPS}
