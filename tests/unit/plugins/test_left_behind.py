"""What a job left that ended badly, and what the next one makes of it."""

from __future__ import annotations

import errno
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ended_jobs import LIMITS, NOON, R4, TRAINING, accounted

from run_experiment.attempts import history
from run_experiment.attempts.files import Failure
from run_experiment.attempts.saved import saved_files
from run_experiment.common.json_files import write_record
from snakemake_executor_plugin_slurm_attached.ends.left_behind import read_left, why_failed
from snakemake_executor_plugin_slurm_attached.ends.retry_policy import judge
from snakemake_executor_plugin_slurm_attached.ends.verdict import End, verdict


def test_a_job_whose_output_cannot_be_opened_has_run_nothing(tmp_path: Path) -> None:
    job, output = accounted("FAILED", "0:53"), tmp_path / "logs/slurm/17.out"
    said = why_failed(tmp_path, job, R4, output)
    assert said.endswith(f"SLURM could not write {output}: its folder has to exist, and to be writable on n1")
    left = read_left(tmp_path, job, R4, output, TRAINING)
    assert judge(job, left, 0, LIMITS).again == "SLURM could not write its output, retry 1 of 3"
    assert "cannot write to the experiment's folder logs/slurm" in judge(job, left, 3, LIMITS).advice
    output.parent.mkdir(parents=True)
    output.touch()
    assert judge(job, read_left(tmp_path, job, R4, output, TRAINING), 0, LIMITS).again == ""


def test_a_job_that_could_write_nothing_failed_for_the_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left neither a record nor output; what did leave something, failed for that."""
    full = f"{tmp_path}: cannot take a file (No space left on device): make room"
    monkeypatch.setattr("tempfile.TemporaryFile", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    output = tmp_path / "17.out"
    output.touch()
    said = why_failed(tmp_path, accounted("FAILED", "1:0"), R4, output)
    assert said.endswith(f": {full}; its output is {output}")
    output.write_text("some error\n")
    assert full not in why_failed(tmp_path, accounted("FAILED", "1:0"), R4, output)


def test_what_a_job_reported_is_of_its_last_try_in_its_last_start(tmp_path: Path) -> None:
    """`17` is an earlier try: in the same allocation, or before the job was requeued."""
    output, before, after = tmp_path / "17.out", NOON.replace(hour=11).isoformat(), NOON.isoformat()
    attempts = tmp_path / "r4/attempts"

    def left() -> tuple[bool, bool]:
        found = read_left(tmp_path, accounted("FAILED", "0:9"), R4, output, TRAINING)
        return found.reported, "too little" in why_failed(tmp_path, accounted("FAILED"), R4, output)

    assert left() == (False, False)
    write_record(attempts / "17/attempt.json", {"ended": before, "error": "too little"})
    assert left() == (False, False)
    write_record(attempts / "17/attempt.json", {"ended": after, "error": "too little"})
    assert left() == (True, True)
    write_record(attempts / "17.2/begun.json", {"started": after})
    write_record(attempts / "170/attempt.json", {"ended": after, "error": "too little"})
    assert left() == (False, False)
    write_record(attempts / "17.2/attempt.json", {"ended": after, "error": "too little"})
    assert left() == (True, True)


@pytest.mark.parametrize("minutes", [-4, 4], ids=["behind", "ahead"])
def test_what_a_job_reported_is_of_its_last_start_whatever_its_node_s_clock(tmp_path: Path, minutes: int) -> None:
    """A job that failed knows from SLURM when that started it."""
    ended = (NOON + timedelta(minutes=minutes)).isoformat()

    def left(start: datetime) -> bool:
        allocation = {"restarts": 0, "started": start.isoformat(), "ended": ended, "start_known_to_slurm": True}
        facts = {"ended": ended, "error": "too little", "allocation": allocation}
        write_record(tmp_path / "r4/attempts/17/attempt.json", facts)
        return read_left(tmp_path, accounted("FAILED", "0:9"), R4, tmp_path / "17.out", TRAINING).reported

    assert left(NOON) is True
    assert left(NOON - timedelta(minutes=2)) is False


@pytest.mark.parametrize(
    ("line", "over_memory"),
    [
        ("slurmstepd-n1: error: StepId=17.batch exceeded memory limit (433188864 > 52428800), being killed", True),
        ("slurmstepd: error: Exceeded job memory limit", True),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=17.batch. Some of the step tasks...", True),
        ("slurmstepd: error: *** JOB 17 ON n1 CANCELLED AT 2025-01-31T12:00:00 ***", False),
        ("RuntimeError: exceeded memory limit", False),
    ],
)
def test_slurm_may_only_say_in_words_that_memory_ran_out(tmp_path: Path, line: str, over_memory: bool) -> None:
    (tmp_path / "17.out").write_text(f"{line}\nslurmstepd: error: *** JOB 17 ON n1 CANCELLED ***\n")
    left = read_left(tmp_path, accounted("FAILED", "0:9"), R4, tmp_path / "17.out", TRAINING)
    assert left.over_memory is over_memory


@pytest.mark.parametrize(
    ("facts", "file", "goes_on"),
    [
        (TRAINING, "r4/artifacts/epoch_1/recipe_state.pt", True),
        # Of a script that begins anew whatever it finds.
        (TRAINING, "r4/artifacts/epoch_0/adapter_model.safetensors", False),
        (TRAINING, "r4/artifacts/.epoch_1.partial/recipe_state.pt", False),
        # Of one that knows its own way.
        (TRAINING | {"output_dir": None}, "r4/artifacts/epoch_0/adapter_model.safetensors", True),
        (TRAINING | {"output_dir": None}, "r4/artifacts/metrics.csv", False),
    ],
)
def test_a_training_goes_on_from_an_epoch_that_its_job_saved(
    tmp_path: Path, facts: dict[str, Any], file: str, goes_on: bool
) -> None:
    """Whatever time a file server gives the file: its clock may be behind SLURM's."""
    path, begun = tmp_path / file, tmp_path / "r4/attempts/17/begun.json"
    path.parent.mkdir(parents=True)
    write_record(begun, {"saved": {}})
    path.touch()
    os.utime(path, (NOON.timestamp() - 180, NOON.timestamp() - 180))

    def left() -> bool:
        return read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", facts).goes_on

    assert left() is goes_on
    # The next try in the same start found it, one of the next start did not add to it.
    there = saved_files(tmp_path, facts["output_dir"], facts["checkpoints"])
    write_record(begun.parents[1] / "17.2/begun.json", {"saved": there})
    assert left() is goes_on
    write_record(begun.parents[1] / "17.3/begun.json", {"saved": there, "restarts": 1})
    assert left() is False
    path.write_text("anew")
    assert left() is goes_on


def test_a_job_that_did_not_come_to_its_training_saved_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r4/artifacts/epoch_1/recipe_state.pt"
    path.parent.mkdir(parents=True)
    path.touch()
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", TRAINING).goes_on is False
    write_record(tmp_path / "r4/attempts/17/begun.json", {})
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", TRAINING).goes_on is False


@pytest.mark.parametrize(("begun", "goes_on"), [({"goes_on": True}, True), ({"goes_on": False}, False)])
def test_an_evaluation_goes_on_where_its_script_can_be_told_to(
    tmp_path: Path, begun: dict[str, object], goes_on: bool
) -> None:
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", {}).goes_on is True
    write_record(tmp_path / "r4/attempts/17/begun.json", begun)
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", {}).goes_on is goes_on


def test_the_next_job_finds_why_this_one_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's word counts where the job could say nothing; the number of retries is the setting's, or 3."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "17.out"
    output.write_text("slurmstepd: error: Exceeded job memory limit\n")
    begun = {"job_id": "17", "target": "finetune", "config": {}, "started": NOON.isoformat(), "batch_size": 8}
    write_record(tmp_path / "r4/attempts/17/begun.json", begun)
    end = End(R4, False, "FAILED", "SLURM job 17 ended as FAILED, exit code 0:9", accounted("FAILED", "0:9"))
    assert verdict(tmp_path, end, output, TRAINING, 0).again == "out of memory, retry 1 of 3"
    (attempt,) = history.read(tmp_path, "r4")
    assert (attempt.failure, attempt.error) == (Failure.OUT_OF_MEMORY, end.message)
    assert verdict(tmp_path, end, output, TRAINING | {"retries": 1}, 1).again == ""
    assert verdict(tmp_path, End(R4, False, "LOST", "lost"), output, TRAINING, 0).again == ""
    (tmp_path / "r4/attempts/17/slurm.json").unlink()
    assert verdict(tmp_path, End(R4, True, "COMPLETED"), output, TRAINING, 0).again == ""
    assert not (tmp_path / "r4/attempts/17/slurm.json").exists()
