"""Every number of the page is that of the file that it comes from: tables, records, logs, action logs."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from statistics import fmean, stdev
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from page_reading import data_of
from scipy.stats import t

from run_experiment.common import paths

Row = dict[str, Any]
# Sections of the data that have numbers, with the test below that looks at each of them.
LOOKED_AT = {
    "format": "test_counts",
    "done": "test_counts",
    "trained": "test_counts",
    "experiment": "test_counts",
    "tasks": "test_the_best_of_a_task",
    "scores": "test_scores",
    "comparisons": "test_comparisons",
    "seeds": "test_means_over_seeds",
    "runs": "test_runs",
    "parameters": "test_parameters",
    "curves": "test_losses",
    "samples": "test_samples",
    "jobs": "test_jobs",
    "compute": "test_totals_of_jobs",
}


@pytest.fixture(scope="session", params=["cases", "whole"])
def experiment(request: pytest.FixtureRequest) -> ExperimentFolder:
    found: ExperimentFolder = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def page(experiment: ExperimentFolder) -> dict[str, Any]:
    return data_of(experiment)


def table(experiment: ExperimentFolder, path: str) -> list[Row]:
    """The rows of a table; a field that is empty is None."""
    read = pd.read_csv(experiment.path / path)
    return read.astype(object).where(read.notna(), None).to_dict("records")


def evals(experiment: ExperimentFolder) -> dict[tuple[Any, ...], Row]:
    return {(row["task"], row["run"], row["epoch"]): row for row in table(experiment, paths.EVALS_TABLE)}


def record(experiment: ExperimentFolder, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((experiment.path / path).read_text(encoding="utf-8"))
    return found


def known(value: float | None) -> Any:
    """A number as the page has it, to six digits."""
    return None if value is None else pytest.approx(value, rel=1e-5)


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers of data are."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from numbers(one, (*path, name))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from numbers(one, (*path, place))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def test_no_section_is_forgotten(whole: ExperimentFolder, cases: ExperimentFolder) -> None:
    assert {path[0] for one in (whole, cases) for path in numbers(data_of(one))} == set(LOOKED_AT)
    assert all(name in globals() for name in LOOKED_AT.values())


def test_counts(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    made = table(experiment, paths.EVALS_TABLE)
    assert page["done"] == len(made)
    assert page["trained"] == len(list(experiment.path.glob("*/finetune.json")))
    assert page["experiment"]["evaluations"] == len(made) + sum(one["kind"] == "evaluation" for one in page["problems"])
    assert page["experiment"]["trainings"] == sum(run["type"] == "fine-tuned" for run in page["runs"])
    assert page["format"] == 1


def test_scores(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    rows = evals(experiment)
    assert {(row["task"], row["run"], row["epoch"]) for row in page["scores"]} == {
        key for key, row in rows.items() if row["metric"]
    }
    for score in page["scores"]:
        row = rows[score["task"], score["run"], score["epoch"]]
        expected = [row["metric"], row[row["metric"]], row["ci_low"], row["ci_high"], row["n_scored"], row["ci_method"]]
        assert [score[name] for name in ("metric", "value", "low", "high", "n", "method")] == expected
        assert (score["unscored"] or 0) == row["n"] - row["n_scored"]


def test_comparisons(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    # Means over seeds come first on the page.
    rows = sorted(table(experiment, paths.COMPARISONS_TABLE), key=lambda row: not row["run"].endswith(" seeds)"))
    assert len(rows) == len(page["comparisons"]) > 20
    for row, shown in zip(rows, page["comparisons"], strict=True):
        # An empty text is an empty field.
        named = {name: value or None if isinstance(value, str) else value for name, value in shown.items()}
        clear = named.pop("clear")
        counts = {} if row["paired"] else dict.fromkeys(("n", "wins", "losses"))
        assert named == {name: {**row, **counts}[name] for name in named}
        assert clear == (row["p_corrected"] is not None and row["p_corrected"] < 0.05)


def test_means_over_seeds(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    rows = evals(experiment)
    for mean in page["seeds"]:
        values = [rows[mean["task"], run, mean["epoch"]][mean["metric"]] for run in mean["runs"].split(", ")]
        low, high = t.interval(0.95, len(values) - 1, fmean(values), stdev(values) / len(values) ** 0.5)
        assert mean["seeds"] == len(values) > 1
        assert [mean[name] for name in ("mean", "sd", "low", "high")] == pytest.approx(
            [fmean(values), stdev(values), low, high]
        )


def test_means_over_seeds_are_of_all_runs_that_differ_in_nothing_else(whole: ExperimentFolder) -> None:
    seeds = {(mean["task"], mean["name"], mean["epoch"]): mean["seeds"] for mean in data_of(whole)["seeds"]}
    # Of the last seed two evaluations are missing.
    less = {("rating", "lora_rank 16", 1): 2, ("rating", "lora_rank 16", 2): 2}
    names = [
        (task, f"lora_rank {rank}", epoch)
        for task in ("sentiment", "rating")
        for rank in (4, 16)
        for epoch in (0, 1, 2)
    ]
    assert seeds == {**dict.fromkeys(names, 3), **less}


def test_the_best_of_a_task(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    """The best is the best of evals.csv, or of the means over seeds; numbers in the answer are those of the tables."""
    for task in page["tasks"]:
        rows = [row for row in page["scores"] if row["task"] == task["task"] and row["value"] is not None]
        means = [row for row in page["seeds"] if row["task"] == task["task"]]
        best = min if task["better"] == "lower" else max
        if task["best_runs"] and means:
            found = best(means, key=lambda row: row["mean"])
            assert (task["best_runs"], task["best_epoch"]) == (found["runs"].split(", "), found["epoch"])
        elif task["best_runs"]:
            found = best((row for row in rows if row["run"] != "base"), key=lambda row: row["value"])
            assert (task["best_runs"], task["best_epoch"]) == ([found["run"]], found["epoch"])
        else:
            values = Counter(row["value"] for row in rows if row["run"] != "base")
            assert not task["better"] or not values or values[best(values)] > 1
        said = task["answer"].replace("\N{MINUS SIGN}", "-")
        assert set(re.findall(r"[-+]?\d+\.\d{3}", said)) <= _sayable(page, task["task"], rows, means)


def _sayable(page: dict[str, Any], task: str, rows: list[Row], means: list[Row]) -> set[str]:
    """Numbers that an answer may have: scores, intervals, spreads, and differences of any two of them."""
    values = [row["value"] for row in rows] + [row["mean"] for row in means]
    known = [*values, *(row[end] for row in rows for end in ("low", "high")), *(row["sd"] for row in means)]
    deltas = [row["delta"] for row in page["comparisons"] if row["task"] == task]
    deltas += [one - other for one in values for other in values]
    return {f"{value:.3f}" for value in known if value is not None} | {
        f"{one:+.3f}" for one in deltas if one is not None
    }


def test_runs(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    parameters = {run["name"]: run.get("parameters") for run in experiment.read()["runs"]}
    for run in page["runs"]:
        if run["type"] != "fine-tuned":
            assert (run["trained"], run["seconds"], run["losses"], run["attempts"]) == (False, None, {}, 0)
            continue
        made = record(experiment, paths.finetune_record(run["run"]))
        assert run["parameters"] == parameters[run["run"]]
        assert run["seconds"] == made["seconds"]
        assert set(run["losses"]) == set(made["losses"])
        assert list(run["losses"].values()) == [known(loss) for loss in made["losses"].values()]
        assert (run["attempts"], run["changes"]) == (1, {})


def test_parameters(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    same, controls = page["parameters"]["same"], experiment.read()["controls"]
    assert {name: same[name] for name in controls if name in same} == controls
    made = record(experiment, paths.finetune_record(page["runs"][0]["run"]))["config"]
    known = {name: value for _, name, value in _leaves(made)}
    others = {name: value for name, value in same.items() if isinstance(value, int | float) and name in known}
    assert len(others) > 3
    assert others == {name: known[name] for name in others}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, key)
    else:
        yield "", name, value


def test_losses(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    for curve in page["curves"]:
        rows = table(experiment, f"{curve['run']}/artifacts/metrics.csv")
        train = {row["step"]: row["loss"] for row in rows if row["loss"] is not None}
        validation = [[row["epoch"], row["step"], row["validation_loss"]] for row in rows if row["validation_loss"]]
        assert curve["validation"] == [[epoch, step, pytest.approx(loss)] for epoch, step, loss in validation]
        assert 40 < len(curve["train"]) <= 80
        assert curve["train"][-1][0] == max(train)
        assert [loss for _, loss in curve["train"]] == pytest.approx(
            [train[step] for step, _ in curve["train"]], rel=1e-5
        )


def test_samples(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    """Scores of samples are those in the logs, reduced over the epochs of a sample."""
    metrics = {row["task"]: row["metric"] for row in page["tasks"]}
    read: dict[str, dict[str, float]] = {}
    assert page["samples"]
    for sample in page["samples"]:
        for answer in sample["answers"]:
            subject = answer["of"]
            if subject not in read:
                read[subject] = _scores_in_log(experiment, subject, (metrics[sample["task"]] or "").rpartition("/")[0])
            assert answer["score"] == pytest.approx(read[subject].get(sample["id"]))


def _scores_in_log(experiment: ExperimentFolder, subject: str, scorer: str) -> dict[str, float]:
    run, task, epoch = subject.split("/")
    scorer, _, key = scorer.partition("/")
    with zipfile.ZipFile(experiment.path / paths.eval_log(run, f"{task}_{epoch}")) as log:
        summaries = json.loads(log.read("summaries.json"))
    values: dict[str, list[float]] = {}
    for one in summaries:
        value = one["scores"].get(scorer, {}).get("value")
        number = {"C": 1.0, "I": 0.0}.get(value, value) if isinstance(value, str) else value[key] if key else value
        if number is not None and number == number:
            values.setdefault(str(one["id"]), []).append(number)
    return {name: fmean(found) for name, found in values.items()}


def test_jobs(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    """What a job used is what the entry in its action log says, field by field."""
    logs = "".join(path.read_text(encoding="utf-8") for path in sorted(experiment.path.glob("*.log")))
    entries = re.findall(r"COMPUTE_METRICS.*?(?=\n\[|\Z)", logs, re.DOTALL)
    by_job = {found[0]: entry for entry in entries if (found := re.findall(r"[Jj]ob(?: ID)?:? (\d+)", entry))}
    assert len(page["jobs"]) == len(by_job)
    for job in page["jobs"]:
        text = by_job[job["job_id"]]
        for expected in (
            f"wall time {_clock(job['seconds'])} of {_clock(job['limit_seconds'])}",
            f"CPU {job['cpu_percent']}% of {job['cpus']} core",
            f"memory {job['memory_gb']:.1f} of {job['requested_gb']:.1f} GB",
            f"mean {job['gpu_percent']}%",
            f"peak memory {job['gpu_memory_gb']:.1f} of {job['gpu_total_gb']:.1f} GB",
        ):
            assert expected in text
        assert job["gpu_hours"] == pytest.approx(job["gpus"] * job["seconds"] / 3600, rel=1e-5)


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def test_totals_of_jobs(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    found, jobs = page["compute"], page["jobs"]
    assert set(found["by_outcome"]) == {job["outcome"] for job in jobs}
    for outcome, total in found["by_outcome"].items():
        of = [job for job in jobs if job["outcome"] == outcome]
        hours = sum(job["seconds"] for job in of) / 3600
        gpu_hours = sum(job["gpus"] * job["seconds"] for job in of) / 3600
        assert total == {"jobs": len(of), "hours": pytest.approx(hours), "gpu_hours": pytest.approx(gpu_hours)}
        assert f"{gpu_hours:.1f} in {len(of)} jobs {outcome}" in found["sentence"]
    assert found["without_gpu_figures"] == 0
    for request in found["requests"]:
        done = [job for job in jobs if (job["kind"], job["state"]) == (request["kind"], "COMPLETED")]
        assert request["jobs"] == len(done)
        assert request["seconds"] == max(job["seconds"] for job in done) <= request["suggested_seconds"]
        assert request["memory_gb"] == max(job["memory_gb"] for job in done) <= request["suggested_gb"]
        assert request["limit_seconds"] == max(job["limit_seconds"] for job in done)
        assert request["requested_gb"] == max(job["requested_gb"] for job in done)


def test_the_short_page_has_the_same_numbers(experiment: ExperimentFolder, page: dict[str, Any]) -> None:
    """`0.920 [0.812, 0.968]` of summary.md, a cell for each score."""
    text = (experiment.path / paths.SUMMARY_PAGE).read_text(encoding="utf-8")
    shown = Counter(re.findall(r"\d\.\d{3} \[-?\d+\.\d{3}, -?\d+\.\d{3}\]", text))
    rows = [row for row in page["scores"] if row["low"] is not None]
    assert shown == Counter(f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in rows)
