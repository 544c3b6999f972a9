"""Checks of models: who needs which, and that nothing which is made is checked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import make_model, make_small_experiment, plan_of, train

from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.finetuning.model_check import FAILED
from run_experiment.planning.job_files import PlannedJobs
from run_experiment.planning.plan import Plan
from run_experiment.planning.target import Kind

R4, R8, BASE, GIVEN = "r4/finetune.json", "r8/finetune.json", "base/eval/shout_base.json", "given/eval/shout_base.json"


@pytest.fixture
def new(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def check_of(plan: Plan, path: str) -> str:
    """Record of the check that a target needs; empty if it needs none."""
    (*found,) = (need for need in plan[path].needs if plan[need].kind is Kind.CHECK)
    return "".join(found)


def passed(experiment: ExperimentFolder) -> None:
    """Leave the records of all checks that the plan asks for."""
    for check in plan_of(experiment).model_checks.by_name.values():
        write_record(experiment.path / paths.model_check(check.name), {"config": check.config})


def edit_model(experiment: ExperimentFolder, name: str, text: str) -> None:
    (experiment.path.parent / "model" / name).write_text(text)


def test_one_check_for_all_trainings_alike_and_one_for_evaluations_of_whole_models(new: ExperimentFolder) -> None:
    plan = plan_of(new)
    assert check_of(plan, R4) == check_of(plan, R8) != check_of(plan, BASE) == check_of(plan, GIVEN)
    assert check_of(plan, "r4/eval/shout_epoch0.json") == "", "that of its training has seen the same"
    assert len(plan.model_checks.by_name) == 2
    name = Path(check_of(plan, R4)).stem
    job = PlannedJobs(plan).check(name)
    assert (job["splits"], job["max_seq_len"], job["prompt"]) == (["train"], 64, "Shout: {input}")
    assert set(plan.finals()).isdisjoint(map(paths.model_check, plan.model_checks.by_name))


CHANGES: dict[str, dict[str, Any]] = {
    "max_seq_len": {"max_seq_len": 32},
    "prompt": {"prompt": "{input}!"},
    "system prompt": {"system_prompt": "Loud."},
    "dataset_type": {"dataset_type": "text_completion"},
    "another split": {"validation_during_training": True},
}


@pytest.mark.parametrize("parameters", CHANGES.values(), ids=CHANGES)
def test_run_that_differs_has_a_check_of_its_own(new: ExperimentFolder, parameters: dict[str, Any]) -> None:
    new.set_parameters("r4", **parameters)
    plan = plan_of(new)
    assert check_of(plan, R4) != check_of(plan, R8)


def test_rows_of_checks_say_what_they_are_for(new: ExperimentFolder) -> None:
    new.set_parameters("r4", prompt="Say it\nloud: {input}", system_prompt="You are a crier. " * 3)
    rows = {(row.subject, row.why) for row in plan_of(new).check_rows()}
    system = "You are a crier. You are a crier. You a…"
    assert rows == {
        ("check tiny", f"tokenizer, chat_completion prompts{rest}")
        for rest in (
            f" 'Say it loud: {{input}}' with system prompt '{system}' and all rows of words.json (train), for r4",
            " 'Shout: {input}' and all rows of words.json (train), for r8",
            ", for base/shout/base, given/shout/base",
        )
    }


def test_learning_rate_makes_no_difference(new: ExperimentFolder) -> None:
    new.set_parameters("r4", lr=0.5)
    plan = plan_of(new)
    assert check_of(plan, R4) == check_of(plan, R8)


@pytest.mark.parametrize("given", ['system_prompt: str = ""', 'config_path: str = ""'])
def test_system_prompt_of_its_own_is_checked_for_an_evaluation(new: ExperimentFolder, given: str) -> None:
    """However the task gets it: by its function, or by the file that it is given."""
    script = new.path / "shout.py"
    script.write_text(script.read_text().replace('system_prompt: str = ""', given))
    values = new.read()
    values["evaluation"]["tasks"][0]["system_prompt"] = "Loud."
    new.write(values)
    plan = plan_of(new)
    evaluation = check_of(plan, "r4/eval/shout_epoch0.json")
    assert evaluation == check_of(plan, BASE) != ""
    assert PlannedJobs(plan).check(Path(evaluation).stem)["system_prompt"] == "Loud."


def test_check_costs_once_until_what_it_saw_changes(new: ExperimentFolder) -> None:
    passed(new)
    assert {check_of(plan_of(new), path) for path in (R4, R8, BASE, GIVEN)} == {""}
    edit_model(new, "chat_template.jinja", "{{ messages }}")
    assert "" not in {check_of(plan_of(new), path) for path in (R4, R8, BASE, GIVEN)}
    passed(new)
    splits = new.data()
    new.write_data({**splits, "train": splits["train"][:7]})
    plan = plan_of(new)
    assert check_of(plan, R4)
    assert check_of(plan, BASE) == ""


def test_nothing_made_is_checked(done: ExperimentFolder) -> None:
    plan = plan_of(done)
    assert not [target for target in plan.targets.values() if target.kind is Kind.CHECK or target.wanted]


def test_restored_training_is_not_checked(done: ExperimentFolder) -> None:
    (done.path / R4).unlink()
    train(done, "r8", seed=3)
    assert check_of(plan_of(done), R4)
    record = {**done.record(R8), "run": "r4", "config": plan_of(done)[R4].config}
    write_record(done.path / "r4/artifacts" / paths.KEPT_RECORD, record)
    plan = plan_of(done)
    assert "will be restored" in plan[R4].why
    assert check_of(plan, R4) == ""


def test_scripts_of_other_tools_are_not_checked(new: ExperimentFolder) -> None:
    """How they make a prompt of a row is not known."""
    for script in ("r4/finetune.slurm", "base/eval/shout_base.slurm"):
        (new.path / script).parent.mkdir(parents=True, exist_ok=True)
        (new.path / script).write_text("#!/bin/bash\ntrue\n")
    plan = plan_of(new)
    assert check_of(plan, R4) == check_of(plan, BASE) == ""
    assert check_of(plan, R8)
    assert check_of(plan, GIVEN)


def test_reason_of_a_failed_check_is_that_of_what_needs_it(new: ExperimentFolder) -> None:
    log = new.path / paths.model_check_log(Path(check_of(plan_of(new), R4)).stem)
    log.parent.mkdir(parents=True)
    log.write_text("a warning\n")
    assert plan_of(new)[R4].why == "not done yet"
    log.write_text(f"a warning\n{FAILED}2 of 8 rows are too long\n")
    evaluation, verification = "r4/eval/shout_epoch0.json", paths.manifest("r4", 0)
    reasons = {path: plan_of(new)[path].why for path in (R4, R8, BASE, evaluation, verification)}
    failed = "its model failed the check: 2 of 8 rows are too long"
    assert reasons == {**dict.fromkeys([R4, R8, evaluation, verification], failed), BASE: "not done yet"}


def test_own_tokenizer_of_a_whole_model_made_elsewhere_is_checked(new: ExperimentFolder) -> None:
    given = new.path.parent / "given"
    for path in given.iterdir():
        path.unlink()
    make_model(given)
    (given / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    plan = plan_of(new)
    assert check_of(plan, GIVEN) != check_of(plan, BASE)
    assert PlannedJobs(plan).check(Path(check_of(plan, GIVEN)).stem)["tokenizer"] == str(given)
