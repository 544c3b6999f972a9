"""Moves what `redo=` names to `{run}/attempts/redo-{time}`. Then it is missing, and everything follows from that.

The order of moves, all of them before any job starts:

1. what an evaluation would be continued from, or a training restored or resumed from;
2. the record itself.

A kill between any two moves is harmless. A target that still has its record is done as before; it only has nothing left
to be restored from, should its record get lost. A target without a record is made anew, since nothing is left that a
job could restore or continue. The same command moves the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from run_experiment.attempts.files import forget_not_submitted
from run_experiment.attempts.redone import move_away
from run_experiment.attempts.trainings import records_of
from run_experiment.common import paths
from run_experiment.common.clock import now
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Kind, Target


def move_records(plan: Plan, outputs: Collection[str]) -> list[str]:
    """Move away what is made again and is among the `outputs` of this session's jobs; returns its records' paths.

    What an older version remembered is moved whether this session makes it or not, since that memory is removed.
    Call it when this process has claimed the experiment, and nothing can refuse to start any more. Raises OSError.
    """
    older, moment, folder = plan.snapshot.older_redos, now(), plan.experiment.folder
    moved = []
    for path in sorted(plan.redone):
        target = plan[path]
        is_older = older.ask_for(path, target.config)
        if path in outputs or is_older:
            files = [one for one in _files(plan, target) if not (is_older and older.is_made(path, one))]
            move_away(folder, path, moment, files, plan.snapshot.attempts_at(path))
            forget_not_submitted(folder, path)
            moved.append(path)
    older.forget()
    return moved


def _files(plan: Plan, target: Target) -> Iterator[Path]:
    """What is moved of a target, its record last."""
    run, name = paths.target_of(target.path)
    if target.kind is Kind.TRAINING:
        yield from records_of(plan.sought(plan.experiment.run_by_name[run], target.config))
    # A job may be writing to it.
    elif not plan.snapshot.is_being_made(target.path):
        found = (plan.experiment.folder / paths.unfinished_eval(run, name, "")).parent.glob("*")
        yield from (path for path in found if path.stem == name)
    if (record := plan.experiment.folder / target.path).exists():
        yield record
