"""Evaluations that share a job: what the demo's five cost on the test cluster, alone and together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cluster import OPTIONS, BenchmarkError, job_seconds, run_workflow
from cluster_runs import ClusterJob, settled
from snakemake_cli import SOURCE
from tables import Figure

from run_experiment.slurm.job_ids import slurm_id

_DEMO = SOURCE / "examples/capitalization"
_FILES = ("experiment_summary.yaml", "capitalization.py", "data")
_TRAININGS, _EVALUATIONS = 2, 5
# One job at a time: beside each other they would share this machine's cores.
_ALONE = [*OPTIONS, "--slurm-attached-max-queued", "1"]

# Goal: of what they cost alone.
TOGETHER = 0.6


def shared_figures(folder: Path) -> list[Figure]:
    """Train the demo, evaluate it in jobs of one evaluation, and again in one job. Raises BenchmarkError.

    Its jobs hold one GPU each for as long as they take.
    """
    experiment = _demo(folder / "experiment")
    first = _jobs(experiment, _TRAININGS + _EVALUATIONS, "evaluations_per_job=1")
    alone = [job for job in first if job.name.count(".") > 1]
    again = _jobs(experiment, len(first) + _EVALUATIONS, f"evaluations_per_job={_EVALUATIONS}", "redo=*/*/*")
    together = [job for job in again if job not in first]
    if not 0 < len(together) < len(alone) == _EVALUATIONS:
        raise BenchmarkError(f"{len(alone)} jobs evaluated alone and {len(together)} together")
    before, after = (sum(map(job_seconds, jobs)) for jobs in (alone, together))
    return [
        Figure(f"{_EVALUATIONS} evaluations of the demo alone, GPU-seconds", before, "s"),
        Figure("the same together, GPU-seconds", after, "s"),
        Figure("GPU-seconds together over alone", after / before, goal=TOGETHER),
    ]


def _demo(folder: Path) -> Path:
    """A folder with what the demo reads."""
    subprocess.run([sys.executable, _DEMO / "prepare.py"], stdout=subprocess.DEVNULL, check=True)
    folder.mkdir()
    for name in _FILES:
        copy = shutil.copytree if (_DEMO / name).is_dir() else shutil.copyfile
        copy(_DEMO / name, folder / name)
    (folder / "model").symlink_to(_DEMO / "model")
    return folder


def _jobs(experiment: Path, targets: int, *config: str) -> list[ClusterJob]:
    """Run it; returns all its jobs so far, which made so many targets. Raises BenchmarkError."""
    log = experiment.with_name("snakemake.log")
    settings = ["early_evaluation=false", *config]
    if run_workflow(experiment, log, {**os.environ}, *settings, options=_ALONE):
        raise BenchmarkError("\n".join(log.read_text().splitlines()[-40:]))
    return list({slurm_id(job.job_id): job for job in settled(experiment, targets)}.values())
