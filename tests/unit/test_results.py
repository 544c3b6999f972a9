"""Results from records: the table and the page, whole, of experiments that are done, half done and not begun."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from golden import assert_golden
from small_experiment import complete, evaluate, make_small_experiment, plan_of, train

from run_experiment import layout
from run_experiment.collect import collect
from run_experiment.records import read_record, write_record
from run_experiment.results import Records, evals_table, last_failure, results_outdated

GOLDEN = Path(__file__).parent / "golden"
WHISPERED = {
    "includes/accuracy": 0.125,
    "includes/stderr": 0.0125,
    "f1@mean/mean": 0.5,
    "f1@mean/std": 0.25,
}


@pytest.fixture(scope="session")
def mixed_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two tasks with several metrics; some evaluations are missing, failed or outdated."""
    folder = tmp_path_factory.mktemp("mixed") / "place"
    make_mixed(make_small_experiment(folder / "experiment"))
    return folder, Path(shutil.copytree(folder, folder.with_name("copy"), symlinks=True))


@pytest.fixture
def mixed(mixed_template: tuple[Path, Path]) -> ExperimentFolder:
    folder, copy = mixed_template
    shutil.rmtree(folder)
    shutil.copytree(copy, folder, symlinks=True)
    return ExperimentFolder(folder / "experiment")


def make_mixed(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["evaluation"]["tasks"].append(
        {"name": "whisper", "script": "shout.py@shout", "dataset": "words.json", "args": {"split": "validation"}}
    )
    for row in values["evaluation"]["matrix"]:
        row["tasks"] = ["shout", "whisper"]
    values["evaluation"]["matrix"][0]["vis_label"] = "rank 4, the smaller one"
    values["variables"]["system_prompt"] = ["Quiet.", "Loud!"]
    values["controls"]["system_prompt"] = "Quiet."
    values["runs"].append(
        {"name": "r16", "model": "tiny", "parameters": {"lora_rank": 16, "system_prompt": "Loud!", "lr": 1e-05}}
    )
    values["evaluation"]["matrix"].append({"run": "r16", "tasks": ["shout"], "epochs": None})
    experiment.write(values)
    complete(experiment)
    evaluations = plan_of(experiment).experiment.evaluation_by_key
    for number, ((run, cell), item) in enumerate(evaluations.items(), start=1):
        metrics: dict[str, Any] = {"match/accuracy": number / 16, "match/stderr": number / 160}
        evaluate(experiment, [item], metrics=WHISPERED if "whisper" in cell else metrics)
        if (run, cell) == ("r4", "shout_epoch1"):
            evaluate(experiment, [item], metrics={"match/accuracy": None, "match/stderr": None})
        if run == "given":
            evaluate(experiment, [item], metrics={"match/accuracy": 0.25})
    train(experiment, "r4", seed=0, losses={"train_loss": 0.123456, "validation_loss": 2.0}, seconds=7200.4)
    fail(experiment, "r8", "shout_epoch1", "2025-01-31T12:00:00+01:00", "out of memory; its log is x\n    CUDA")
    fail(experiment, "r8", "shout_epoch1", "2025-01-31T11:30:00+01:00", "an older reason")
    # It succeeded after this one, but for what it was asked then: the record is outdated.
    fail(experiment, "base", "whisper_base", "2025-01-31T10:30:00+01:00", "long mended")
    (experiment.path / layout.eval_record("r8", "shout_epoch1")).unlink()
    (experiment.path / layout.eval_record("base", "shout_base")).unlink()
    outdate(experiment, layout.eval_record("base", "whisper_base"))
    outdate(experiment, layout.eval_record("given", "whisper_base"))
    fail(experiment, "given", "whisper_base", "2025-01-31T10:30:00+00:00", "half an hour later, elsewhere")
    experiment.set_parameters("r16", lr=2e-05)
    fail(experiment, "r16", "finetune", "2025-01-31T12:00:00+01:00", "it diverged")


def fail(experiment: ExperimentFolder, run: str, target: str, ended: str, error: str) -> None:
    """Leave a failed attempt."""
    attempts = experiment.path / layout.attempts(run)
    number = len(list(attempts.glob("*"))) + 1
    record = {"target": target, "error": error, "job_id": f"local-{number}", "ended": ended}
    write_record(attempts / f"local-{number}" / "attempt.json", record)


def outdate(experiment: ExperimentFolder, path: str) -> None:
    record = experiment.record(path)
    record["config"]["generation"]["max_tokens"] = 99
    write_record(experiment.path / path, record)


def collected(experiment: ExperimentFolder) -> tuple[str, str]:
    collect(experiment.path)
    table, page = (experiment.path / path for path in (layout.EVALS_TABLE, layout.SUMMARY_PAGE))
    return table.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")


def test_results_of_an_experiment_that_is_half_done(mixed: ExperimentFolder) -> None:
    table, page = collected(mixed)
    assert_golden(table, GOLDEN / "mixed_evals.csv")
    assert_golden(page, GOLDEN / "mixed_summary.md")


def test_results_of_a_complete_experiment(done: ExperimentFolder) -> None:
    table, page = collected(done)
    assert_golden(table, GOLDEN / "complete_evals.csv")
    assert_golden(page, GOLDEN / "complete_summary.md")


def test_results_of_an_experiment_that_has_not_begun(tmp_path: Path) -> None:
    table, page = collected(make_small_experiment(tmp_path / "experiment"))
    assert_golden(table, GOLDEN / "new_evals.csv")
    assert_golden(page, GOLDEN / "new_summary.md")


def test_table_reads_back_with_whole_numbers_whole(mixed: ExperimentFolder) -> None:
    collect(mixed.path)
    table = pd.read_csv(mixed.path / layout.EVALS_TABLE)
    assert table["samples"].dtype == "int64"
    plan = plan_of(mixed)
    made = evals_table(Records(plan.experiment, plan.targets))
    assert [type(rank).__name__ for rank in made["lora_rank"]] == ["int"] * 5 + ["NoneType"]
    assert table["run"].tolist() == made["run"].tolist() == ["r4"] * 4 + ["r8", "given"]
    # What is not a number has an empty field, not a text that would turn the column into one.
    assert table["match/accuracy"].dtype == "float64"
    assert table["match/accuracy"].isna().tolist() == [False, True, True, True, True, False]


def test_outdated_record_is_no_result(done: ExperimentFolder) -> None:
    outdate(done, "r4/eval/shout_epoch0.json")
    table, page = collected(done)
    assert "r4,r4,fine-tuned,tiny,4,shout,0" not in table
    assert "r4,r4,fine-tuned,tiny,4,shout,1" in table
    assert "- `r4/shout/epoch0`: not done" in page


def test_missing_record_of_an_evaluation_that_was_planned_fresh_is_no_result(done: ExperimentFolder) -> None:
    plan = plan_of(done)
    (done.path / "r4/eval/shout_epoch0.json").write_text("{torn")
    assert len(evals_table(Records(plan.experiment, plan.targets))) == 4


def test_newest_failure_counts(mixed: ExperimentFolder) -> None:
    newest = last_failure(mixed.path, "r8", "shout_epoch1")
    assert newest is not None
    assert (newest.job_id, newest.error) == ("local-1", "out of memory; its log is x\n    CUDA")
    assert last_failure(mixed.path, "r8", "finetune") is None
    assert last_failure(mixed.path, "none", "finetune") is None


def test_unreadable_attempt_is_passed_over(mixed: ExperimentFolder) -> None:
    (mixed.path / "r8/attempts/local-1/attempt.json").write_text("{")
    newest = last_failure(mixed.path, "r8", "shout_epoch1")
    assert newest is not None
    assert newest.error == "an older reason"


def rename(experiment: ExperimentFolder) -> None:
    experiment.edit("experiment_summary.yaml", "Does it shout?", "Why?")


def relabel(experiment: ExperimentFolder) -> None:
    experiment.edit(
        "experiment_summary.yaml", "tasks:\n    - shout\n    epochs:\n    - 1", "tasks: shout\n    epochs: 0"
    )


def damage(experiment: ExperimentFolder) -> None:
    (experiment.path / layout.SUMMARY_PAGE).write_text("# Mine\n")


OUTDATED: dict[str, tuple[Callable[[ExperimentFolder], Any], bool]] = {
    "nothing": (lambda experiment: None, False),
    "a comment": (lambda experiment: experiment.edit("experiment_summary.yaml", "runs:", "runs: # these"), False),
    "the question": (rename, True),
    "the evaluations": (relabel, True),
    "a parameter": (lambda experiment: experiment.set_parameters("r4", lora_rank=2), True),
    "the page": (damage, True),
    "no page": (lambda experiment: (experiment.path / layout.SUMMARY_PAGE).unlink(), False),
}


@pytest.mark.parametrize(("change", "expected"), OUTDATED.values(), ids=OUTDATED)
def test_page_is_outdated_when_the_experiment_changed(
    done: ExperimentFolder, change: Callable[[ExperimentFolder], Any], expected: bool
) -> None:
    collect(done.path)
    change(done)
    plan = plan_of(done)
    assert results_outdated(plan.experiment, plan.targets) is expected
    assert plan[layout.SUMMARY_PAGE].wanted is expected


def test_results_are_written_over_old_ones(done: ExperimentFolder) -> None:
    first = collected(done)
    rename(done)
    assert collected(done) != first
    assert read_record(done.path / "r4/finetune.json") is not None
