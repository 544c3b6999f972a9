"""What the terminal says about jobs."""

from __future__ import annotations

import logging
from dataclasses import replace

from ended_jobs import R4

from run_experiment.slurm.events import Detached, Finished, Held
from snakemake_executor_plugin_slurm_attached.messages import level, message


def test_a_job_that_is_submitted_again_is_told_in_one_line() -> None:
    why = "SLURM job 17 ended as TIMEOUT: its output is 17.out\n    slurmstepd: error"
    told = "tiny.r4: SLURM job 17 ended as TIMEOUT: its output is 17.out; it is submitted again: out of time"
    event = Finished(R4, False, "TIMEOUT", why, "out of time")
    assert (level(event), message(event)) == (logging.WARNING, told)
    assert message(replace(event, again="")) is None


def test_jobs_that_wait_for_one_reason_are_told_of_in_one_line() -> None:
    event = Held((R4, replace(R4, name="tiny.r8", job_id="18")), "Licenses", "others hold it")
    assert message(event) == "2 jobs wait (tiny.r4, tiny.r8) (Licenses): others hold it"
    assert message(replace(event, submissions=(R4,))) == "tiny.r4: SLURM job 17 waits (Licenses): others hold it"
    assert message(replace(event, again=True)) is None


def test_how_many_jobs_are_left_is_told_with_what_to_do() -> None:
    r8 = replace(R4, name="tiny.r8", job_id="18+2")
    assert message(Detached((R4, r8, replace(r8, job_id="18+1")), cancelled=False)) == (
        "Stopped; 2 SLURM jobs keep running; nothing more is submitted.\n"
        "To follow them again, run the same command.\n"
        "To cancel them: scancel 17 18"
    )
    assert message(Detached((R4,), cancelled=False)) == (
        "Stopped; 1 SLURM job keeps running; nothing more is submitted.\n"
        "To follow it again, run the same command.\n"
        "To cancel it: scancel 17"
    )
    assert message(Detached((R4,), cancelled=True)) == "Stopped; 1 SLURM job was cancelled."
