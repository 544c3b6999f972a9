"""Trainers, vLLM and nodes that jobs would not find where they run: this is known before any job starts."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.errors import InputError, Problem
from run_experiment.common.text import shortened
from run_experiment.evaluation.vllm.missing import no_vllm
from run_experiment.experiment.model import Evaluation, Run
from run_experiment.experiment.settings import Settings
from run_experiment.machine.allocation import own_allocation
from run_experiment.planning.plan import Plan
from run_experiment.planning.submitted_scripts import made_for
from run_experiment.trainers.known import TRAINERS
from run_experiment.trainers.trainer import Trainer

# The package that holds models in 4 bits.
_QUANTIZES = "bitsandbytes"


def missing_packages(plan: Plan, settings: Settings, requested: Collection[str]) -> list[InputError]:
    """Errors for the trainers and the vLLM that jobs would not find; none if jobs have an environment of their own.

    `requested` are the targets that this session makes; none are all.
    """
    if settings.environment or settings.modules:
        return []
    made = {target.path for target in made_for(plan, requested)}
    packages = [*_missing_trainers(plan, made), *_missing_quantization(plan, made)]
    return [*packages, *([] if settings.vllm_environment else _missing_vllm(plan, made))]


def missing_nodes(plan: Plan, requested: Collection[str]) -> list[InputError]:
    """An error for trainings on several nodes, where jobs run on this machine only; none within an allocation."""
    made = {target.path for target in made_for(plan, requested)}
    runs = [run.name for run in _trained(plan, made) if run.compute and (run.compute.nodes or 1) > 1]
    if not runs or own_allocation():
        return []
    problem = f"{shortened(runs)}: several nodes need SLURM: use `--profile profiles/slurm`, or leave nodes out"
    return [InputError(paths.SUMMARY, [Problem(0, "runs[].compute.nodes", problem)])]


def _missing_trainers(plan: Plan, made: Collection[str]) -> Iterator[InputError]:
    trained: dict[str, list[str]] = {}
    for run in _trained(plan, made):
        if run.training:
            trained.setdefault(run.training.trainer, []).append(run.name)
    for name, runs in trained.items():
        trainer = TRAINERS[name]
        if find_spec(trainer.package) is None:
            yield InputError(paths.SUMMARY, [Problem(0, "tools.preparation", _advice(trainer, runs))])


def _missing_quantization(plan: Plan, made: Collection[str]) -> Iterator[InputError]:
    runs = [run.name for run in _trained(plan, made) if run.training and run.training.hyperparameters.load_in_4bit]
    if runs and find_spec(_QUANTIZES) is None:
        yield InputError(paths.SUMMARY, [Problem(0, "load_in_4bit", _not_installed(_QUANTIZES, "qlora", runs))])


def _advice(trainer: Trainer, runs: list[str]) -> str:
    others = " or ".join(other for other in TRAINERS if other != trainer.name)
    return _not_installed(trainer.package, trainer.extra, runs, f", or use `tools.preparation: {others}`")


def _not_installed(package: str, extra: str, runs: list[str], otherwise: str = "") -> str:
    install = f'install it, `pip install ".[{extra}]"` in this project\'s folder{otherwise}'
    elsewhere = "if jobs run in another environment, name that in the setting `environment`"
    return f"{package} is not installed here, for {shortened(runs)}: {install}; {elsewhere}"


def _trained(plan: Plan, made: Collection[str]) -> Iterator[Run]:
    """Runs to be trained by scripts as they are rendered."""
    for run in plan.experiment.runs:
        if paths.finetune_record(run.name) in made and _is_rendered(plan, paths.finetune_script(run.name)):
            yield run


def _is_rendered(plan: Plan, script: str) -> bool:
    """Whether a script has no lines of the user, which may activate another environment."""
    existing = plan.scripts.existing(script)
    return not (existing and (existing.own_head or existing.own_commands))


def _missing_vllm(plan: Plan, made: Collection[str]) -> list[InputError]:
    if _has_vllm():
        return []
    without = [item.subject for item in _served(plan, made)]
    if not without:
        return []
    problem = Problem(0, "evaluation.backend", no_vllm(f"here for {shortened(without)}"))
    return [InputError(paths.SUMMARY, [problem])]


def _has_vllm() -> bool:
    beside = Path(sys.executable).parent
    return shutil.which("vllm", path=os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])) is not None


def _served(plan: Plan, made: Collection[str]) -> Iterator[Evaluation]:
    """Evaluations to be made by vLLM, by scripts as they are rendered."""
    for item in plan.experiment.evaluations:
        is_made = item.generation.backend == "vllm" and paths.eval_record(item.run.name, item.cell) in made
        if is_made and _is_rendered(plan, plan.scripts.evaluation_files(item)[0]):
            yield item
