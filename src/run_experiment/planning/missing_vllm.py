"""Evaluations by vLLM where it is not installed: they would fail once their trainings are done."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.errors import InputError, Problem
from run_experiment.common.text import shortened
from run_experiment.experiment.model import Evaluation
from run_experiment.experiment.settings import Settings
from run_experiment.planning.plan import Plan
from run_experiment.planning.submitted_scripts import made_for


def missing_vllm(plan: Plan, settings: Settings, requested: Collection[str]) -> list[InputError]:
    """The error that jobs would find no vLLM; none if they have an environment that only they can look into.

    `requested` are the targets that this session makes; none are all.
    """
    if settings.vllm_environment or settings.environment or settings.modules or _is_installed():
        return []
    without = [item.subject for item in _served(plan, requested)]
    if not without:
        return []
    problem = (
        f"there is no program `vllm` here for {shortened(without)}: install vLLM, in an environment of its own since "
        "it needs another torch, and name that in the setting vllm_environment; or use `backend: hf`"
    )
    return [InputError(paths.SUMMARY, [Problem(0, "evaluation.backend", problem)])]


def _is_installed() -> bool:
    beside = Path(sys.executable).parent
    return shutil.which("vllm", path=os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])) is not None


def _served(plan: Plan, requested: Collection[str]) -> Iterator[Evaluation]:
    """Evaluations to be made by vLLM, by scripts as they are rendered."""
    made = {target.path for target in made_for(plan, requested)}
    for item in plan.experiment.evaluations:
        if item.generation.backend == "vllm" and paths.eval_record(item.run.name, item.cell) in made:
            existing = plan.scripts.existing(plan.scripts.evaluation_files(item)[0])
            if not (existing and (existing.own_head or existing.own_commands)):
                yield item
