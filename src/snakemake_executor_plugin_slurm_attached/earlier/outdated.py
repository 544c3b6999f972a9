"""Live jobs of an earlier main process that work on checkpoints which this one replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from run_experiment.attempts.trainings import kept_training, trained_epoch
from run_experiment.common import paths
from run_experiment.experiment.records import read_manifest
from run_experiment.slurm.events import Cancelled, Event
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier
from snakemake_executor_plugin_slurm_attached.ends.left_behind import is_made, planned
from snakemake_executor_plugin_slurm_attached.epochs import sought_training
from snakemake_executor_plugin_slurm_attached.submissions import cancel_for

Tell = Callable[[Event], None]


def cancel_outdated(folder: Path, earlier: Mapping[str, Earlier], dag: Any, tell: Tell) -> dict[str, Earlier]:
    """Cancel jobs that would hold their GPUs for nothing; returns what is known of them then.

    Raises SlurmError, OSError.
    """
    cancelled = {}
    for former in _outdated(folder, earlier, dag):
        goes_on = not cancel_for(folder, former.submission)
        tell(Cancelled(former.submission, "the checkpoints of its run are made again or restored", goes_on))
        cancelled[former.submission.target] = replace(former, state="CANCELLED", accounted=None)
    return cancelled


def _outdated(folder: Path, earlier: Mapping[str, Earlier], dag: Any) -> Iterator[Earlier]:
    """Live jobs for targets whose run Snakemake's DAG trains anew, or takes a training back of.

    Then a target may be there already: its job would replace it by what it makes of other checkpoints.
    """
    needed = {path: job for job in dag.needrun_jobs() for path in job.output}
    for former in earlier.values():
        if former.is_live and _is_outdated(folder, former, needed, dag):
            yield former


def _is_outdated(folder: Path, former: Earlier, needed: Mapping[str, Any], dag: Any) -> bool:
    target = former.submission.target
    if job := needed.get(target):
        return _waits_for_others(job, dag)
    training = needed.get(paths.finetune_record(paths.target_of(target)[0]))
    # While its run is trained, an evaluation of an earlier epoch may be at its end, or not selected any more.
    return training is not None and not (
        is_made(folder, former.submission) or _is_of_unfinished(folder, target, training)
    )


def _is_of_unfinished(folder: Path, target: str, training: Any) -> bool:
    """Whether what an evaluation loads was verified, and is of the unfinished training that `training` continues."""
    run, cell = paths.target_of(target)
    epoch = cell.rpartition("_epoch")[2]
    manifest = read_manifest(folder / paths.manifest(run, int(epoch))) if epoch.isdecimal() else None
    if manifest is None:
        return False
    try:
        sought = sought_training(folder, planned(folder, str(training.params.job)))
    except ValueError:
        return False
    # A complete training takes the place of an unfinished one.
    trained = None if kept_training(sought) else trained_epoch(sought, int(epoch))
    return trained is not None and manifest.config.get("training") == trained


def _waits_for_others(job: Any, dag: Any) -> bool:
    """Whether another job of the cluster has to end before this one can begin."""
    needed = [other for other in dag.dependencies[job] if dag.needrun(other)]
    return any(not other.is_local or _waits_for_others(other, dag) for other in needed)
