"""The names by which a submission and its job know each other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ended_jobs import R4, accounted
from slurm_shims import Cluster

from run_experiment.attempts.turns import begin
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.slurm.job_ids import is_same
from snakemake_executor_plugin_slurm_attached.submissions import cancel_for, output_of


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


def test_a_job_that_has_only_some_of_what_was_submitted_is_another_one() -> None:
    """A controller that lost its state gives ids again, and other experiments have names and users in common."""
    submission, found = replace(R4, comment="ours", uid=1000), replace(accounted("RUNNING"), comment="ours", uid=1000)
    assert is_same(replace(found, name=R4.name), submission)
    assert is_same(replace(found, name=R4.name, comment=""), submission), "a site may keep no comments"
    for other in ({"comment": "theirs"}, {"uid": 1001}, {"name": "theirs"}):
        assert not is_same(replace(found, **{"name": R4.name, **other}), submission), other


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_job_that_has_begun_with_an_outdated_target_is_cancelled(
    tmp_path: Path, cluster: Cluster, is_removed: bool
) -> None:
    """Else two jobs would make it, also if somebody tidied up the notes on which job has begun with what."""
    cluster.shim(tmp_path / "bin", "scancel", f"echo $* >> {tmp_path}/cancelled")
    cluster.queue(tmp_path / "bin", "17 RUNNING tiny.r4")
    running, waiting = (replace(R4, comment="comment tiny.r4", job_id=job_id) for job_id in ("17+1", "17+2"))
    assert begin(tmp_path, "17+1")
    write_record(tmp_path / paths.attempts("r4") / "17+1" / "begun.json", {"target": "finetune", "job_id": "17+1"})
    if is_removed:
        shutil.rmtree(tmp_path / paths.TURNS)
    assert not cancel_for(tmp_path, waiting)
    assert cancel_for(tmp_path, running)
    assert (tmp_path / "cancelled").read_text() == "17\n"
