"""Which bad ends of jobs another job can mend, and what the user can do about the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ended_jobs import LIMITS, accounted

from snakemake_executor_plugin_slurm_attached.ends.retry_policy import Left, Limits, judge


@pytest.mark.parametrize(
    ("elapsed", "limit", "goes_on", "again"),
    [
        (3480, 3600, True, "out of time, retry 1 of 3"),
        (3480, 3600, False, ""),
        (60, 3600, False, "killed, retry 1 of 3"),
        (3480, None, False, "killed, retry 1 of 3"),
    ],
)
def test_a_job_that_a_signal_ends_before_its_time_limit_is_out_of_time(
    elapsed: int, limit: int | None, goes_on: bool, again: str
) -> None:
    job = replace(accounted("FAILED", "143:0"), elapsed_seconds=elapsed, time_limit_seconds=limit)
    found = judge(job, Left(reported=True, goes_on=goes_on), 0, LIMITS)
    assert found.again == again
    assert ("within its time limit: raise `#SBATCH --time`" in found.advice) == (not again)
    assert judge(replace(job, state="CANCELLED"), Left(goes_on=goes_on), 0, LIMITS).again == ""
    assert judge(replace(job, state="PREEMPTED"), Left(goes_on=goes_on), 0, LIMITS).again == "preempted, retry 1 of 3"


@pytest.mark.parametrize(
    ("state", "exit_code", "left", "again"),
    [
        ("PREEMPTED", "0:0", Left(reported=True), "preempted"),
        ("NODE_FAIL", "0:0", Left(), "its node failed"),
        ("BOOT_FAIL", "0:0", Left(), "its node did not boot"),
        ("TIMEOUT", "0:0", Left(reported=True), "out of time"),
        ("TIMEOUT", "0:0", Left(goes_on=False), ""),
        ("OUT_OF_MEMORY", "0:125", Left(), "out of memory"),
        ("OUT_OF_MEMORY", "1:0", Left(reported=True), ""),
        ("OUT_OF_MEMORY", "0:125", Left(smaller=False), ""),
        ("FAILED", "0:9", Left(over_memory=True), "out of memory"),
        ("FAILED", "0:9", Left(), "killed"),
        ("FAILED", "137:0", Left(), "killed"),
        ("FAILED", "0:9", Left(reported=True, over_memory=True), ""),
        ("FAILED", "1:0", Left(), ""),
        ("FAILED", "0:15", Left(), ""),
        ("FAILED", "143:0", Left(reported=True), "killed"),
        ("FAILED", "9:0", Left(over_memory=True), "out of memory"),
        ("FAILED", "15:0", Left(reported=True), "killed"),
        ("FAILED", "3:0", Left(over_memory=True), ""),
        ("CANCELLED", "0:9", Left(), ""),
        ("DEADLINE", "0:0", Left(), ""),
        ("REVOKED", "0:0", Left(), ""),
    ],
)
def test_what_another_job_can_mend(state: str, exit_code: str, left: Left, again: str) -> None:
    found = judge(accounted(state, exit_code), left, 0, LIMITS)
    assert found.again == (f"{again}, retry 1 of 3" if again else "")
    assert found.state == ("OUT_OF_MEMORY" if again == "out of memory" else state)
    last = judge(accounted(state, exit_code), left, 2, LIMITS)
    assert bool(last.again) == bool(again)
    over = judge(accounted(state, exit_code), left, 3, LIMITS)
    assert over.again == ""
    assert ("It was submitted 4 times: raise the setting `retries`, or" in over.advice) == bool(again)


@pytest.mark.parametrize(
    ("state", "left", "retries", "advice"),
    [
        ("TIMEOUT", Left(), 0, "once: raise the setting `retries`, or raise `#SBATCH --time` in r4/finetune.slurm"),
        ("TIMEOUT", Left(goes_on=False), 3, "within its time limit: raise `#SBATCH --time` in r4/finetune.slurm"),
        ("OUT_OF_MEMORY", Left(), 0, "raise `#SBATCH --mem` in r4/finetune.slurm"),
        ("PREEMPTED", Left(), 0, "whose jobs are not preempted"),
        ("NODE_FAIL", Left(), 0, "`#SBATCH --exclude=n1` in r4/finetune.slurm"),
        ("FAILED", Left(), 0, "see what kills it on n1"),
    ],
)
def test_advice_at_the_end(state: str, left: Left, retries: int, advice: str) -> None:
    found = judge(accounted(state, "0:9"), left, 0, Limits(retries, "r4/finetune.slurm"))
    assert found.again == ""
    assert advice in found.advice


@pytest.mark.parametrize(
    ("state", "keys", "resources", "advice"),
    [
        ("TIMEOUT", {}, [], "raise `#SBATCH --time` in r4/finetune.slurm"),
        ("TIMEOUT", {"time": "here"}, ["mem_mb"], "raise `#SBATCH --time` in r4/finetune.slurm (here)"),
        ("TIMEOUT", {"time": "here"}, ["runtime"], "raise the resource runtime of the profile or of --set-resources"),
        ("OUT_OF_MEMORY", {"mem": "here"}, ["runtime"], "raise `#SBATCH --mem` in r4/finetune.slurm (here)"),
        ("OUT_OF_MEMORY", {}, ["mem_mb"], "raise the resource mem_mb of the profile or of --set-resources"),
    ],
)
def test_advice_names_what_decides(state: str, keys: dict[str, str], resources: list[str], advice: str) -> None:
    found = judge(accounted(state), Left(), 0, Limits(0, "r4/finetune.slurm", keys, resources))
    assert found.advice.endswith(advice)
