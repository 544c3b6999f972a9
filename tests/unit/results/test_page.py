"""Results from records: the table and the page, whole, of experiments that are done, half done and not begun."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from golden import assert_golden
from small_experiment import complete, evaluate, make_small_experiment, plan_of, train

from run_experiment.attempts.history import History
from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.json_files import read_record, write_record
from run_experiment.experiment.records import JobRecord, training_record
from run_experiment.machine.provenance import versions
from run_experiment.planning.results_state import Records, results_outdated
from run_experiment.results.analysis.analyse import analyse
from run_experiment.results.collect import collect
from run_experiment.results.markdown import markdown_table
from run_experiment.results.page import PROVENANCE
from run_experiment.results.tables import evals_table
from run_experiment.results.versions import other_versions, todays_versions, training_note

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
    (experiment.path / paths.eval_record("r8", "shout_epoch1")).unlink()
    (experiment.path / paths.eval_record("base", "shout_base")).unlink()
    outdate(experiment, paths.eval_record("base", "whisper_base"))
    outdate(experiment, paths.eval_record("given", "whisper_base"))
    fail(experiment, "given", "whisper_base", "2025-01-31T10:30:00+00:00", "half an hour later, elsewhere")
    experiment.set_parameters("r16", lr=2e-05)
    fail(experiment, "r16", "finetune", "2025-01-31T12:00:00+01:00", "it diverged")


def fail(experiment: ExperimentFolder, run: str, target: str, ended: str, error: str) -> None:
    """Leave a failed attempt."""
    attempts = experiment.path / paths.attempts(run)
    number = len(list(attempts.glob("*"))) + 1
    record = {"target": target, "error": error, "job_id": f"local-{number}", "ended": ended}
    write_record(attempts / f"local-{number}" / "attempt.json", record)


def outdate(experiment: ExperimentFolder, path: str) -> None:
    record = experiment.record(path)
    record["config"]["generation"]["max_tokens"] = 99
    write_record(experiment.path / path, record)


def collected(experiment: ExperimentFolder) -> tuple[str, str]:
    collect(experiment.path)
    table, page = (experiment.path / path for path in (paths.EVALS_TABLE, paths.SUMMARY_PAGE))
    return table.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")


def table_of(records: Records) -> pd.DataFrame:
    return evals_table(records, analyse(records))


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


def test_the_command_names_all_that_it_wrote(mixed: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", str(mixed.path)]) == 0
    written = sorted((mixed.path / "results").iterdir())
    assert sorted(capsys.readouterr().out.splitlines()) == [str(path) for path in written]
    names = ["comparisons.csv", "evals.csv", "figures", "provenance.json", "report.html", "summary.md"]
    assert [path.name for path in written] == names


def test_table_reads_back_with_whole_numbers_whole(mixed: ExperimentFolder) -> None:
    collect(mixed.path)
    table = pd.read_csv(mixed.path / paths.EVALS_TABLE)
    assert table["samples"].dtype == "int64"
    plan = plan_of(mixed)
    made = table_of(Records(plan))
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
    assert "- `r4/shout/epoch0`: max_tokens: 99 → 3" in page


def test_results_are_those_that_were_planned_with(done: ExperimentFolder) -> None:
    """A record that a job replaces meanwhile is not read again: it may be of another configuration."""
    plan = plan_of(done)
    (done.path / "r4/eval/shout_epoch0.json").write_text("{torn")
    assert len(table_of(Records(plan))) == 5
    assert len(table_of(Records(plan_of(done)))) == 4


def test_newest_failure_counts(mixed: ExperimentFolder) -> None:
    newest = History(mixed.path).newest("r8/eval/shout_epoch1.json")
    assert newest is not None
    assert (newest.job_id, newest.own_error) == ("local-1", "out of memory; its log is x\n    CUDA")
    assert History(mixed.path).newest("r8/finetune.json") is None
    assert History(mixed.path).newest("none/finetune.json") is None


def test_unreadable_attempt_is_passed_over(mixed: ExperimentFolder) -> None:
    (mixed.path / "r8/attempts/local-1/attempt.json").write_text("{")
    newest = History(mixed.path).newest("r8/eval/shout_epoch1.json")
    assert newest is not None
    assert newest.own_error == "an older reason"


def test_the_attempts_of_a_run_are_read_once(mixed: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in ("shout_epoch1", "whisper_epoch1"):
        (mixed.path / paths.eval_record("r8", cell)).unlink(missing_ok=True)
        for _ in range(5):
            fail(mixed, "r8", cell, "2025-02-01T10:00:00+01:00", "no")
    read: Counter[Path] = Counter()

    def reading(path: Path) -> dict[str, Any] | None:
        read[path] += 1
        return read_record(path)

    monkeypatch.setattr("run_experiment.attempts.history.read_record", reading)
    plan = plan_of(mixed)
    planned = [path for path in read if "r8/attempts" in str(path)]
    assert planned
    assert {read[path] for path in planned} == {1}
    Records(plan).missing()
    assert {read[path] for path in planned} == {1}


def evaluated(experiment: ExperimentFolder, **results: dict[str, Any]) -> str:
    """The part of the page on the task, with these results by run and epoch; others are as they were."""
    for item in plan_of(experiment).experiment.evaluations:
        if (name := f"{item.run.name}_{item.epoch}") in results:
            evaluate(experiment, [item], **results[name])
    _, page = collected(experiment)
    return f"{section(page, 'Answer')}\n\n{section(page, 'Evaluations')}"


def cells(text: str) -> dict[str, list[str]]:
    """Rows of a Markdown table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_samples_that_do_not_count_are_told_beside_the_value(done: ExperimentFolder) -> None:
    some = {"completed_samples": 5, "total_samples": 6, "metrics": {"match/accuracy": 1.0, "match/stderr": 0.1}}
    unscored = {"completed_samples": 6, "total_samples": 6, "scored_samples": {"match": 4}}
    none = {"metrics": {"match/accuracy": None}, "total_samples": 2, "scored_samples": {"match": 0}}
    text = evaluated(done, r4_0=some, r4_1=unscored, r8_1=none)
    assert cells(text)["r4"] == [
        "",
        "",
        "1.000 [0.566, 1.000] (5 of 6 samples)",
        "0.500 [0.150, 0.850] (4 of 6 samples)",
    ]
    assert cells(text)["r8"] == ["", "", "", "n/a (0 of 2 samples)"]
    table = pd.read_csv(done.path / paths.EVALS_TABLE, keep_default_na=False)
    assert table["samples"].tolist() == [5, 6, 2, 16, 16]
    assert table["total_samples"].tolist() == [6, 6, 2, 16, 16]
    assert table["unscored"].tolist() == ["", "match: 2", "match: 2", "", ""]


def test_a_task_without_a_finite_metric_is_on_the_page(done: ExperimentFolder) -> None:
    names = ("r4_0", "r4_1", "r8_1", "base_None", "given_None")
    text = evaluated(done, **{name: {"metrics": {}} for name in names})
    assert "### shout: no metric" in text
    assert cells(text)["r4"] == ["", "", "16 samples", "16 samples"]
    text = evaluated(done, **{name: {"metrics": {"judge/stderr": None, "judge/mean": None}} for name in names})
    assert "### shout: judge/mean" in text
    assert cells(text)["given"] == ["", "n/a (0 of 16 samples)", "", ""]
    assert "Highest" not in text
    assert "All" not in text


def test_a_tie_has_no_single_winner(done: ExperimentFolder) -> None:
    best = {"metrics": {"match/accuracy": 0.75}}
    text = evaluated(done, r4_1=best, base_None=best, given_None=best)
    assert "- **shout**: Highest match/accuracy: a tie of r4 after epoch 1 and given, 0.750 (n = 16; " in text


def rename(experiment: ExperimentFolder) -> None:
    experiment.edit("experiment_summary.yaml", "Does it shout?", "Why?")


def relabel(experiment: ExperimentFolder) -> None:
    experiment.edit(
        "experiment_summary.yaml", "tasks:\n    - shout\n    epochs:\n    - 1", "tasks: shout\n    epochs: 0"
    )


def page(experiment: ExperimentFolder) -> Path:
    return experiment.path / paths.SUMMARY_PAGE


def damage(experiment: ExperimentFolder) -> None:
    page(experiment).write_text("# Mine\n")


OUTDATED: dict[str, tuple[Callable[[ExperimentFolder], Any], bool]] = {
    "nothing": (lambda experiment: None, False),
    "a comment": (lambda experiment: experiment.edit("experiment_summary.yaml", "runs:", "runs: # these"), False),
    "the question": (rename, True),
    "the evaluations": (relabel, True),
    "a parameter": (lambda experiment: experiment.set_parameters("r4", lora_rank=2), True),
    "the page": (damage, True),
    "a page in another encoding": (lambda experiment: page(experiment).write_bytes(b"\xff\xfe"), True),
    "no page": (lambda experiment: page(experiment).unlink(), False),
}


@pytest.mark.parametrize(("change", "expected"), OUTDATED.values(), ids=OUTDATED)
def test_page_is_outdated_when_the_experiment_changed(
    done: ExperimentFolder, change: Callable[[ExperimentFolder], Any], expected: bool
) -> None:
    collect(done.path)
    change(done)
    plan = plan_of(done)
    assert results_outdated(plan) is expected
    assert plan[paths.SUMMARY_PAGE].wanted is expected


def test_results_are_written_over_old_ones(done: ExperimentFolder) -> None:
    first = collected(done)
    rename(done)
    assert collected(done) != first
    assert read_record(done.path / "r4/finetune.json") is not None


# With a version of torchtune also where it is not installed.
TODAY = {"torchtune": "0.6.1"} | versions(("torchtune", "inspect-ai"))
CLEAN = {"commit": "0123456789abcdef", "dirty": False}
TOLD = {
    "project": CLEAN,
    "task": None,
    "python": "3.11.9",
    "versions": TODAY,
    "platform": "Linux",
    "host": "n1",
    "gpus": [{"name": "NVIDIA H100", "memory": "81559 MiB", "driver": "550.54.15"}],
    "seeds": {"seed": 14},
}
RECORDS = (
    "r4/finetune.json",
    "r8/finetune.json",
    *(f"{cell}.json" for cell in ("r4/eval/shout_epoch0", "r4/eval/shout_epoch1", "r8/eval/shout_epoch1")),
    *(f"{cell}.json" for cell in ("base/eval/shout_base", "given/eval/shout_base")),
)


def tell(experiment: ExperimentFolder, *paths: str, **facts: Any) -> None:
    """Have records say what made their results, as jobs do."""
    for path in paths:
        record = experiment.record(path)
        write_record(experiment.path / path, {**record, "provenance": {**TOLD, **facts}})


def note(experiment: ExperimentFolder, path: str, **facts: Any) -> None:
    write_record(experiment.path / path, {**experiment.record(path), **facts})


def section(page: str, title: str) -> str:
    """A part of the page, without its title."""
    return page.partition(f"## {title}\n\n")[2].partition("\n\n## ")[0].partition("\n\n<!--")[0]


def column(experiment: ExperimentFolder) -> list[str]:
    table = pd.read_csv(experiment.path / paths.EVALS_TABLE, keep_default_na=False)
    return table["versions"].tolist()


def test_results_made_with_the_same_are_told_in_a_line(done: ExperimentFolder) -> None:
    tell(done, *RECORDS)
    _, page = collected(done)
    numbers = ", ".join(f"{name} {number}" for name, number in TODAY.items())
    expected = {*numbers.split(", "), "Python 3.11.9", "commit 0123456789", "GPU 1 × NVIDIA H100"}
    line = section(page, "Provenance")
    assert set(line.removeprefix("Made with ").removesuffix(".").split(", ")) == expected
    assert column(done) == [""] * 5
    assert "other versions" not in page


def test_a_training_that_went_on_with_another_torchtune_is_marked(done: ExperimentFolder) -> None:
    tell(done, *RECORDS)
    tell(done, "r4/finetune.json", earlier=[{"versions": {**TODAY, "torchtune": "0.6.0"}}, {"versions": TODAY}])
    collected(done)
    assert column(done) == ["torchtune 0.6.0"] * 2 + [""] * 3
    told = json.loads((done.path / "results/provenance.json").read_text())["trainings"]
    assert told["r4"]["earlier"][0]["versions"]["torchtune"] == "0.6.0"
    assert "earlier" not in told["r8"]


def test_what_differs_is_a_table(done: ExperimentFolder) -> None:
    tell(done, *RECORDS)
    # A training is not made with inspect-ai, nor an evaluation with torchtune.
    other = {"torchtune": "0.5.0", "inspect-ai": "0.3.1"}
    tell(done, "r4/finetune.json", versions=other, project={**CLEAN, "dirty": True}, host="n2")
    tell(done, "base/eval/shout_base.json", versions={**other, "inspect-ai": TODAY["inspect-ai"]}, gpus=[])
    _, page = collected(done)
    first, _, table = section(page, "Provenance").partition("\n\n")
    assert first == f"Made with inspect-ai {TODAY['inspect-ai']}, Python 3.11.9, GPU 1 × NVIDIA H100."
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["what differs", "made with", "results"]
    evaluations = "r8, r4/shout/epoch0, r4/shout/epoch1, r8/shout/epoch1 and 2 more"
    assert rows[2:] == [
        ["torchtune", "0.5.0", "r4"],
        ["torchtune", TODAY["torchtune"], "r8"],
        ["commit", "0123456789 (dirty)", "r4"],
        ["commit", "0123456789", evaluations],
    ]


def test_results_of_other_versions_stay_and_are_marked(done: ExperimentFolder) -> None:
    tell(done, *RECORDS)
    before = collected(done)
    tell(done, "r4/finetune.json", versions={"torchtune": "0.5.0", "inspect-ai": "0.3.1"})
    tell(done, "r4/eval/shout_epoch0.json", versions={"torchtune": "0.1.0", "inspect-ai": "0.3.200"})
    tell(done, "base/eval/shout_base.json", versions={"inspect-ai": "0.3.200"})
    plan = plan_of(done)
    assert not any(target.wanted for target in plan.targets.values())
    table, page = collected(done)
    assert column(done) == ["torchtune 0.5.0, inspect-ai 0.3.200", "torchtune 0.5.0", "", "inspect-ai 0.3.200", ""]
    assert page.count("3 of 5 evaluations were made with other versions than are installed now: ") == 1
    assert "torchtune 0.5.0, inspect-ai 0.3.200; torchtune 0.5.0; inspect-ai 0.3.200 (column `versions`)." in page
    assert [line.rpartition(",")[0] for line in before[0].splitlines()][-1] in table


def test_versions_of_older_records_lie_beside_the_host(done: ExperimentFolder) -> None:
    note(done, "base/eval/shout_base.json", versions={"inspect-ai": "0.3.200"}, host="n7")
    _, page = collected(done)
    assert column(done) == ["", "", "", "inspect-ai 0.3.200", ""]
    assert section(page, "Provenance") == "Made with inspect-ai 0.3.200."


def test_package_that_is_not_installed_here_is_compared_with_the_newest_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [
        JobRecord(
            {},
            ended=f"2025-01-3{day}T10:00:00+01:00",
            provenance={"versions": {"torchtune": number, "inspect-ai": "0.3.1"}},
        )
        for day, number in ((1, "0.6.0"), (0, "0.7.0"))
    ]
    monkeypatch.setattr("run_experiment.results.versions.versions", lambda packages: TODAY)
    assert todays_versions(records) == TODAY
    monkeypatch.setattr("run_experiment.results.versions.versions", lambda packages: {"inspect-ai": "0.3.2"})
    assert todays_versions(records) == {"torchtune": "0.6.0", "inspect-ai": "0.3.2"}
    assert todays_versions([]) == {"inspect-ai": "0.3.2"}


def test_a_training_is_marked_by_its_own_trainer() -> None:
    made = JobRecord({"trainer": "trl"}, provenance={"versions": {"torchtune": "0.5.0", "trl": "1.0.0"}})
    assert other_versions(JobRecord({}), made, {"torchtune": "0.6.1", "trl": "1.16.0"}) == "trl 1.0.0"
    assert other_versions(JobRecord({}), made, {"torchtune": "0.6.1", "trl": "1.0.0"}) == ""


def test_other_installed_versions_do_not_outdate_the_page(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(done, *RECORDS)
    collect(done.path)
    monkeypatch.setattr(
        "run_experiment.results.versions.versions", lambda packages: {"torchtune": "9", "inspect-ai": "9"}
    )
    plan = plan_of(done)
    assert not results_outdated(plan)
    collect(done.path)
    assert len(set(column(done))) == 2
    monkeypatch.undo()
    assert not results_outdated(plan)


LOST = {"job_id": "17", "failure": "out of memory", "host": "n1"}


def test_training_that_was_made_smaller_has_a_note(done: ExperimentFolder) -> None:
    assert "note" not in collected(done)[1]
    changes = {"batch_size": 1, "gradient_accumulation_steps": 2}
    note(done, "r4/finetune.json", changes=changes, attempts=[LOST, {**LOST, "job_id": "17.2"}])
    header, _, r4, r8 = section(collected(done)[1], "Training").splitlines()
    assert header.split("|")[5].strip() == "note"
    assert r4.split("|")[5].strip() == "batch 1 × 2 instead of 2 × 1: memory; 3 attempts"
    assert r8.split("|")[5].strip() == ""


def test_the_time_of_a_resumed_training_is_that_of_all_its_attempts(done: ExperimentFolder) -> None:
    note(done, "r4/finetune.json", seconds=10.0, earlier_seconds=50.4, attempts=[LOST])
    _, _, r4, _ = section(collected(done)[1], "Training").splitlines()
    assert [cell.strip() for cell in r4.split("|")][4:6] == ["60 s", "2 attempts"]


def test_a_loss_that_is_nan_is_shown_as_such(done: ExperimentFolder) -> None:
    note(done, "r4/finetune.json", losses={"train_loss": math.nan, "validation_loss": None})
    _, _, r4, _ = section(collected(done)[1], "Training").splitlines()
    cells = [cell.strip() for cell in r4.split("|")]
    assert (cells[2], cells[3], cells[5]) == ("nan", "", "diverged: its loss is not a finite number")


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, ""),
        ({"attempts": [], "changes": {}}, ""),
        ({"attempts": [LOST]}, "2 attempts"),
        ({"attempts": [LOST, {"job_id": "18", "failure": None}]}, "2 attempts"),
        ({"attempts": "?", "changes": ["?"]}, ""),
        ({"losses": {"train_loss": math.nan}}, "diverged: its loss is not a finite number"),
        ({"losses": {"train_loss": 0.5, "validation_loss": math.inf}}, "diverged: its loss is not a finite number"),
        ({"losses": {"train_loss": 0.5, "validation_loss": None}}, ""),
        ({"changes": {"batch_size": 2}, "config": {}}, "batch 2 × None instead of None × None: memory"),
    ],
)
def test_note_of_a_training(facts: dict[str, Any], text: str) -> None:
    record = training_record({"config": {}, **facts})
    assert record is not None
    assert training_note(record) == text


def test_provenance_of_every_result_that_counts(done: ExperimentFolder) -> None:
    tell(done, *RECORDS)
    note(done, "r4/finetune.json", attempts=[LOST], changes={"batch_size": 1}, config_hash="abc", started="today")
    outdate(done, "base/eval/shout_base.json")
    collect(done.path)
    told = json.loads((done.path / PROVENANCE).read_text(encoding="utf-8"))
    assert set(told["trainings"]) == {"r4", "r8"}
    assert set(told["evaluations"]) == {"r4/shout/epoch0", "r4/shout/epoch1", "r8/shout/epoch1", "given/shout/base"}
    assert told["trainings"]["r4"] == {
        "job_id": "local-0",
        "config_hash": "abc",
        "started": "today",
        "ended": "2025-01-31T10:00:00+01:00",
        **TOLD,
        "tries": 2,
        "attempts": [LOST],
        "changes": {"batch_size": 1},
    }
    assert told["evaluations"]["given/shout/base"]["tries"] == 1


def test_the_newest_attempt_counts_also_where_it_could_say_nothing(done: ExperimentFolder) -> None:
    attempts = done.path / "r4/attempts"
    told = {"target": "finetune", "job_id": "17", "error": "exit status 1\nmore", "ended": "2025-01-31T10:00:00+00:00"}
    write_record(attempts / "17/attempt.json", told)
    failure = History(done.path).newest("r4/finetune.json")
    assert failure
    assert failure.why == "failed as job 17: exit status 1"

    write_record(
        attempts / "18/begun.json",
        {**told, "job_id": "18", "error": None, "ended": None, "started": "2025-01-31T11:00:00+00:00"},
    )
    failure = History(done.path).newest("r4/finetune.json")
    assert failure
    assert failure.why == "was interrupted or is still running, as job 18"

    write_record(attempts / "18/slurm.json", {"state": "TIMEOUT", "error": "SLURM job 18 ended as TIMEOUT"})
    failure = History(done.path).newest("r4/finetune.json")
    assert failure
    assert failure.why == "failed as job 18: TIMEOUT"
    assert History(done.path).newest("r4/eval/shout_epoch0.json") is None


def test_a_narrow_column_keeps_a_table_a_table() -> None:
    """A rule of a mere colon would show all of it as text."""
    assert markdown_table(["n", "p"], [["5", ""]]) == "| n  | p  |\n| :- | :- |\n| 5  |    |"
