"""`run-experiment results --compare`: two runs, or two experiments, with the numbers of the table of comparisons."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from experiments import ExperimentFolder
from sample_logs import samples_of, write_log
from small_experiment import evaluate, plan_of, train_all

from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.results.analysis.statistics import holm, mcnemar
from run_experiment.results.collect import collect


def give(experiment: ExperimentFolder, metric: str = "match/accuracy", **marks: str) -> None:
    """Leave evaluations with these marks, a letter a sample (C or I), by run and epoch: `r4_0`."""
    for item in plan_of(experiment).experiment.evaluations:
        if found := marks.get(f"{item.run.name}_{item.epoch}"):
            evaluate(experiment, [item], metrics={metric: found.count("C") / len(found)}, total_samples=len(found))
            log = experiment.path / paths.eval_log(item.run.name, item.cell)
            write_log(log, samples_of(list(found), scorer=metric.partition("/")[0]))


def compared(capsys: pytest.CaptureFixture[str], experiment: ExperimentFolder, *names: str) -> tuple[str, pd.DataFrame]:
    """What the command prints: all of it, and its table."""
    assert main(["results", str(experiment.path), "--compare", *names]) == 0
    text = capsys.readouterr().out
    header, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *lines)]
    return text, pd.DataFrame(rows[1:], columns=rows[0])


def refused(capsys: pytest.CaptureFixture[str], experiment: ExperimentFolder, *names: str) -> str:
    assert main(["results", str(experiment.path), "--compare", *names]) == 2
    said = capsys.readouterr()
    assert not said.out
    return said.err


def test_numbers_are_those_of_the_table_of_comparisons(
    done: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    give(done, r4_0="CCCCCCII", r4_1="CCCCCCCC", base_None="IIIIIIIC")
    collect(done.path)
    table = pd.read_csv(done.path / paths.COMPARISONS_TABLE).set_index(["run", "epoch"])
    text, rows = compared(capsys, done, "r4", "base")
    assert rows["epoch"].tolist() == ["0", "1"]
    for epoch in (0, 1):
        found, row = table.loc[("r4", epoch)], rows.iloc[epoch]
        assert (row["n"], row["wins"], row["losses"]) == (str(found["n"]), str(found["wins"]), str(found["losses"]))
        assert row["delta"] == f"{found['delta']:+.3f}"
        assert row["95 % interval"] == f"[{found['low']:+.3f}, {found['high']:+.3f}]"
        assert row["p"] == f"{found['p']:.4f}"
        assert row["method"] == "exact McNemar"
    # Corrected for what is printed, not for what the experiment compares besides.
    assert rows["corrected"].tolist() == [f"{p:.4f}" for p in holm([mcnemar(6, 1), mcnemar(7, 0)])]
    assert "shout: match/accuracy (higher is better)" in text
    assert "2 p-values, corrected together (Holm)." in text


def test_the_other_way_round_signs_change_and_p_does_not(
    done: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    give(done, r4_1="CCCCCCCC", r8_1="CCCCIIII")
    _, one = compared(capsys, done, "r4", "r8")
    _, other = compared(capsys, done, "r8", "r4")
    one, other = one[one["epoch"] == "1"], other[other["epoch"] == "1"]
    assert [*one["delta"], *other["delta"]] == ["+0.500", "-0.500"]
    assert [*one["wins"], *other["losses"]] == ["4", "4"]
    assert one["p"].tolist() == other["p"].tolist()


def test_a_missing_counterpart_is_named(done: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    give(done, r4_0="CI", r4_1="CC", r8_1="CI")
    _, rows = compared(capsys, done, "r4", "r8")
    assert rows["method"].tolist() == ["not compared: B has no result", "exact McNemar"]
    assert (rows["A"][0], rows["B"][0]) == ("0.500", "")


def test_without_samples_nothing_is_paired(done: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    give(done, r4_1="CC")
    (done.path / paths.eval_log("base", "shout_base")).write_bytes(b"torn")
    text, rows = compared(capsys, done, "r4", "base")
    row = rows.iloc[1]
    assert (row["n"], row["p"]) == ("", "")
    assert row["method"] == "not paired: the samples of base/shout/base could not be read"
    assert "Nothing was tested." in text


@pytest.fixture
def other(done: ExperimentFolder) -> ExperimentFolder:
    """A copy of the experiment, to be changed."""
    place = done.path.with_name("other")
    shutil.copytree(done.path, place, symlinks=True)
    return ExperimentFolder(place)


def in_both(done: ExperimentFolder, other: ExperimentFolder, marks: Mapping[str, str]) -> None:
    give(done, **marks)
    give(other, **{name: found.replace("C", "I") for name, found in marks.items()})


def test_a_run_here_is_compared_with_the_run_of_its_name_there(
    done: ExperimentFolder, other: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    in_both(done, other, {"r4_0": "CCCI", "r4_1": "CCCC"})
    text, rows = compared(capsys, done, "r4", str(other.path))
    assert f"A: r4 of {done.path}" in text
    assert f"B: r4 of {other.path}" in text
    assert rows["delta"].tolist() == ["+0.750", "+1.000"]


def test_two_experiments_are_compared_run_by_run(
    done: ExperimentFolder, other: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    in_both(done, other, {"r4_0": "CCCI", "r4_1": "CCCC", "r8_1": "CIII", "base_None": "IIII", "given_None": "CCII"})
    text, rows = compared(capsys, done, str(done.path), str(other.path))
    assert rows["run"].tolist() == ["r4", "r4", "r8", "base", "given"]
    assert rows["delta"].tolist() == ["+0.750", "+1.000", "+0.250", "+0.000", "+0.500"]
    assert "5 p-values" in text


def test_different_metrics_are_not_compared(
    done: ExperimentFolder, other: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    give(done, r4_1="CC")
    for run in ("r4_0", "r4_1", "r8_1", "base_None", "given_None"):
        give(other, metric="includes/accuracy", **{run: "CI"})
    _, rows = compared(capsys, done, "r4", str(other.path))
    row = rows[rows["epoch"] == "1"].iloc[0]
    assert row["method"] == "not paired: A has match/accuracy, B includes/accuracy"
    assert (row["delta"], row["p"]) == ("", "")


def test_unknown_names_are_refused_with_the_choices(
    done: ExperimentFolder, other: ExperimentFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = refused(capsys, done, "r4", "bass")
    assert said == (
        f"bass: neither a run of {done.path} nor the folder of an experiment; did you mean base?\n"
        "Runs: r4, r8, base, given\n"
    )
    assert "nor the folder of an experiment; known: r4, r8, base, given" in refused(capsys, done, str(tmp_path), "r4")
    values = other.read()
    values["runs"] = [run for run in values["runs"] if run["name"] != "r8"]
    values["evaluation"]["matrix"] = [one for one in values["evaluation"]["matrix"] if one["run"] != "r8"]
    other.write(values)
    assert f"{other.path} has no run r8" in refused(capsys, done, "r8", str(other.path))


def test_comparing_writes_no_results(done: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    compared(capsys, done, "r4", "base")
    assert not (done.path / "results").exists()


def test_runs_of_other_trainers_and_backends_are_marked(
    done: ExperimentFolder, other: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = other.read()
    other.write(summary | {"tools": summary.get("tools", {}) | {"preparation": "trl"}})
    train_all(other)
    give(done, r4_0="CCCI", r4_1="CCCC")
    give(other, r4_0="CCII", r4_1="CIII")
    _, rows = compared(capsys, done, "r4", str(other.path))
    assert rows["method"].tolist() == ["exact McNemar; trained by torchtune and trl"] * 2
    [last] = [one for one in plan_of(other).experiment.evaluations if (one.run.name, one.epoch) == ("r4", 1)]
    evaluate(other, [last], metrics={"match/accuracy": 0.25}, total_samples=4, model="vllm-tokens/tiny")
    _, rows = compared(capsys, done, "r4", str(other.path))
    row = rows.iloc[1]
    assert row["method"] == "not paired: results of two backends: hf and vllm; trained by torchtune and trl"
    assert (row["delta"], row["p"], row["n"]) == ("+0.750", "", "")
