"""What a plan does once, or not at all, however many targets it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from small_experiment import make_small_experiment, plan_of

from run_experiment.jobscripts import render
from run_experiment.jobscripts.render import eval_command


def test_planning_renders_a_script_of_each_model_and_those_that_were_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_small_experiment(tmp_path / "experiment")
    plan_of(experiment).write_scripts()
    rendered: list[Any] = []

    def counted(evaluation: Any, **given: Any) -> list[str]:
        rendered.append(evaluation.subject)
        return eval_command(evaluation, **given)

    monkeypatch.setattr(render, "eval_command", counted)
    assert plan_of(experiment).left_behind() == []
    assert rendered == ["base/shout/base", "given/shout/base"]
    rendered.clear()
    experiment.edit("r4/eval/shout_epoch0.slurm", "HF_HUB_OFFLINE=1", "HF_HUB_OFFLINE=0")
    assert plan_of(experiment).left_behind() == []
    assert rendered == ["r4/shout/epoch0", "base/shout/base", "given/shout/base"]


def test_evaluations_that_call_a_task_alike_share_what_determines_it(tmp_path: Path) -> None:
    plan = plan_of(make_small_experiment(tmp_path / "experiment"))
    first, second = (plan[f"{name}.json"].config for name in ("r4/eval/shout_epoch0", "r8/eval/shout_epoch1"))
    assert first["task"] is second["task"]


def test_scripts_of_another_tool_are_looked_for_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = make_small_experiment(tmp_path / "experiment")
    cells = [experiment.path / f"r4/eval/shout_epoch{epoch}/cell.slurm" for epoch in (0, 1)]
    cells[1].parent.mkdir(parents=True)
    cells[1].touch()
    asked: list[Any] = []
    stat = os.stat

    def counted(path: Any, *given: Any, **options: Any) -> os.stat_result:
        asked.append(path)
        return stat(path, *given, **options)

    monkeypatch.setattr(os, "stat", counted)
    plan_of(experiment)
    scripts = {Path(path) for path in asked if str(path).endswith("cell.slurm")}
    # Of the run without such a folder none is looked for.
    assert scripts == set(cells)
