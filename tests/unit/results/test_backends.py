"""Results of several backends of evaluations are marked wherever they are shown, and never taken together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from sample_logs import samples_of, write_log
from small_experiment import evaluate, plan_of

from run_experiment.common import paths
from run_experiment.experiment.records import EvaluationRecord, read_evaluation
from run_experiment.inputs.file_hashes import hash_memory
from run_experiment.planning.results_state import Records
from run_experiment.report.data import report_data
from run_experiment.results.analysis.analyse import Analysis, analyse
from run_experiment.results.analysis.replicates import SeedMean, compare_seeds, seed_comparisons, seed_means
from run_experiment.results.analysis.scores import Cell
from run_experiment.results.collect import collect
from run_experiment.status.read import read_status

HF, VLLM = "hf/tiny", "vllm-tokens/tiny"


def give(experiment: ExperimentFolder, **models: str) -> Analysis:
    """Leave evaluations of eight samples by these models, by run."""
    for number, item in enumerate(plan_of(experiment).experiment.evaluations):
        right = 2 + number
        model = models.get(item.run.name, HF)
        evaluate(experiment, [item], metrics={"match/accuracy": right / 8}, total_samples=8, model=model)
        log = experiment.path / paths.eval_log(item.run.name, item.cell)
        write_log(log, samples_of(["C"] * right + ["I"] * (8 - right)))
    return analyse(Records(plan_of(experiment)))


@pytest.mark.parametrize(
    ("model", "generation", "backend"),
    [
        (HF, {}, "hf"),
        (VLLM, {"backend": "vllm"}, "vllm"),
        ("vllm/tiny", {}, "vllm"),
        ("openai/tiny", {}, "openai"),
        (None, {}, "hf"),
        (None, {"backend": "vllm"}, "vllm"),
    ],
)
def test_a_record_says_its_backend(tmp_path: Path, model: str | None, generation: dict[str, str], backend: str) -> None:
    """A record of an edited script is of the backend that the script used, not of the one that was asked for."""
    record: dict[str, Any] = {"config": {"generation": generation}, "results": {"metrics": {}, "model": model}}
    (tmp_path / "record.json").write_text(json.dumps(record))
    found = read_evaluation(tmp_path / "record.json")
    assert isinstance(found, EvaluationRecord)
    assert found.backend == backend


def test_no_best_run_is_named_over_two_backends(done: ExperimentFolder) -> None:
    [answer] = give(done, r8=VLLM).answers
    assert not answer.best
    assert answer.why == "results of shout are of several backends (hf, vllm)"


def test_results_of_two_backends_are_not_compared(done: ExperimentFolder) -> None:
    analysis = give(done, base=VLLM)
    found = {one.run: one for one in analysis.comparisons}
    for run in ("r4", "r8"):
        assert not found[run].paired
        assert found[run].p is None
        assert set(found[run].why.removeprefix("results of two backends: ").split(" and ")) == {"hf", "vllm"}
    # Those that can be the best are of one.
    assert analysis.answers[0].best
    assert analysis.answers[0].verdict_base == "not comparable"


def test_a_backend_for_all_marks_the_tables_and_changes_no_answer(done: ExperimentFolder) -> None:
    usual = give(done).answers
    assert [one.why for one in give(done, r4=VLLM, r8=VLLM, base=VLLM, given=VLLM).answers] == [
        one.why for one in usual
    ]
    collect(done.path)
    assert set(pd.read_csv(done.path / paths.EVALS_TABLE)["backend"]) == {"vllm"}
    page = (done.path / paths.SUMMARY_PAGE).read_text()
    assert "### shout: match/accuracy, higher is better, by vllm\n" in page
    assert "backend vllm" in page


def test_each_result_is_marked_if_there_are_several(done: ExperimentFolder) -> None:
    analysis = give(done, r8=VLLM)
    collect(done.path)
    table = pd.read_csv(done.path / paths.EVALS_TABLE)
    assert dict(zip(table["run"], table["backend"], strict=True)) == {
        "r4": "hf",
        "r8": "vllm",
        "base": "hf",
        "given": "hf",
    }
    page = (done.path / paths.SUMMARY_PAGE).read_text()
    marked = [line.split(" | ")[0].strip("| ") for line in page.splitlines() if ", vllm |" in line]
    assert marked == ["r8"]
    assert "Results of several backends (hf, vllm) are not compared with each other." in page
    made = json.loads((done.path / "results/provenance.json").read_text())["evaluations"]
    assert {name: one["backend"] for name, one in made.items() if name.startswith("r8/")} == {"r8/shout/epoch1": "vllm"}
    data = report_data(Records(plan_of(done)), read_status(done.path, hash_memory(done.path)), analysis)
    assert {row["run"] for row in data["scores"] if "backend vllm" in row["note"]} == {"r8"}
    assert any("several backends (hf, vllm)" in text for text in data["warnings"])


def test_the_usual_backend_is_not_mentioned(done: ExperimentFolder) -> None:
    data = report_data(Records(plan_of(done)), read_status(done.path, hash_memory(done.path)), give(done))
    collect(done.path)
    assert "backend" not in (done.path / paths.SUMMARY_PAGE).read_text()
    assert not any("backend" in (row["note"] or "") for row in data["scores"])


def of_backend(cells: list[Cell], *backends: str) -> list[Cell]:
    """Cells as if these backends had computed them."""
    pairs = zip(cells, backends, strict=True)
    return [replace(one, record=replace(one.record, backend=backend)) for one, backend in pairs]


@pytest.fixture
def seeded(done: ExperimentFolder) -> tuple[Analysis, list[Cell]]:
    """Four evaluations of runs that differ only in their seed."""
    analysis = give(done)
    first = analysis.cells["shout", "r4", 1]
    training = first.evaluation.run.training
    assert training
    cells = []
    for seed in range(4):
        hyperparameters = training.hyperparameters.model_copy(update={"seed": seed})
        run = replace(
            first.evaluation.run, name=f"s{seed}", training=replace(training, hyperparameters=hyperparameters)
        )
        score = replace(first.score, run=run.name, subject=f"s{seed}/shout/epoch1", value=seed / 8)
        cells.append(replace(first, evaluation=replace(first.evaluation, run=run), score=score))
    return analysis, cells


def test_means_over_seeds_are_within_a_backend(seeded: tuple[Analysis, list[Cell]]) -> None:
    _, cells = seeded
    assert [one.seeds for one in seed_means(cells)] == [4]
    means = seed_means(of_backend(cells, "hf", "vllm", "hf", "vllm"))
    assert {one.backend: one.runs for one in means} == {"hf": ("s0", "s2"), "vllm": ("s1", "s3")}
    one, other = means
    assert_untested(compare_seeds(one, other))


def test_a_mean_over_seeds_is_not_compared_with_a_base_of_another_backend(
    done: ExperimentFolder, seeded: tuple[Analysis, list[Cell]]
) -> None:
    analysis, cells = seeded
    means: list[SeedMean] = seed_means(of_backend(cells, *["vllm"] * 4))
    experiment = plan_of(done).experiment
    runs = tuple(one.evaluation.run for one in cells)
    [found] = seed_comparisons(replace(experiment, runs=(*experiment.runs, *runs)), analysis.cells, means)
    assert_untested(found)


def assert_untested(found: Any) -> None:
    assert not found.paired
    assert found.p is None
    assert found.why.startswith("results of two backends: ")
