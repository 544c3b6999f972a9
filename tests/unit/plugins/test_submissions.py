"""The names by which a submission and its job know each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ended_jobs import R4, accounted

from run_experiment.slurm.job_ids import is_same
from snakemake_executor_plugin_slurm_attached.submissions import output_of


@pytest.mark.parametrize("length", [119, 128])
def test_the_longest_names_that_the_summary_may_have(tmp_path: Path, length: int) -> None:
    """A file's name may have 255 bytes; accounting cuts a job's name after as many characters."""
    name = ".".join(("x" * length, "r" * length, "t" * length, "e1"))
    submission = replace(R4, name=name, job_id="4294967295")
    output = output_of(tmp_path, submission)
    output.parent.mkdir(parents=True)
    output.touch()
    assert is_same(replace(accounted("FAILED"), name=name[:255]), submission)
    assert not is_same(replace(accounted("FAILED"), name=name[:254]), submission)
