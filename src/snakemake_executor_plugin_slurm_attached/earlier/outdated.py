"""Live jobs of an earlier main process that work on checkpoints which this one replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.slurm.events import Cancelled, Event
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier
from snakemake_executor_plugin_slurm_attached.ends.left_behind import is_made
from snakemake_executor_plugin_slurm_attached.submissions import cancel

Tell = Callable[[Event], None]


def cancel_outdated(folder: Path, earlier: Mapping[str, Earlier], dag: Any, tell: Tell) -> dict[str, Earlier]:
    """Cancel jobs that would hold their GPUs for nothing; returns what is known of them then. Raises SlurmError."""
    cancelled = {}
    for former in _outdated(folder, earlier, dag):
        cancel([former.submission])
        tell(Cancelled(former.submission, "the checkpoints of its run are made again or restored"))
        cancelled[former.submission.target] = replace(former, state="CANCELLED", accounted=None)
    return cancelled


def _outdated(folder: Path, earlier: Mapping[str, Earlier], dag: Any) -> Iterator[Earlier]:
    """Live jobs for targets whose run Snakemake's DAG trains anew, or takes a training back of.

    Then a target may be there already: its job would replace it by what it makes of other checkpoints.
    """
    needed = {path: job for job in dag.needrun_jobs() for path in job.output}
    for target, former in earlier.items():
        job, training = needed.get(target), paths.finetune_record(paths.target_of(target)[0])
        # While its run is trained, an evaluation of an earlier epoch may be at its end.
        is_over = job is None and is_made(folder, former.submission)
        if former.is_live and not is_over and (_waits_for_others(job, dag) if job else training in needed):
            yield former


def _waits_for_others(job: Any, dag: Any) -> bool:
    """Whether another job of the cluster has to end before this one can begin."""
    needed = [other for other in dag.dependencies[job] if dag.needrun(other)]
    return any(not other.is_local or _waits_for_others(other, dag) for other in needed)
