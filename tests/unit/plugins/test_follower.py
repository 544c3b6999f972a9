"""The follower, with what SLURM's clients may say at the worst moment."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from run_experiment.common.json_files import write_record
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.earlier_jobs import earlier_jobs, planned_submission
from snakemake_executor_plugin_slurm_attached.follower import End, Follower

# What `accounting` and `queue` ask for, in that order.
ACCOUNTED = (
    "{job.job_id};{job.name};{job.uid};{job.comment};{state};{code};None;2025-01-31T12:00:00;2025-01-31T12:00:05;"
    "Unknown;n1;1;600;0;1;1;00:00:10;1G;cpu=1;cpu=1;"
)
QUEUED = ";{job.job_id};{state};None;{job.name};{job.comment};"
TARGET = "r4/finetune.json"


class Slurm:
    """Shims of sacct and squeue on PATH, which say what they are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._shim("sacct", "for word; do case $word in --delimiter=*) mark=${word#*=};; esac; done")
        self._shim("squeue", "for word; do :; done; mark=${word##*%k}")

    def _shim(self, name: str, find_mark: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/bash\n{find_mark}\nfound=$(cat {path}.says)\necho "${{found//;/$mark}}"\n')
        path.chmod(0o755)

    def says(self, job: Submission, accounted: str, queued: str, code: str = "0:0") -> None:
        """What they say of a job; nothing where its state is empty."""
        row = ACCOUNTED.format(job=job, state=accounted, code=code) if accounted else ""
        (self.folder / "sacct.says").write_text(row)
        (self.folder / "squeue.says").write_text(QUEUED.format(job=job, state=queued) if queued else "")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return Slurm(tmp_path / "bin")


@pytest.fixture
def job(tmp_path: Path) -> Submission:
    facts = {"target": TARGET, "config_hash": "0123456789abcdef" * 4, "name": "tiny.r4"}
    return replace(planned_submission(tmp_path, facts), job_id="17")


def follow(folder: Path, job: Submission, patience: float = 60, latency: float = 60) -> Follower:
    follower = Follower(folder, 0.1, patience, latency, lambda event: None)
    follower.add(job, folder / "17.out")
    return follower


def looked(follower: Follower, seconds: float) -> list[End]:
    """Ends that it finds, at most for so long."""
    deadline, found = time.monotonic() + seconds, []
    while not found and time.monotonic() < deadline:
        found = follower.look()
        time.sleep(0.05)
    return found


def failed(folder: Path, why: str) -> None:
    write_record(folder / "r4/attempts/17/attempt.json", {"target": "finetune", "job_id": "17", "error": why})


def test_a_job_whose_first_try_took_too_much_memory_may_have_made_its_record(
    tmp_path: Path, slurm: Slurm, job: Submission
) -> None:
    """SLURM counts the whole job as out of memory; the record of its second try shows late."""
    follower = follow(tmp_path, job)
    failed(tmp_path, "the first try")
    slurm.says(job, "OUT_OF_MEMORY", "", code="0:125")
    assert looked(follower, 3) == []
    write_record(tmp_path / TARGET, {"job_id": "17", "config_hash": job.config_hash})
    (end,) = looked(follower, 3)
    assert end.succeeded


def test_a_job_out_of_memory_is_not_waited_for_for_ever(tmp_path: Path, slurm: Slurm, job: Submission) -> None:
    follower = follow(tmp_path, job, latency=1)
    slurm.says(job, "OUT_OF_MEMORY", "", code="0:125")
    (end,) = looked(follower, 10)
    assert (end.succeeded, end.state) == (False, "OUT_OF_MEMORY")


def test_an_error_of_this_machine_loses_no_end(
    tmp_path: Path, slurm: Slurm, job: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a login node limits how many threads there may be."""
    follower = follow(tmp_path, job)
    slurm.says(job, "RUNNING", "RUNNING")
    write_record(tmp_path / TARGET, {"job_id": "17", "config_hash": job.config_hash})
    time.sleep(0.2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no new thread")))
        with pytest.raises(RuntimeError):
            follower.look()
    (end,) = looked(follower, 3)
    assert end.succeeded
    assert looked(follower, 0.5) == []


@pytest.mark.parametrize("accounted", ["RUNNING", ""])
def test_a_job_that_left_the_queue_without_an_end_is_given_up(
    tmp_path: Path, slurm: Slurm, job: Submission, accounted: str
) -> None:
    """Accounting lost its end, or never knew it; what the job itself left is told."""
    follower = follow(tmp_path, job, patience=1)
    slurm.says(job, accounted, "RUNNING")
    assert looked(follower, 4) == []
    failed(tmp_path, "KeyError: 'input'")
    slurm.says(job, accounted, "")
    (end,) = looked(follower, 10)
    assert (end.succeeded, end.state) == (False, "LOST")
    assert end.message == "SLURM does not know job 17 any more, nor how it ended: KeyError: 'input'"


def test_jobs_of_a_folder_that_was_copied_stay_the_other_one_s(tmp_path: Path, slurm: Slurm, job: Submission) -> None:
    slurm.says(job, "RUNNING", "RUNNING")
    for name in ("original", "copy"):
        ledger = Ledger(tmp_path / name / "ledger.jsonl")
        ledger.intend(replace(job, job_id=None))
        ledger.accepted(job, "17")
        folder = tmp_path if name == "original" else tmp_path / name
        found = earlier_jobs(folder, ledger, lambda event: None)
        assert list(found) == ([TARGET] if name == "original" else [])
    assert job.uid == os.getuid()
