"""How long the attempts took whose work a training goes on with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from run_experiment.attempts import history
from run_experiment.attempts.saved import SAVED, seconds_gone_on_from
from run_experiment.common.json_files import write_record

SECOND = 10**9
FIRST, SECOND_EPOCH = {"epoch_0": [100 * SECOND, 1]}, {"epoch_0": [100 * SECOND, 1], "epoch_1": [250 * SECOND, 1]}


def attempt(number: int, file: str, **facts: Any) -> None:
    path = Path(f"r4/attempts/{number}/{file}")
    write_record(path, {"target": "finetune", "job_id": str(number), "clock": number, "error": "no", **facts})
    os.utime(path, (200, 200))


def test_those_count_that_saved_something_which_is_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    attempt(1, "attempt.json", **{SAVED: {}}, seconds=1000)
    # Another one began anew.
    attempt(2, "attempt.json", **{SAVED: {}}, seconds=90.5)
    attempt(3, "attempt.json", **{SAVED: FIRST}, seconds=7)
    # It was killed, 50 seconds after it began by the file server's clock.
    attempt(4, "begun.json", **{SAVED: FIRST})
    attempt(5, "attempt.json", seconds=3)
    earlier = list(reversed(history.read(Path(), "r4")))
    assert seconds_gone_on_from(earlier, SECOND_EPOCH) == 90.5 + 50
    assert seconds_gone_on_from(earlier, FIRST) == 90.5
    assert seconds_gone_on_from(earlier, {}) == 0
