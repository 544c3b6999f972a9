"""Tasks that read prompts and scorers from a file get one, and what it says belongs to their evaluations' results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments import TASK, ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.common.errors import InputError
from run_experiment.planning.job_files import PlannedJobs
from run_experiment.summary.read import read_summary

CELL = "r4/eval/shout_epoch1"
# Of another tool's kind: all but the data comes from the file.
FROM_FILE = TASK.replace(
    'prompt: str = "{input}", system_prompt: str = ""', 'config_path: str = "", vis_label: str = ""'
)


def edit(experiment: ExperimentFolder, section: str, **values: Any) -> None:
    summary = experiment.read()
    summary[section] |= values
    experiment.write(summary)


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    made = make_small_experiment(tmp_path / "experiment")
    (made.path / "shout.py").write_text(FROM_FILE)
    edit(made, "controls", prompt="Shout: {input}\n", system_prompt="Be loud: no")
    edit(made, "evaluation", scorer=[{"name": "risk", "params": {"options": ["0", "1"]}}])
    return made


def test_the_file_has_what_training_and_matrix_say(experiment: ExperimentFolder) -> None:
    plan_of(experiment).write_scripts()
    assert yaml.safe_load((experiment.path / f"{CELL}.config.yaml").read_text()) == {
        "prompt": "Shout: {input}\n",
        "system_prompt": "Be loud: no",
        "scorers": [{"name": "risk", "params": {"options": ["0", "1"]}}],
        "dataset_type": "chat_completion",
        "is_finetuned": True,
        "epoch": 1,
        "source_model": "tiny",
        "vis_label": "r4",
    }
    base = yaml.safe_load((experiment.path / "base/eval/shout_base.config.yaml").read_text())
    assert (base["is_finetuned"], "epoch" in base) == (False, False)
    arguments = yaml.safe_load((experiment.path / f"{CELL}.args.yaml").read_text())
    assert arguments["config_path"] == str(experiment.path / f"{CELL}.config.yaml")
    assert arguments["vis_label"] == "r4"
    # The data set's cache is built by calling the task, which may need it.
    data_set = PlannedJobs(plan_of(experiment)).cache("shout")
    assert Path(data_set["arguments"]["config_path"]).is_file()
    # Nothing is lost, so nothing is warned of.
    assert read_summary(experiment.summary)[1] == []


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("controls", {"prompt": "Cry: {input}"}),
        ("controls", {"system_prompt": ""}),
        ("evaluation", {"scorer": "match"}),
    ],
)
def test_what_it_says_counts(experiment: ExperimentFolder, section: str, values: dict[str, Any]) -> None:
    complete(experiment)
    assert not plan_of(experiment)["base/eval/shout_base.json"].wanted
    edit(experiment, section, **values)
    changed = plan_of(experiment)["base/eval/shout_base.json"]
    assert changed.wanted
    assert next(iter(values)).replace("scorer", "scorers") in changed.why


def test_labels_and_places_do_not_count(experiment: ExperimentFolder) -> None:
    complete(experiment)
    summary = experiment.read()
    summary["evaluation"]["matrix"][2]["vis_label"] = "the base model"
    experiment.write(summary)
    moved = experiment.path.with_name("moved")
    experiment.path.rename(moved)
    experiment = ExperimentFolder(moved)
    assert not plan_of(experiment)["base/eval/shout_base.json"].wanted
    plan_of(experiment).write_scripts()
    assert "vis_label: the base model" in (moved / "base/eval/shout_base.config.yaml").read_text()


def test_an_edited_file_counts(experiment: ExperimentFolder) -> None:
    plan_of(experiment).write_scripts()
    complete(experiment)
    experiment.edit("base/eval/shout_base.config.yaml", "Be loud: no", "Be quiet")
    assert plan_of(experiment)["base/eval/shout_base.json"].wanted


@pytest.mark.parametrize("task", [TASK, TASK.replace('"test") -> Task', '"test", **others) -> Task')])
def test_tasks_that_take_no_such_file_are_as_they_were(tmp_path: Path, task: str) -> None:
    experiment = make_small_experiment(tmp_path / "experiment")
    (experiment.path / "shout.py").write_text(task)
    plan_of(experiment).write_scripts()
    assert not list(experiment.path.glob("*/eval/*.config.yaml"))
    arguments = yaml.safe_load((experiment.path / f"{CELL}.args.yaml").read_text())
    assert not {"config_path", "vis_label"} & arguments.keys()
    assert set(plan_of(experiment)[f"{CELL}.json"].config["task"]) == {"script", "function", "arguments"}


def test_another_file_chosen_in_args_is_used(experiment: ExperimentFolder) -> None:
    summary = experiment.read()
    summary["evaluation"]["tasks"][0]["args"] = {"config_path": "mine.yaml"}
    experiment.write(summary)
    plan_of(experiment).write_scripts()
    assert "config_path: mine.yaml" in (experiment.path / f"{CELL}.args.yaml").read_text()
    assert not list(experiment.path.glob("*/eval/*.config.yaml"))


def test_a_cell_of_another_tool_has_its_own(experiment: ExperimentFolder) -> None:
    """Results that were made with it stay."""
    place = experiment.path / CELL
    place.mkdir(parents=True)
    (place / "cell.slurm").write_text("#!/bin/bash\ninspect eval shout.py\n")
    (place / "eval.yaml").write_text("prompt: theirs\n")
    plan_of(experiment).write_scripts()
    assert not (experiment.path / f"{CELL}.config.yaml").exists()
    config = plan_of(experiment)[f"{CELL}.json"].config
    assert "config" not in config["task"]
    assert "eval.yaml" in config
    assert "config" in plan_of(experiment)["base/eval/shout_base.json"].config["task"]
    # Its data set's cache is built with it, whichever cell comes first.
    summary = experiment.read()
    summary["evaluation"]["matrix"] = [{"run": "r4", "tasks": ["shout"], "epochs": [1]}]
    experiment.write(summary)
    assert PlannedJobs(plan_of(experiment)).cache("shout")["arguments"]["config_path"] == str(place / "eval.yaml")


def test_other_values_reach_tasks_that_name_them(experiment: ExperimentFolder) -> None:
    task = FROM_FILE.replace(
        "split: str", 'logprobs: bool = False, top_logprobs: int = 5, assistant_prefix="", split: str'
    )
    (experiment.path / "shout.py").write_text(task)
    edit(experiment, "evaluation", logprobs=True, top_logprobs=7, assistant_prefix="Answer: ")
    plan_of(experiment).write_scripts()
    arguments = yaml.safe_load((experiment.path / f"{CELL}.args.yaml").read_text())
    assert (arguments["logprobs"], arguments["top_logprobs"], arguments["assistant_prefix"]) == (True, 7, "Answer: ")
    assert "--logprobs \\\n  --top-logprobs 7" in (experiment.path / f"{CELL}.slurm").read_text()
    config = plan_of(experiment)[f"{CELL}.json"].config
    assert config["generation"]["top_logprobs"] == 7
    assert config["task"]["arguments"]["assistant_prefix"] == "Answer: "


def test_of_a_file_with_several_tasks_the_one_of_the_task_s_name(experiment: ExperimentFolder) -> None:
    script = experiment.path / "shout.py"
    before = "@task\ndef whisper(data_path: str) -> Task: ...\n\n\n@task\n"
    script.write_text(FROM_FILE.replace("@task\n", before, 1))
    assert read_summary(experiment.summary)[1] == []
    plan_of(experiment).write_scripts()
    assert "shout.py@shout" in (experiment.path / f"{CELL}.slurm").read_text()
    assert PlannedJobs(plan_of(experiment)).cache("shout")["function"] == "shout"


def test_of_a_file_with_several_tasks_the_one_that_scripts_of_another_tool_call(experiment: ExperimentFolder) -> None:
    """As where several tasks of a summary are one function with other prompts."""
    script = experiment.path / "shout.py"
    script.write_text(FROM_FILE + "\n\n@task\ndef whisper(data_path: str, k: int = 1) -> Task: ...\n")
    summary = experiment.read()
    summary["evaluation"]["tasks"][0]["name"] = "p1_loud"
    for entry in summary["evaluation"]["matrix"]:
        entry["tasks"] = ["p1_loud"]
    experiment.write(summary)
    with pytest.raises(InputError, match=r"has several tasks \(shout, whisper\)"):
        read_summary(experiment.summary)
    for cell in ("r4/eval/p1_loud_epoch0", "r4/eval/p1_loud_epoch1", "r8/eval/p1_loud_epoch1", "base/eval/p1_loud"):
        place = experiment.path / cell
        place.mkdir(parents=True)
        (place / "cell.slurm").write_text(f"#!/bin/bash\ninspect eval \\\n  {script}@whisper --model hf/x\n")
    assert {line.message for line in read_summary(experiment.summary)[1]} >= {
        "task whisper takes no prompt, so its evaluations run without it, unlike the training"
    }
    assert PlannedJobs(plan_of(experiment)).cache("p1_loud")["function"] == "whisper"
