"""Jobs name themselves by their own allocation, and two never share a folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from run_experiment.jobs.checks import make_unused
from run_experiment.jobs.run import note_own_allocation, own_job_id


def test_the_allocation_of_the_main_process_is_none_of_a_job() -> None:
    environment = {"SLURM_JOB_ID": "4711"}
    assert own_job_id("5", environment) == "4711"
    note_own_allocation(environment)
    assert own_job_id("5", environment) == "local-5"
    # As sbatch sets it for what is submitted from there.
    environment["SLURM_JOB_ID"] = "4712"
    assert own_job_id("5", environment) == "4712"


def test_without_slurm_there_is_the_number() -> None:
    environment: dict[str, str] = {}
    note_own_allocation(environment)
    assert own_job_id("5", environment) == "local-5"


def test_jobs_of_one_id_make_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: make_unused(tmp_path / "attempts" / "17"), range(64)))
    assert len(set(made)) == 64
