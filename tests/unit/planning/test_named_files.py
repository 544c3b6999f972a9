"""A file that a task reads counts by its content, whatever names it: old data is never evaluated as new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments import TASK, ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.common.json_files import same_config
from run_experiment.jobs.checks import JobError, require_inputs
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.planning.job_files import PlannedJobs

BASE = "base/eval/shout_base.json"


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    made = make_small_experiment(tmp_path / "experiment")
    (made.path / "tasks").mkdir()
    (made.path / "shout.py").rename(made.path / "tasks/shout.py")
    (made.path / "tasks/mine.yaml").write_text("prompt: a\n")
    (made.path / "tasks/prompts").mkdir()
    (made.path / "tasks/prompts/system.txt").write_text("Be loud.")
    values = made.read()
    values["evaluation"]["tasks"][0]["script"] = "tasks/shout.py"
    made.write(values)
    return made


def task(experiment: ExperimentFolder, old: str, new: str) -> None:
    assert old in TASK
    (experiment.path / "tasks/shout.py").write_text(TASK.replace(old, new))


def give(experiment: ExperimentFolder, **arguments: Any) -> None:
    task(experiment, "split: str", "extra: object = None, split: str")
    values = experiment.read()
    values["evaluation"]["tasks"][0]["args"] = arguments
    experiment.write(values)


def by_argument(experiment: ExperimentFolder) -> None:
    give(experiment, extra="mine.yaml")


def by_full_path(experiment: ExperimentFolder) -> None:
    give(experiment, extra=str(experiment.path / "tasks/mine.yaml"))


def by_nested_argument(experiment: ExperimentFolder) -> None:
    give(experiment, extra={"files": ["mine.yaml"]})


def by_folder(experiment: ExperimentFolder) -> None:
    (experiment.path / "tasks/mine.yaml").rename(experiment.path / "tasks/prompts/mine.yaml")
    give(experiment, extra="prompts")


def by_default(experiment: ExperimentFolder) -> None:
    task(experiment, "split: str", 'extra: str = "mine.yaml", split: str')


def by_source(experiment: ExperimentFolder) -> None:
    task(experiment, "    data =", '    open("mine.yaml")\n    data =')


def by_source_of_an_import(experiment: ExperimentFolder) -> None:
    task(experiment, "from inspect_ai.scorer", "import helpers\nfrom inspect_ai.scorer")
    (experiment.path / "tasks/helpers.py").write_text('TEXT = open("mine.yaml").read()\n')


def by_system_prompt(experiment: ExperimentFolder) -> None:
    """inspect-ai's `system_message` reads a file of that name."""
    values = experiment.read()
    values["evaluation"]["system_prompt"] = "mine.yaml"
    experiment.write(values)


def by_scorer(experiment: ExperimentFolder) -> None:
    task(experiment, "split: str", "scorers: object = None, split: str")
    values = experiment.read()
    values["evaluation"]["scorer"] = {"name": "rubric", "params": {"file": "mine.yaml"}}
    experiment.write(values)


WAYS = [
    *(by_argument, by_full_path, by_nested_argument, by_folder, by_default, by_source, by_source_of_an_import),
    *(by_system_prompt, by_scorer),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_file_is_evaluated_anew(
    experiment: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, way: Callable[[ExperimentFolder], None]
) -> None:
    way(experiment)
    complete(experiment)
    before = plan_of(experiment)
    assert not before[BASE].wanted
    monkeypatch.chdir(experiment.path)
    job = EvaluationJob.read(PlannedJobs(before).evaluation("base", "shout_base"))
    require_inputs(job)
    (file,) = (experiment.path / "tasks").rglob("mine.yaml")
    file.write_text("prompt: b\n")
    after = plan_of(experiment)
    assert after[BASE].wanted
    assert after[BASE].why.startswith("the file ")
    assert after[BASE].why.endswith(" that the task reads changed")
    # inspect-ai keeps what it read in a cache, which needs to be another one.
    assert before.data_sets.by_name["shout"].folder != after.data_sets.by_name["shout"].folder
    with pytest.raises(JobError, match="changed since this job was planned"):
        require_inputs(job)


def test_nothing_changes_for_tasks_that_name_no_file(experiment: ExperimentFolder) -> None:
    assert "files" not in plan_of(experiment)[BASE].config["task"]
    assert "files" not in plan_of(experiment).data_sets.by_name["shout"].config


@pytest.mark.parametrize("name", [".", "..", "shout.py", "/", "no such file.txt", "a\0b", "x" * 5000, "~nobody-here/x"])
def test_what_is_no_file_of_the_task_does_not_count(experiment: ExperimentFolder, name: str) -> None:
    give(experiment, extra=name)
    assert "files" not in plan_of(experiment)[BASE].config["task"]


def test_what_runs_make_does_not_count(experiment: ExperimentFolder) -> None:
    (experiment.path / "results").mkdir()
    give(experiment, extra=["../results", "../experiment_summary.yaml", "../words.json"])
    assert "files" not in plan_of(experiment)[BASE].config["task"]


def test_a_judge_s_folder_counts_as_models_do(experiment: ExperimentFolder) -> None:
    give(experiment, extra=str(experiment.path.parent / "model"))
    before = plan_of(experiment)[BASE].config
    assert len(before["task"]["files"]) == 1
    (experiment.path.parent / "model/tokenizer.json").write_text("[]")
    after = plan_of(experiment)[BASE].config
    assert not same_config(before["task"], after["task"])


def test_hidden_files_and_caches_in_a_folder_do_not_count(experiment: ExperimentFolder) -> None:
    give(experiment, extra="prompts")
    before = plan_of(experiment)[BASE].config
    for name in (".git/x", "__pycache__/y.pyc"):
        (experiment.path / "tasks/prompts" / name).parent.mkdir()
        (experiment.path / "tasks/prompts" / name).write_text("z")
    assert same_config(before, plan_of(experiment)[BASE].config)
