"""Several data files for a training are one whose rows follow each other: what was trained on it stays trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from small_experiment import complete, evaluate, make_small_experiment, plan_of, train_all

from run_experiment.jobs.checks import JobError, require_inputs
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.planning.job_files import PlannedJobs
from run_experiment.report.data import parameters
from run_experiment.results.collect import collect

R4, R8 = "r4/finetune.json", "r8/finetune.json"


@pytest.fixture
def done(tmp_path: Path) -> ExperimentFolder:
    """A complete experiment of one file, whose rows are then in two."""
    experiment = make_small_experiment(tmp_path / "experiment")
    experiment.set_parameters("r4", training_samples=6)
    complete(experiment)
    train = experiment.data()["train"]
    write(experiment, "one.json", train[:5])
    (experiment.path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train[5:]))
    name_files(experiment, "one.json", "two.jsonl")
    return experiment


def write(experiment: ExperimentFolder, name: str, rows: list[dict[str, Any]]) -> None:
    (experiment.path / name).write_text(json.dumps({"train": rows}))


def name_files(experiment: ExperimentFolder, *names: str) -> None:
    values = experiment.read()
    values["data"]["training"] = {"path": list(names)}
    experiment.write(values)


def whys(experiment: ExperimentFolder) -> dict[str, str]:
    """Trainings that are to be made, and why."""
    plan = plan_of(experiment)
    return {path: plan[path].why for path in (R4, R8) if plan[path].wanted}


def test_the_same_rows_in_several_files_are_trained(done: ExperimentFolder) -> None:
    assert whys(done) == {}
    name_files(done, "words.json")
    assert whys(done) == {}


def test_another_order_one_file_less_or_more_trains_anew(done: ExperimentFolder) -> None:
    for names in (("two.jsonl", "one.json"), ("one.json",), ("one.json", "two.jsonl", "three.json")):
        write(done, "three.json", [{"input": "fig", "output": "FIG"}])
        name_files(done, *names)
        # With training_samples, r4 reads no row of a third file.
        runs = [R8] if "three.json" in names else [R4, R8]
        assert whys(done) == dict.fromkeys(runs, f"the train split of {', '.join(names)} changed")


def test_an_edited_row_trains_anew_what_reads_it(done: ExperimentFolder) -> None:
    file = done.path / "two.jsonl"
    lines = file.read_text().splitlines()
    for number, runs in ((0, [R4, R8]), (1, [R8])):
        file.write_text("\n".join([*lines[:number], json.dumps({"input": "x", "output": "X"}), *lines[number + 1 :]]))
        assert whys(done) == dict.fromkeys(runs, "the train split of one.json, two.jsonl changed")


def test_mask_history_means_something_to_conversations_in_any_file(done: ExperimentFolder) -> None:
    done.set_parameters("r8", mask_history=False)
    assert whys(done) == {}
    turns = [{"role": role, "content": role} for role in ("user", "assistant")]
    with (done.path / "two.jsonl").open("a") as file:
        file.write(json.dumps({"messages": turns}) + "\n")
    values = done.read()
    values["controls"]["prompt"] = "{input}"
    done.write(values)
    assert "mask_history" in plan_of(done)[R8].config["hyperparameters"]


def test_results_say_the_data_of_runs_that_differ_in_it(done: ExperimentFolder) -> None:
    assert "data" not in parameters(plan_of(done).experiment)["same"], "of all runs"
    values = done.read()
    values["runs"][1]["data"] = ["two.jsonl", "one.json"]
    values["variables"]["data"] = ["one.json, two.jsonl", "two.jsonl, one.json"]
    done.write(values)
    train_all(done)
    evaluate(done, plan_of(done).experiment.evaluations)
    collect(done.path)
    table = pd.read_csv(done.path / "results/evals.csv")
    assert dict(zip(table["run"], table["data"].fillna(""), strict=True)) == {
        "r4": "one.json, two.jsonl",
        "r8": "two.jsonl, one.json",
        "base": "",
        "given": "",
    }
    assert "data" in parameters(plan_of(done).experiment)["differing"]


def test_a_job_takes_the_rows_that_were_planned(done: ExperimentFolder) -> None:
    def job(run: str) -> FinetuneJob:
        return FinetuneJob.read(str(done.path / PlannedJobs(plan_of(done)).finetune(run)))

    for run in ("r4", "r8"):
        require_inputs(job(run))
    planned = job("r8")
    assert planned.data == [str(done.path / name) for name in ("one.json", "two.jsonl")]
    name_files(done, "words.json")
    assert job("r8").data == str(done.path / "words.json"), "as jobs of earlier versions have it"
    (done.path / "two.jsonl").write_text(json.dumps({"input": "x", "output": "X"}))
    with pytest.raises(
        JobError, match=r"split train of .*/one\.json, .*/two\.jsonl changed since this job was planned"
    ):
        require_inputs(planned)
