"""What the terminal says about jobs."""

from __future__ import annotations

import logging
from dataclasses import replace

from ended_jobs import R4

from run_experiment.slurm.events import Finished
from snakemake_executor_plugin_slurm_attached.messages import level, message


def test_a_job_that_is_submitted_again_is_told_in_one_line() -> None:
    why = "SLURM job 17 ended as TIMEOUT: its output is 17.out\n    slurmstepd: error"
    told = "tiny.r4: SLURM job 17 ended as TIMEOUT: its output is 17.out; it is submitted again: out of time"
    event = Finished(R4, False, "TIMEOUT", why, "out of time")
    assert (level(event), message(event)) == (logging.WARNING, told)
    assert message(replace(event, again="")) is None
