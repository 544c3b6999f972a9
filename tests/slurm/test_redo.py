"""On a real cluster: what is chosen is made and nothing else; what was asked for to be made again is made once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from cluster_runs import AT_ONCE, Run, hold, jobs, names, run, sleeping, until
from experiments import make_experiment
from snakemake_cli import planned

REDO = ["redo=r8"]


def states(folder: Path) -> list[str]:
    """States of the trainings of r8, in the order of their submission."""
    return [job.state for job in jobs(folder) if job.name == "tiny.r8"]


def test_exactly_what_is_named_is_planned_and_submitted(tmp_path: Path) -> None:
    """With the real torchtune and inspect-ai."""
    experiment = make_experiment(tmp_path / "experiment", epochs=1)
    steps = [
        (["only=r8,base/*/*"], ["tiny.r8", "tiny.base.shout"]),
        (["only=r4/shout/epoch0"], ["tiny.r4", "tiny.r4.shout.e0"]),
        (["only=base/*/*,r4/*/*", "redo=*/shout/base"], ["tiny.base.shout"]),
    ]
    for config, wanted in steps:
        before = names(experiment.path)
        counts = planned(experiment.path, "--config", *config, profile="slurm")
        assert counts["run_finetune"] == sum("shout" not in name for name in wanted)
        assert counts["run_evaluation"] == sum("shout" in name for name in wanted)
        assert names(experiment.path) == before
        result = run(experiment.path, *AT_ONCE, config=config)
        assert result.process.returncode == 0, result.output
        assert names(experiment.path) - before == Counter(wanted)
    assert planned(experiment.path, profile="slurm")["run_evaluation"] == 1, "of r8, which was never asked for"


@pytest.mark.parametrize("runs_on", [True, False], ids=["still running", "ended meanwhile"])
def test_redo_of_a_killed_main_process_is_gone_on_with(tmp_path: Path, runs_on: bool) -> None:
    experiment = sleeping(tmp_path, train=1)
    go = hold(experiment)
    go.touch()
    result = run(experiment.path, *AT_ONCE)
    assert result.process.returncode == 0, result.output
    before = names(experiment.path)
    old = experiment.record("r8/finetune.json")

    go.unlink()
    killed = Run(experiment.path, *AT_ONCE, config=REDO)
    until(lambda: states(experiment.path)[1:] == ["RUNNING"])
    killed.kill()
    if not runs_on:
        go.touch()
        until(lambda: states(experiment.path)[1:] == ["COMPLETED"])
    result = Run(experiment.path, *AT_ONCE, config=REDO)
    if runs_on:
        result.until("tiny.r8: following SLURM job")
        go.touch()
    assert result.wait() == 0, result.output
    # The new checkpoint is byte for byte the old one: once that is known, nothing is evaluated again.
    evaluated = Counter({"tiny.r8.shout.e0": 1} if runs_on else {})
    assert names(experiment.path) == before + Counter({"tiny.r8": 1}) + evaluated
    new = experiment.record("r8/finetune.json")
    assert new["started"] > old["started"]
    assert new["job_id"] == [job.job_id for job in jobs(experiment.path) if job.name == "tiny.r8"][1]
    assert "restored_by" not in new
    assert "Nothing to be done" in run(experiment.path).output
