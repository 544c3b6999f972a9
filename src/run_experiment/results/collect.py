"""Collects the results of an experiment as it lies there, finished or not."""

from __future__ import annotations

from pathlib import Path

from run_experiment.common import paths
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.file_hashes import hash_memory
from run_experiment.planning.build import make_plan
from run_experiment.planning.results_state import Records
from run_experiment.planning.snapshot import Snapshot
from run_experiment.results.page import write_results
from run_experiment.summary.read import read_experiment


def read_records(folder: Path) -> Records:
    """The records of the experiment in `folder` as it lies there. Raises InputError."""
    experiment = read_experiment(folder / paths.SUMMARY)
    plan = make_plan(experiment, Settings(experiment_dir=folder), hash_memory(folder), Snapshot(folder))
    return Records(plan)


def collect(folder: Path) -> Records:
    """Write the results of the experiment in `folder`; returns the records that they are of. Raises InputError."""
    records = read_records(folder)
    write_results(records)
    return records
