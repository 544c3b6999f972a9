"""The page from the records of an experiment: what it says, and that it never stands in the way of the results."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from experiments import ExperimentFolder, make_experiment
from page_reading import data_of
from report_data import page_data
from small_experiment import make_small_experiment, plan_of

from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.planning.results_state import Records
from run_experiment.report import figure_files, page
from run_experiment.report.collect import collect, refresh
from run_experiment.report.figure_files import write_figures
from run_experiment.report.figures import figures

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_page_has_all_sections_that_the_tests_of_the_browser_have(done: ExperimentFolder) -> None:
    collect(done.path)
    assert set(page_data()) == set(data_of(done))


def test_what_is_not_done_stands_there_with_the_reason_that_status_gives(done: ExperimentFolder) -> None:
    (done.path / "r8/eval/shout_epoch1.json").unlink()
    attempt = {
        "target": "shout_epoch1",
        "error": "out of memory\nmore",
        "job_id": "17",
        "ended": "2026-01-31T12:00:00+01:00",
    }
    write_record(done.path / "r8/attempts/17/attempt.json", attempt)
    missing = collect(done.path)
    (problem,) = data_of(done)["problems"]
    assert (problem["subject"], problem["state"], problem["job_id"]) == ("r8/shout/epoch1", "failed", "17")
    assert (
        [(problem["subject"], problem["reason"])] == missing == [("r8/shout/epoch1", "failed as job 17: out of memory")]
    )


def test_scores_are_those_of_the_table(done: ExperimentFolder) -> None:
    collect(done.path)
    rows = (done.path / paths.EVALS_TABLE).read_text(encoding="utf-8").splitlines()[1:]
    found = [(row["run"], row["task"], row["epoch"]) for row in data_of(done)["scores"]]
    assert len(found) == len(rows) == 5
    assert ("base", "shout", None) in found


def test_parameters_that_differ_are_those_that_runs_set(done: ExperimentFolder) -> None:
    collect(done.path)
    parameters = data_of(done)["parameters"]
    assert parameters["differing"] == ["lora_rank"]
    assert "epochs" in parameters["same"]
    # It follows from the rank.
    assert "lora_alpha" not in {*parameters["same"], *parameters["differing"]}


def test_what_was_warned_of_before_it_ran_is_on_the_page(tmp_path: Path) -> None:
    """A page is sent to people who did not see the terminal."""
    experiment = make_experiment(tmp_path / "experiment")
    rows = experiment.data()
    experiment.write_data({**rows, "test": rows["train"][:3]})
    collect(experiment.path)
    (warning,) = data_of(experiment)["warnings"]
    assert "split train has the input of 3 of 3 rows of split test (row 1) as well" in warning
    # The page is made, too, where a session would not begin.
    (tmp_path / "model/tokenizer.json").unlink()
    collect(experiment.path)
    assert data_of(experiment)["warnings"] == []


def test_an_experiment_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    experiment = make_small_experiment(tmp_path / "experiment")
    collect(experiment.path)
    data = data_of(experiment)
    assert (data["done"], data["trained"], data["scores"]) == (0, 0, [])
    assert [problem["state"] for problem in data["problems"]] == ["missing"] * 8
    assert not (experiment.path / paths.FIGURES).exists()


def test_a_page_that_fails_is_removed_and_the_results_stay(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    collect(done.path)
    (done.path / paths.SUMMARY_PAGE).unlink()
    capsys.readouterr()
    monkeypatch.setattr(page, "page", lambda *_: 1 / 0)
    assert collect(done.path) == []
    assert not (done.path / paths.REPORT).exists()
    assert (done.path / paths.SUMMARY_PAGE).exists()
    assert capsys.readouterr().err == "results/report.html could not be made: ZeroDivisionError: division by zero\n"


def test_a_full_disk_costs_only_the_page(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("run_experiment.report.collect.write_atomically", full)
    assert collect(done.path) == []
    assert "results/report.html could not be made: OSError: " in capsys.readouterr().err
    assert (done.path / paths.SUMMARY_PAGE).exists()


def test_a_refresh_that_fails_is_a_line_on_the_terminal(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh(Records(plan_of(done)))
    assert (done.path / paths.REPORT).exists()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("run_experiment.report.collect.write_results", lambda _: 1 / 0)
    refresh(Records(plan_of(done)))
    assert capsys.readouterr().err == "results could not be made: ZeroDivisionError: division by zero\n"


def test_figures_that_fail_leave_the_page(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(figure_files, "write_figures", lambda *_: 1 / 0)
    collect(done.path)
    assert (done.path / paths.REPORT).exists()
    assert capsys.readouterr().err == "results/figures could not be made: ZeroDivisionError: division by zero\n"


def test_figures_are_files_that_need_no_page(tmp_path: Path) -> None:
    drawn = figures(page_data())
    (tmp_path / "older.svg").touch()
    (tmp_path / "notes.txt").touch()
    write_figures(tmp_path, drawn)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"scores_task0.svg", "scores_task0.png", "timeline.png", "train_loss.svg", "notes.txt"} < names
    assert len(names) == 2 * len(drawn) + 1
    for path in tmp_path.glob("*.svg"):
        assert "var(" not in path.read_text(encoding="utf-8")
    assert (tmp_path / "timeline.png").read_bytes().startswith(PNG)


def test_values_are_on_axes_as_the_summary_has_them() -> None:
    data = page_data(tasks=1)
    for number, run in enumerate(data["runs"]):
        run["parameters"] = {"lr": (1e-5, "auto")[number % 2], "full_finetuning": bool(number % 2)}
    data["parameters"]["differing"] = ["lr", "full_finetuning"]
    by_lr, by_method = (one.chart.svg() for one in figures(data) if one.section == "parameters")
    assert re.findall(r">(1e-05|auto)</text>", by_lr) == ["1e-05", "auto"]
    assert re.findall(r">(false|true|False|True)</text>", by_method) == ["false", "true"]


def test_a_figure_that_is_as_it_was_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = figures(page_data())
    write_figures(tmp_path, drawn)
    (tmp_path / "timeline.png").unlink()
    made: list[str] = []

    def png(svg: str) -> bytes:
        made.append(svg)
        return PNG

    monkeypatch.setattr(figure_files, "png", png)
    write_figures(tmp_path, drawn)
    assert len(made) == 1
    assert (tmp_path / "timeline.png").read_bytes() == PNG
    write_figures(tmp_path, figures(page_data(runs=5)))
    assert len(made) > 5
