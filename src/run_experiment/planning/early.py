"""Early evaluation: what waits for an epoch of a training in place of the whole training."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from run_experiment.common import paths
from run_experiment.experiment.model import Run
from run_experiment.jobscripts.own_recipe import trainer_in
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Kind, Target


def early_targets(plan: Plan) -> dict[str, Target]:
    """Targets by path that take the place of the plan's: verifications that wait for an epoch, and these epochs.

    The last epoch waits for the training, as do all epochs of a training that is restored, or whose script runs none of
    our trainers: only they publish whole checkpoints.
    """
    found: dict[str, Target] = {}
    for run in plan.experiment.fine_tuned:
        for target in _of_run(plan, run):
            found[target.path] = target
    return found


def _of_run(plan: Plan, run: Run) -> Iterator[Target]:
    training = plan[paths.finetune_record(run.name)]
    if not training.wanted or training.restored or not _publishes_epochs(plan, run, training):
        return
    before: tuple[str, ...] = ()
    for epoch in run.epochs[:-1]:
        manifest = plan[paths.manifest(run.name, epoch)]
        if manifest.needs == (training.path,):
            path = paths.trained_epoch(run.name, epoch)
            state, needs = plan.snapshot.unmade(path), (*training.needs, *before)
            yield Target(Kind.EPOCH, path, state, training.why, {}, needs, optional=True)
            yield replace(manifest, needs=(path,))
            before = (path,)


def _publishes_epochs(plan: Plan, run: Run, training: Target) -> bool:
    if run.output_dir is None:
        return False
    return not training.own_script or trainer_in(plan.experiment.folder / paths.finetune_script(run.name)) is not None


def remove_marks(folder: Path) -> None:
    """Remove the marks of epochs that a session left: each session that waits for epochs makes its own."""
    shutil.rmtree(folder / paths.EPOCHS, ignore_errors=True)


def trainings_behind(plan: Plan, early: Mapping[str, Target]) -> Collection[str]:
    """Trainings that the selected targets need by way of such epochs, which do not need them themselves."""
    todo = [path for path in plan.finals() if plan[path].wanted]
    seen = set(todo)
    while todo:
        new = set(plan[todo.pop()].needs) - seen
        seen |= new
        todo += new
    return [need for path in seen if path in early for need in plan[path].needs]
