"""What may be said of an experiment's results: scores, comparisons and answers, from logs and records."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from sample_logs import sample, samples_of, write_log
from small_experiment import evaluate, plan_of, train, verify_all
from wilson_by_hand import wilson

from run_experiment.common import paths
from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.model import Evaluation, Experiment, Generation, Model, Prompting, Run, Task, Training
from run_experiment.experiment.records import EvaluationRecord
from run_experiment.finetuning.metrics import COLUMNS
from run_experiment.planning.results_state import Records
from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.analyse import Analysis, analyse
from run_experiment.results.analysis.answer import Answer, Answers, verdict, weakest
from run_experiment.results.analysis.answer_text import answer_text
from run_experiment.results.analysis.comparisons import Comparison, comparisons, corrected
from run_experiment.results.analysis.headline import headline
from run_experiment.results.analysis.replicates import (
    SeedMean,
    compare_seeds,
    seed_comparisons,
    seed_means,
    seeds_answer,
)
from run_experiment.results.analysis.samples import LogSamples, SampleScores
from run_experiment.results.analysis.scores import Cell, Score, cell
from run_experiment.results.collect import collect

Samples = Sequence[Mapping[str, Any]]


def give(experiment: ExperimentFolder, metric: str = "match/accuracy", **logs: Samples | Sequence[Any]) -> None:
    """Leave evaluations with these samples, or values of their scores, by run and epoch (`r4_0`)."""
    for item in plan_of(experiment).experiment.evaluations:
        if (given := logs.get(f"{item.run.name}_{item.epoch}")) is None:
            continue
        samples = list(given) if given and isinstance(given[0], Mapping) else samples_of(list(given))
        numbers = [one["scores"]["match"]["value"] for one in samples if one["scores"]]
        numbers = [{"C": 1.0, "I": 0.0}.get(value, value) for value in numbers]
        scored = [value for value in numbers if isinstance(value, float) and not math.isnan(value)]
        value = sum(scored) / len(scored) if scored else None
        evaluate(experiment, [item], metrics={metric: value}, total_samples=len(samples))
        write_log(experiment.path / paths.eval_log(item.run.name, item.cell), samples)


def marks(right: int, wrong: int) -> list[str]:
    return ["C"] * right + ["I"] * wrong


def analysed(experiment: ExperimentFolder) -> Analysis:
    return analyse(Records(plan_of(experiment)))


def score(experiment: ExperimentFolder, subject: str) -> Score:
    return next(one for one in analysed(experiment).scores if one.subject == subject)


def comparison(experiment: ExperimentFolder, subject: str) -> Comparison:
    return next(one for one in analysed(experiment).comparisons if one.subject == subject)


def answer(experiment: ExperimentFolder) -> Answer:
    (found,) = analysed(experiment).answers
    return found


def change(experiment: ExperimentFolder, task: Mapping[str, Any] | None = None, **evaluation: Any) -> None:
    values = experiment.read()
    values["evaluation"] |= evaluation
    values["evaluation"]["tasks"][0] |= task or {}
    experiment.write(values)


def demo(experiment: ExperimentFolder) -> None:
    """0.92 against 0.90 of 50 samples, and a base of 0.20."""
    give(
        experiment,
        r4_0=marks(40, 10),
        r4_1=marks(46, 4),
        r8_1=[*marks(44, 5), "C"],
        base_None=marks(10, 40),
        given_None=marks(10, 40),
    )


def test_scores_have_named_intervals(done: ExperimentFolder) -> None:
    demo(done)
    found = score(done, "r4/shout/epoch1")
    assert (found.value, found.n, found.n_scored, found.method) == (0.92, 50, 50, "Wilson")
    assert (found.low, found.high) == pytest.approx(wilson(46, 50))
    collect(done.path)
    table = pd.read_csv(done.path / paths.EVALS_TABLE).set_index(["run", "epoch"])
    row = table.loc[("r4", 1.0)]
    assert (row["metric"], row["better"], row["n"], row["n_scored"]) == ("match/accuracy", "higher", 50, 50)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((found.low, found.high))


def test_the_demo_is_within_noise_and_beats_the_base(done: ExperimentFolder) -> None:
    demo(done)
    found = answer(done)
    assert [one.subject for one in found.best] == ["r4/shout/epoch1"]
    assert (found.verdict_base, found.verdict_runner_up) == ("clear", "within noise")
    assert found.runner_up is not None
    assert found.runner_up.subject == "r8/shout/epoch1"
    (against,) = found.against_runner_up
    assert (against.wins, against.losses, against.n) == (2, 1, 50)
    assert against.delta == pytest.approx(0.02)
    # r4, r8 and given after their epochs; the base is what they are compared with.
    assert found.cells == 4
    assert found.optimism is not None
    text = answer_text(found)
    assert "Highest match/accuracy: r4 after epoch 1, 0.920 (n = 50; 95 % interval 0.812 to 0.968, Wilson)." in text
    assert "chosen among 4 evaluations on the split that is reported, so its score is optimistic" in text
    assert "(95 % interval -0.056 to +0.094; better on 2 and worse on 1 of 50 samples; exact McNemar" in text
    assert "With 50 samples of which 3 differ, no difference can be seen." in text


def test_comparisons_are_paired_and_corrected(done: ExperimentFolder) -> None:
    demo(done)
    found = analysed(done).comparisons
    assert [one.subject for one in found] == [
        "r4/shout/epoch0",
        "r4/shout/epoch1",
        "r8/shout/epoch1",
        "given/shout/base",
    ]
    assert {(one.reference, one.paired, one.method) for one in found} == {("base", True, "exact McNemar")}
    assert [(one.wins, one.losses) for one in found] == [(30, 0), (36, 0), (35, 0), (0, 0)]
    # By hand: 2 / 2ⁿ, and Holm's factors 4, 3, 2, 1 from the smallest on.
    assert [one.p for one in found] == pytest.approx([2**-29, 2**-35, 2**-34, 1])
    assert [one.p_corrected for one in found] == pytest.approx([2 * 2**-29, 4 * 2**-35, 3 * 2**-34, 1])
    collect(done.path)
    table = pd.read_csv(done.path / paths.COMPARISONS_TABLE)
    assert table["p_corrected"].tolist() == pytest.approx([one.p_corrected for one in found])
    page = (done.path / paths.SUMMARY_PAGE).read_text(encoding="utf-8")
    assert "corrected (Holm) for the 4 comparisons of `comparisons.csv`" in page


def test_lower_is_better(done: ExperimentFolder) -> None:
    small, large = [0.1, 0.2, 0.15, 0.1, 0.3, 0.2, 0.1, 0.25], [0.9, 0.8, 0.7, 0.75, 0.9, 1.0, 0.85, 0.8]
    give(done, "match/mae", r4_0=large, r4_1=small, r8_1=large, base_None=large, given_None=large)
    found = answer(done)
    assert [one.subject for one in found.best] == ["r4/shout/epoch1"]
    assert (found.verdict_base, found.verdict_runner_up) == ("clear", "clear")
    assert answer_text(found).startswith("Lowest match/mae: r4 after epoch 1, ")


def test_direction_counts_in_wins(done: ExperimentFolder) -> None:
    change(done, {"metric": {"name": "mae"}})
    give(done, "match/mae", r4_1=[0.1] * 8, base_None=[0.9, 0.8, 0.7, 0.75, 0.9, 1.0, 0.85, 0.05])
    found = comparison(done, "r4/shout/epoch1")
    assert (found.wins, found.losses, found.method) == (7, 1, "paired permutation")
    assert found.delta == pytest.approx(0.1 - 5.95 / 8)


def test_errors_that_happen_to_be_ones_are_no_shares(done: ExperimentFolder) -> None:
    """Distances: of one result all are 1, of another all are 0, which says nothing of what distances may be."""
    far, near, between = [1.0] * 8, [0.0] * 8, [0.2, 0.4, 1.0, 0.6, 1.5, 1.0, 0.8, 0.3]
    give(done, "match/distance", r4_0=between, r4_1=near, r8_1=far, base_None=far, given_None=between)
    for subject in ("r4/shout/epoch1", "r8/shout/epoch1"):
        found = score(done, subject)
        assert (found.low, found.high, found.method) == (None, None, "none: all scores are the same")
    assert score(done, "r4/shout/epoch0").method == "t"
    assert comparison(done, "r4/shout/epoch1").method == "paired permutation"
    # Of accuracies it does.
    give(done, "match/accuracy", r4_0=near, r4_1=near, r8_1=far, base_None=far, given_None=near)
    assert score(done, "r8/shout/epoch1").method == "Wilson"
    assert comparison(done, "r4/shout/epoch1").method == "exact McNemar"


def test_ends_of_intervals_are_no_headline(done: ExperimentFolder) -> None:
    metrics = {"match/lower": 0.1, "match/upper": 0.9, "match/accuracy": 0.5}
    evaluate(done, plan_of(done).experiment.evaluations, metrics=metrics)
    assert analysed(done).headlines["shout"].metric == "match/accuracy"


def test_a_direction_that_is_not_known_names_no_best_run(done: ExperimentFolder) -> None:
    give(done, "match/length", r4_0=[1.0, 2.0], r4_1=[2.0, 3.0])
    found = answer(done)
    assert found.best == ()
    assert "evaluation.tasks[].metric.better says it" in answer_text(found)
    change(done, {"metric": {"name": "length", "better": "lower"}})
    assert [one.subject for one in answer(done).best] == ["r4/shout/epoch0"]


def test_ties_are_named(done: ExperimentFolder) -> None:
    give(done, r4_0=marks(3, 7), r4_1=marks(9, 1), r8_1=["I", *marks(9, 0)], base_None=marks(5, 5))
    found = answer(done)
    assert [one.subject for one in found.best] == ["r4/shout/epoch1", "r8/shout/epoch1"]
    assert "a tie of r4 after epoch 1 and r8 after epoch 1, 0.900" in answer_text(found)
    assert found.runner_up is not None
    assert found.runner_up.run == "given"
    # Each of them is compared, not only the first.
    assert [one.run for one in found.against_base] == [one.run for one in found.against_runner_up] == ["r4", "r8"]
    text = answer_text(found)
    assert "r4 after epoch 1 against base: +0.400 (" in text
    assert "r8 after epoch 1 against base: +0.400 (" in text


def test_what_is_the_same_of_all_that_tie_is_said_once(done: ExperimentFolder) -> None:
    best, base = marks(9, 1), marks(5, 5)
    give(done, r4_0=best, r4_1=best, r8_1=base, base_None=base, given_None=base)
    text = answer_text(answer(done))
    assert "a tie of r4 after epoch 0 and r4 after epoch 1, 0.900" in text
    assert text.count("Against base: +0.400 (") == 1
    assert text.count("Against the runner-up, r8 after epoch 1: +0.400 (") == 1
    assert text.count("+0.400 (") == 2


def test_results_that_are_all_the_same_have_no_best(done: ExperimentFolder) -> None:
    none = marks(0, 10)
    give(done, r4_0=none, r4_1=none, r8_1=none, base_None=none, given_None=none)
    text = answer_text(answer(done))
    assert text.startswith("All 4 results have the same match/accuracy: 0.000 (n = 10; ")
    assert text.count("+0.000 (") == 1


def test_of_several_that_tie_the_weakest_comparison_counts(done: ExperimentFolder) -> None:
    """Equal scores, of which one differs from the base's on few samples, the other on many."""
    base, near = marks(30, 20), ["I", *marks(36, 13)]
    far = [*marks(6, 14), *["C"] * 30]
    give(done, r4_0=base, r4_1=near, r8_1=far, base_None=base, given_None=base)
    found = answer(done)
    assert [one.run for one in found.best] == ["r4", "r8"]
    assert [verdict(one) for one in found.against_base] == ["within noise"] * 2
    assert found.verdict_base == weakest(found.against_base) == "within noise"
    clear = replace(found.against_base[0], p_corrected=0.01)
    assert weakest([clear, found.against_base[1]]) == "within noise"
    assert weakest([clear, replace(clear, paired=False)]) == "not comparable"
    assert (weakest([clear]), weakest([])) == ("clear", "")


def test_unscored_samples_are_counted_apart(done: ExperimentFolder) -> None:
    samples = [*samples_of(["C", "C", "I", math.nan]), sample(5, None, error="boom")]
    give(done, r4_1=samples)
    found = score(done, "r4/shout/epoch1")
    assert (found.n, found.n_scored) == (5, 3)
    assert (found.low, found.high) == pytest.approx(wilson(2, 3))


def test_failed_samples_that_were_scored_count(done: ExperimentFolder) -> None:
    """With the task's `score_on_error`; the metric is of five samples, the sixth has no score."""
    scored = [{**one, "error": "boom"} for one in samples_of(["C", "I"])]
    others = [sample(number, "C") for number in (3, 4, 5)]
    give(done, r4_1=[*scored, *others, sample(6, None, error="boom")])
    found = score(done, "r4/shout/epoch1")
    assert (found.value, found.n, found.n_scored, found.method) == (0.8, 6, 5, "Wilson")
    assert (found.low, found.high) == pytest.approx(wilson(4, 5))


@pytest.mark.parametrize(("right", "wrong"), [(1, 0), (0, 1), (30, 0), (0, 30)])
def test_one_sample_all_right_all_wrong(done: ExperimentFolder, right: int, wrong: int) -> None:
    give(done, **dict.fromkeys(("r4_0", "r4_1", "r8_1", "base_None", "given_None"), marks(right, wrong)))
    found = score(done, "r4/shout/epoch1")
    assert (found.low, found.high) == pytest.approx(wilson(right, right + wrong))
    assert answer(done).verdict_base == "within noise"
    assert answer(done).optimism == 0


def test_no_sample_has_a_score(done: ExperimentFolder) -> None:
    give(done, r4_1=[math.nan, math.nan])
    found = score(done, "r4/shout/epoch1")
    assert (found.value, found.n, found.n_scored, found.method) == (None, 2, 0, "none: no value")


def test_epochs_of_inspect_are_one_sample(done: ExperimentFolder) -> None:
    three = [sample(name, float(name < 4), epoch=epoch) for name in range(1, 11) for epoch in (1, 2, 3)]
    give(done, r4_1=three, base_None=[0.0] * 10)
    found = score(done, "r4/shout/epoch1")
    assert (found.value, found.n, found.n_scored) == (pytest.approx(0.3), 10, 10)
    assert (found.low, found.high) == pytest.approx(wilson(3, 10))
    assert comparison(done, "r4/shout/epoch1").n == 10


def test_other_samples_are_not_paired(done: ExperimentFolder) -> None:
    others = [sample(f"s{number}", "C") for number in range(5)]
    renamed = [{**one, "target": "other"} for one in samples_of(marks(3, 2))]
    give(done, r4_0=others, r4_1=renamed, r8_1=marks(3, 3), base_None=marks(4, 1))
    found = {one.subject: one for one in analysed(done).comparisons}
    assert (found["r4/shout/epoch0"].paired, found["r4/shout/epoch0"].why) == (False, "no sample id is in both")
    assert found["r4/shout/epoch0"].delta == pytest.approx(0.2)
    assert found["r4/shout/epoch1"].why == "samples with the same id have different targets"
    assert found["r4/shout/epoch1"].p is None
    assert (found["r8/shout/epoch1"].paired, found["r8/shout/epoch1"].why) == (True, "5 of 6 samples are in both")


def test_clusters_widen_the_interval(done: ExperimentFolder) -> None:
    samples = [sample(n, "C" if n < 10 else "I", metadata={"story": n // 5}) for n in range(20)]
    give(done, r4_1=samples, base_None=samples)
    plain = score(done, "r4/shout/epoch1")
    change(done, {"cluster": "story"})
    found = score(done, "r4/shout/epoch1")
    assert found.method == "clustered t"
    assert None not in (plain.low, found.low)
    assert found.low < plain.low  # type: ignore[operator]
    assert comparison(done, "r4/shout/epoch1").method == "clustered permutation"


def test_a_missing_base_is_said(done: ExperimentFolder) -> None:
    demo(done)
    (done.path / paths.eval_record("base", "shout_base")).unlink()
    found = answer(done)
    assert "Against base: not compared, since there is no result of base on shout." in answer_text(found)
    assert {one.paired for one in analysed(done).comparisons} == {False}


def test_another_reference(done: ExperimentFolder) -> None:
    demo(done)
    change(done, reference="given")
    assert {one.reference for one in analysed(done).comparisons} == {"given"}
    change(done, reference="r8")
    found = {one.subject: one for one in analysed(done).comparisons}
    assert found["r4/shout/epoch1"].reference_subject == "r8/shout/epoch1"
    assert found["r4/shout/epoch0"].why == "there is no result of r8 on shout after epoch 0"


def select_on_validation_loss(experiment: ExperimentFolder, losses: Mapping[str, Sequence[float]]) -> None:
    """Train with validation, with these losses after the epochs of each run, and choose by them."""
    change(experiment, select_on="validation_loss")
    values = experiment.read()
    values["controls"]["validation_during_training"] = True
    experiment.write(values)
    for name, by_epoch in losses.items():
        train(experiment, name, seed=3, losses={"train_loss": 1.0, "validation_loss": by_epoch[-1]})
        rows = [f"{epoch},{epoch + 1},,,,,,{loss}" for epoch, loss in enumerate(by_epoch)]
        (experiment.path / name / "artifacts/metrics.csv").write_text("\r\n".join([",".join(COLUMNS), *rows, ""]))
    verify_all(experiment)
    demo(experiment)


def test_chosen_by_validation_loss(done: ExperimentFolder) -> None:
    select_on_validation_loss(done, {"r4": [1.5, 2.0], "r8": [3.0, 1.0]})
    found = answer(done)
    assert [one.subject for one in found.best] == ["r8/shout/epoch1"]
    assert (found.chosen_on, found.optimism, found.cells) == ("validation_loss", None, 3)
    assert answer_text(found).startswith("Chosen by the lowest validation loss: r8 after epoch 1 (0.900 (n = 50;")
    assert "optimistic" not in answer_text(found)


def test_the_epoch_with_the_lowest_validation_loss_is_chosen(done: ExperimentFolder) -> None:
    """Not the last one, which overfits here; and the loss of an epoch that is not evaluated chooses nothing."""
    select_on_validation_loss(done, {"r4": [0.5, 2.0], "r8": [0.1, 1.0]})
    assert [one.subject for one in answer(done).best] == ["r4/shout/epoch0"]


def test_equal_validation_losses_are_a_tie(done: ExperimentFolder) -> None:
    select_on_validation_loss(done, {"r4": [2.0, 0.5], "r8": [2.0, 0.5]})
    assert [one.subject for one in answer(done).best] == ["r4/shout/epoch1", "r8/shout/epoch1"]


def test_the_final_loss_is_of_the_last_epoch(done: ExperimentFolder) -> None:
    """All that a trainer of another kind says."""
    select_on_validation_loss(done, {"r4": [0.5, 2.0], "r8": [3.0, 1.0]})
    for name in ("r4", "r8"):
        (done.path / name / "artifacts/metrics.csv").unlink()
    found = answer(done)
    assert ([one.subject for one in found.best], found.cells) == (["r8/shout/epoch1"], 2)


def test_keys_of_the_results_evaluate_nothing_again(done: ExperimentFolder) -> None:
    collect(done.path)
    assert not any(target.wanted for target in plan_of(done).targets.values())
    change(done, {"metric": {"better": "lower"}, "cluster": "story"}, reference="given", select_on="shout")
    wanted = [path for path, target in plan_of(done).targets.items() if target.wanted]
    assert wanted == [paths.SUMMARY_PAGE]


def test_a_log_that_cannot_be_read_costs_its_samples_only(done: ExperimentFolder) -> None:
    demo(done)
    (done.path / paths.eval_log("r4", "shout_epoch0")).write_bytes(b"torn")
    assert list(analysed(done).unreadable) == ["r4/shout/epoch0"]
    assert score(done, "r4/shout/epoch1").method == "Wilson"
    collect(done.path)
    page = (done.path / paths.SUMMARY_PAGE).read_text(encoding="utf-8")
    assert "Samples of r4/shout/epoch0 could not be read: File is not a zip file." in page


def test_an_analysis_that_fails_costs_no_other_result(
    done: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("run_experiment.results.analysis.analyse.comparisons", None)
    collect(done.path)
    assert "The scores could not be analysed: TypeError" in capsys.readouterr().err
    assert "could not be analysed" in (done.path / paths.SUMMARY_PAGE).read_text(encoding="utf-8")
    assert len(pd.read_csv(done.path / paths.EVALS_TABLE)) == 5


MODEL = Model("m", Path("/m"))
PROMPTING = Prompting("{input}", "", "chat_completion")
GENERATION = Generation(False, None, 14, None, 1)


def a_run(name: str, seed: int = 14, rank: int | None = None, kind: Any = "fine-tuned") -> Run:
    parameters = {"seed": seed} | ({"lora_rank": rank} if rank else {})
    training = Training(MODEL, (Path("/d"),), PROMPTING, Hyperparameters.model_validate({**parameters, "epochs": 5}))
    return Run(name, kind, MODEL, parameters, training if kind == "fine-tuned" else None, None, "", None)


def a_task(name: str, **facts: Any) -> Task:
    function = facts.pop("function", None)
    return Task(name, Path("t.py"), function, None, own_data=False, args=facts.pop("args", {}), **facts)


def cells_of(
    scores: Mapping[tuple[str, str, int | None], Sequence[float]], tasks: Sequence[Task], runs: Sequence[Run]
) -> dict[tuple[str, str, int | None], Cell]:
    """Cells with these scores of samples."""
    by_name = {task.name: task for task in tasks}
    run_by_name = {run.name: run for run in runs}
    headlines = {task.name: headline(task, [{"match/accuracy": 0.5}]) for task in tasks}
    cells = {}
    for (name, run_name, epoch), values in scores.items():
        item = Evaluation(
            run_by_name[run_name], by_name[name], epoch, PROMPTING, GENERATION, (), run_name, None, Path("config.yaml")
        )
        record = EvaluationRecord(config={}, metrics={"match/accuracy": math.fsum(values) / len(values)})
        samples = LogSamples(tuple(SampleScores(n, "", scores={"match": value}) for n, value in enumerate(values)))
        cells[name, run_name, epoch] = cell(item, record, headlines[name], samples, set(values) <= {0.0, 1.0})
    return cells


def analysis_of(
    scores: Mapping[tuple[str, str, int | None], Sequence[float]], tasks: Sequence[Task], runs: Sequence[Run]
) -> tuple[list[Comparison], dict[str, Answer]]:
    """Comparisons and answers of cells with these scores of samples."""
    cells = cells_of(scores, tasks, runs)
    headlines = {task.name: headline(task, [{"match/accuracy": 0.5}]) for task in tasks}
    evaluations = tuple(one.evaluation for one in cells.values())
    experiment = Experiment(Path("/e"), "e", "", None, (), tuple(runs), tuple(tasks), evaluations)
    means = seed_means(list(cells.values()))
    compared = corrected([*comparisons(experiment, cells), *seed_comparisons(experiment, cells, means)])
    answers = Answers(experiment, cells, headlines, compared, {})
    return compared, {task.name: answers.answer(task) for task in tasks}


@pytest.mark.parametrize("function", [None, "test"])
def test_chosen_on_validation_and_reported_once(function: str | None) -> None:
    """Also if the one task names the function and the other is called as it."""
    val = a_task("val", args={"split": "validation"}, function=function)
    tasks = [a_task("test", args={"split": "test"}), val]
    runs = [a_run("a"), a_run("b"), a_run("base", kind="control")]
    scores = {("test", "a", 0): ones(8, 2), ("test", "b", 0): ones(9, 1), ("test", "base", None): ones(1, 9)}
    _, answers = analysis_of(scores | {("val", "a", 0): ones(7, 3), ("val", "b", 0): ones(6, 4)}, tasks, runs)
    found = answers["test"]
    assert ([one.run for one in found.best], found.chosen_on, found.optimism) == (["a"], "val", None)
    assert "Chosen by its score on val: a after epoch 0 (0.800" in answer_text(found)
    assert answers["val"].chosen_on == ""


def ones(right: int, wrong: int) -> list[float]:
    return [1.0] * right + [0.0] * wrong


def test_two_hundred_runs_are_analysed_in_seconds() -> None:
    drawn = random.Random(1)
    tasks = [a_task(f"t{number}") for number in range(5)]
    runs = [a_run(f"r{number}", rank=number + 1) for number in range(200)]
    cells: list[tuple[str, int | None]] = [("base", None), *((run.name, epoch) for run in runs for epoch in range(5))]
    # One task with scores that are not 0 or 1.
    scores = {
        (task.name, run, epoch): [
            drawn.random() if task.name == "t4" else float(drawn.random() < 0.8) for _ in range(60)
        ]
        for task in tasks
        for run, epoch in cells
    }
    begun = time.process_time()
    compared, answers = analysis_of(scores, tasks, [a_run("base", kind="control"), *runs])
    assert time.process_time() - begun < 60
    assert len(compared) == 5000
    # All are equal: after the correction next to nothing is clear, and the warning says what the best shows too much.
    assert sum((one.p_corrected or 1) < 0.05 for one in compared) <= 5
    for task in tasks[:4]:
        found = answers[task.name]
        assert found.verdict_runner_up == "within noise"
        assert found.optimism == pytest.approx((found.best[0].value or 0) - 0.8, abs=0.02)
    assert statistics.holm([one.p for one in compared]) == [one.p_corrected for one in compared]


def test_seeds_are_replicates() -> None:
    runs = [a_run(f"r{rank}s{seed}", seed, rank) for rank in (4, 8) for seed in (1, 2, 3)]
    right = dict(zip([run.name for run in runs], (10, 12, 14, 11, 13, 15), strict=True))
    cells, answers = seeds_of(runs, {("t", name, 0): ones(count, 20 - count) for name, count in right.items()})
    assert [(one.seeds, one.mean, one.sd) for one in cells] == [
        (3, pytest.approx(0.6), pytest.approx(0.1)),
        (3, pytest.approx(0.65), pytest.approx(0.1)),
    ]
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (cells[0].low, cells[0].high) == (pytest.approx(0.6 - half), pytest.approx(0.6 + half))
    assert answers.startswith(
        "lora_rank 8 after epoch 0 (3 seeds) is best of 2 means: mean 0.650, standard deviation 0.100. "
        "If all means were equal, the best would still show about +0.03"
    )
    # Every seed differs by the same, so nothing is known of the spread.
    assert answers.endswith("mean 0.600: +0.050 (no spread between seeds, so nothing is tested).")
    right = dict(zip([run.name for run in runs], (9, 9, 10, 14, 15, 15), strict=True))
    _, answers = seeds_of(runs, {("t", name, 0): ones(count, 20 - count) for name, count in right.items()})
    assert answers.endswith("t over 3 pairs of seeds, corrected p = 0.0039): clear between seeds.")


SEEDED = [a_run(f"r{rank}s{seed}", seed, rank) for rank in (4, 8) for seed in (1, 2, 3)]


def seeded(right: Sequence[int], base: int = 8, runs: Sequence[Run] = SEEDED) -> dict[str, Comparison]:
    """Comparisons of means over seeds by their runs, with so many right of 20."""
    scores = {("t", run.name, 0): ones(count, 20 - count) for run, count in zip(runs, right, strict=True)}
    every = [*runs, a_run("base", kind="control")]
    compared, _ = analysis_of(scores | {("t", "base", None): ones(base, 20 - base)}, [a_task("t")], every)
    return {one.run: one for one in compared if "seeds" in one.run}


def test_means_over_seeds_are_compared_with_the_reference() -> None:
    found = seeded((10, 12, 14, 13, 14, 15))["lora_rank 4 (3 seeds)"]
    assert (found.method, found.n, found.wins, found.losses) == ("t over 3 seeds", 3, 3, 0)
    # Differences 0.1, 0.2, 0.3 to 0.4: t = 0.2 / (0.1 / √3) = 3.4641 with 2 degrees of freedom, p = 0.07418.
    assert found.delta == pytest.approx(0.2)
    assert found.p == pytest.approx(0.07418, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((0.2 - 0.248414, 0.2 + 0.248414), abs=1e-5)


def test_seeds_are_paired_with_equal_seeds() -> None:
    """The seeds of both ranks rise together: paired it is clear, which it is not between two samples."""
    means = seed_means(list(cells_of_seeds((10, 12, 14, 13, 15, 18), SEEDED)))
    found = compare_seeds(means[1], means[0])
    assert (found.method, found.n, found.wins) == ("t over 3 pairs of seeds", 3, 3)
    # Differences 0.15, 0.15, 0.2: t = (1/6) / (0.0288675 / √3) = 10.
    assert found.p == pytest.approx(0.009852, abs=1e-5)
    others = [replace(run, name=f"x{run.name}") for run in SEEDED[:3]]
    unpaired = seed_means(list(cells_of_seeds((10, 12, 14), others)))[0]
    other = replace(unpaired, by_seed={seed + 7: value for seed, value in unpaired.by_seed.items()})
    found = compare_seeds(means[1], other)
    assert found.method == "Welch's t over 3 and 3 seeds"
    assert found.p is not None
    assert found.p > 0.05
    assert (found.low or 0) < (found.delta or 0) < (found.high or 0)


def mean_of(values: Sequence[float], first: int = 1) -> SeedMean:
    """A mean over seeds with these values, the first of the seed `first`."""
    known: dict[str, Any] = dict.fromkeys(("low", "high"))
    numbers = {"mean": math.fsum(values) / len(values), "sd": stdev(values), "seeds": len(values)}
    names = tuple(f"r{number}" for number in range(len(values)))
    by_seed = dict(enumerate(values, start=first))
    what = {"task": "t", "epoch": 0, "runs": names, "subjects": names, "parameters": {}, "metric": "m/mae"}
    return SeedMean(**what, better="lower", method="t", by_seed=by_seed, **known, **numbers)


def test_means_over_seeds_of_a_publication() -> None:
    """Student's sleep data (1908): with equal seeds in pairs, else Welch's test; both as R's `t.test` works them out.

    Welch's by hand: variances 3.2006 and 4.0090 of ten, so t = -1.58 / √0.72095 = -1.8608 with
    0.72095² / (0.32006² / 9 + 0.40090² / 9) = 17.776 degrees of freedom.
    """
    one = mean_of([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    values = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    pairs = compare_seeds(one, mean_of(values))
    assert (pairs.p, pairs.n, pairs.method) == (pytest.approx(0.002833, abs=5e-7), 10, "t over 10 pairs of seeds")
    assert (pairs.low, pairs.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    # Lower is better, and of one seed both are the same.
    assert (pairs.wins, pairs.losses) == (9, 0)
    welch = compare_seeds(one, mean_of(values, first=11))
    assert (welch.p, welch.method) == (pytest.approx(0.07939, abs=5e-6), "Welch's t over 10 and 10 seeds")
    assert (welch.low, welch.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)
    assert welch.delta == pytest.approx(-1.58)


def cells_of_seeds(right: Sequence[int], runs: Sequence[Run]) -> Sequence[Cell]:
    scores = {("t", run.name, 0): ones(count, 20 - count) for run, count in zip(runs, right, strict=True)}
    return list(cells_of(scores, [a_task("t")], runs).values())


def test_seeds_without_a_spread_test_nothing() -> None:
    found = seeded((10, 10, 10, 13, 14, 15))["lora_rank 4 (3 seeds)"]
    assert (found.p, found.low, found.why) == (None, None, "no spread between seeds, so nothing is tested")
    assert found.delta == pytest.approx(0.1)


def test_runs_that_differ_otherwise_are_no_replicates() -> None:
    other = a_run("d", 2, 4)
    assert other.training
    by_trl = replace(other, training=replace(other.training, trainer="trl"))
    prompting = replace(other.training.prompting, dataset_type="text_completion")
    of_text = replace(other, name="e", training=replace(other.training, prompting=prompting))
    runs = [a_run("a", 1, 4), a_run("b", 2, 8), a_run("c", 1, 4), by_trl, of_text]
    cells, text = seeds_of(runs, {("t", name, 0): ones(1, 1) for name in "abcde"})
    assert (cells, text) == ([], "")


def seeds_of(
    runs: Sequence[Run], scores: Mapping[tuple[str, str, int | None], Sequence[float]]
) -> tuple[list[SeedMean], str]:
    task = a_task("t")
    found = headline(task, [{"match/accuracy": 0.5}])
    means = seed_means(list(cells_of(scores, [task], runs).values()))
    over_seeds = seeds_answer(means, found, [], [run.name for run in runs])
    score = next(iter(cells_of(scores, [task], runs).values())).score
    text = answer_text(Answer("t", found.metric, found.better, best=(score,), seeds=over_seeds))
    return means, text.partition("Over seeds, ")[2]
