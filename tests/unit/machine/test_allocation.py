"""The allocation of the main process is told apart from those of its jobs."""

from __future__ import annotations

from run_experiment.machine.allocation import note_own_allocation, own_job_id


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


def test_a_job_of_several_targets_has_an_id_for_each() -> None:
    assert own_job_id("5", {"SLURM_JOB_ID": "4711", "RUN_EXPERIMENT_PLACE": "2"}) == "4711+2"


def test_an_element_of_a_job_array() -> None:
    environment = {"SLURM_JOB_ID": "4713", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "2"}
    assert own_job_id("5", environment) == "4711_2"
