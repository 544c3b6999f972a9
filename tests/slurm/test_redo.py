"""On a real cluster: what was asked for to be made again is made once, whatever becomes of the main process."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from cluster_runs import AT_ONCE, Run, jobs, names, run, sleeping, until

REDO = ["redo=r8"]


def states(folder: Path) -> list[str]:
    """States of the trainings of r8, in the order of their submission."""
    return [job.state for job in jobs(folder) if job.name == "tiny.r8"]


@pytest.mark.parametrize("runs_on", [True, False], ids=["still running", "ended meanwhile"])
def test_redo_of_a_killed_main_process_is_gone_on_with(tmp_path: Path, runs_on: bool) -> None:
    experiment = sleeping(tmp_path, train=12 if runs_on else 3, evaluate=1)
    result = run(experiment.path, *AT_ONCE)
    assert result.process.returncode == 0, result.output
    before = names(experiment.path)
    old = experiment.record("r8/finetune.json")

    killed = Run(experiment.path, *AT_ONCE, config=REDO)
    until(lambda: states(experiment.path)[1:] == ["RUNNING"], 60)
    killed.kill()
    if not runs_on:
        until(lambda: states(experiment.path)[1:] == ["COMPLETED"], 60)
    result = run(experiment.path, *AT_ONCE, config=REDO)
    assert result.process.returncode == 0, result.output
    # The new checkpoint is byte for byte the old one: once that is known, nothing is evaluated again.
    evaluated = Counter({"tiny.r8.shout.e0": 1} if runs_on else {})
    assert names(experiment.path) == before + Counter({"tiny.r8": 1}) + evaluated
    new = experiment.record("r8/finetune.json")
    assert new["started"] > old["started"]
    assert new["job_id"] == [job.job_id for job in jobs(experiment.path) if job.name == "tiny.r8"][1]
    assert "restored_by" not in new
    assert "Nothing to be done" in run(experiment.path).output
