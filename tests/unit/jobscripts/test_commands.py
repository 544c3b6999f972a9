"""Commands of scripts: the folders that they give to inspect-ai, as far as their text says."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_experiment.evaluation.environment import log_environment
from run_experiment.jobscripts.commands import log_folders


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("inspect eval x --log-dir ./logs", ["logs"]),
        ("cd r4/eval/cap\ninspect eval x \\\n  --model y \\\n  --log-dir=../logs", ["r4/eval/logs"]),
        ("cd r4 && inspect eval x --log-dir logs; echo --log-dirs no", ["r4/logs"]),
        ('EVAL_DIR="r4/my eval"\ninspect eval x --log-dir "$EVAL_DIR/logs"', ["r4/my eval/logs"]),
        ("export OUT=${OUT:-all}\ninspect eval x --log-dir ${OUT}/$RUN", ["all/r4"]),
        ("cd /scratch/me\ninspect eval x --log-dir $PWD/logs", ["/scratch/me/logs"]),
        ("export INSPECT_LOG_DIR=their_logs\ninspect eval x", ["their_logs"]),
        ("INSPECT_LOG_DIR=$HOME/logs inspect eval x", ["/home/me/logs"]),
        ("# inspect eval x --log-dir old\ninspect eval x", []),
        ("inspect eval x --log-dir $(mktemp -d)", []),
        ("inspect eval x --log-dir $UNKNOWN/logs", []),
        ("echo it's\ninspect eval x --log-dir logs", ["logs"]),
        ("inspect eval x --log-dir a\ninspect eval x --log-dir a", ["a"]),
        ("inspect eval x --log-dir", []),
    ],
)
def test_log_folders_are_read_from_a_script(script: str, expected: list[str]) -> None:
    found = log_folders(script, {"HOME": "/home/me", "RUN": "r4", "PWD": "/experiment"})
    assert found == [Path("/experiment", path) for path in expected]


def test_own_script_s_default_is_no_other_folder() -> None:
    script = "export INSPECT_LOG_DIR=${INSPECT_LOG_DIR:-r4/attempts/by_hand}"
    assert log_folders(script, {**log_environment(Path("/x/attempt"), "17:abc"), "PWD": "/x"}) == []
