"""SLURM's states and exit codes in words."""

from __future__ import annotations

import pytest

from run_experiment.slurm.ends import meaning


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("FAILED", "0:53", "SLURM could not open its output"),
        ("FAILED", "127:0", "a command in it was not found"),
        ("FAILED", "126:0", "cannot be executed"),
        ("FAILED", "137:0", "its memory ran out"),
        ("FAILED", "0:9", "its memory ran out"),
        ("FAILED", "139:0", "segmentation fault"),
        ("FAILED", "0:15", "SIGTERM"),
        ("FAILED", "271:0", "SIGTERM"),
        ("FAILED", "9:0", "its memory ran out"),
        ("FAILED", "11:0", "segmentation fault"),
        ("FAILED", "15:0", "SIGTERM"),
        ("FAILED", "0:10", "no trap"),
        ("FAILED", "0:125", "it used more memory than it requested"),
        ("OUT_OF_MEMORY", "0:125", "it used more memory than it requested"),
        ("BOOT_FAIL", "0:0", "its node did not start"),
        ("NODE_FAIL", "1:0", "its node failed"),
        ("DEADLINE", "0:15", "--deadline: request less time"),
        ("PREEMPTED", "0:15", "a job of higher priority"),
        ("TIMEOUT", "0:15", "its time limit passed"),
        ("REVOKED", "0:0", "another cluster"),
    ],
)
def test_what_it_means(state: str, code: str, words: str) -> None:
    assert words in meaning(state, code)


@pytest.mark.parametrize(
    ("state", "code"), [("FAILED", "1:0"), ("FAILED", "0:0"), ("CANCELLED", "0:15"), ("FAILED", ""), ("FAILED", "a:b")]
)
def test_what_says_enough_or_is_unknown(state: str, code: str) -> None:
    assert meaning(state, code) == ""
