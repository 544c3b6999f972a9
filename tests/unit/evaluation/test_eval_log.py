"""What an evaluation came to, as its log says: what counts, and errors in words that may be recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    read_eval_log,
    write_eval_log,
)
from inspect_ai.scorer import Score
from inspect_ai.util import EarlyStop, EarlyStoppingSummary

from run_experiment.evaluation.errors import EvalError as Failed
from run_experiment.evaluation.eval_log import read_outcome, require_success


def sample(number: int, *, error: str = "", **values: Any) -> EvalSample:
    """A sample with these scores by scorer."""
    scores = {name: Score(value=value) for name, value in values.items()}
    failed = EvalError(message=error, traceback="", traceback_ansi="") if error else None
    return EvalSample(id=number, epoch=1, input="a", target="b", scores=scores, error=failed)


def score(scorer: str, name: str = "", **metrics: float) -> EvalScore:
    found = {metric: EvalMetric(name=metric, value=value) for metric, value in metrics.items()}
    return EvalScore(scorer=scorer, name=name or scorer, metrics=found)


def write_success(
    path: Path, samples: list[EvalSample], *scores: EvalScore, fail_on_error: bool | float = True
) -> Path:
    """A log of an evaluation that inspect-ai takes for a success."""
    spec = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        model="none/none",
        dataset=EvalDataset(samples=len(samples)),
        config=EvalConfig(fail_on_error=fail_on_error),
    )
    completed = sum(one.error is None for one in samples)
    results = EvalResults(total_samples=len(samples), completed_samples=completed, scores=list(scores))
    write_eval_log(EvalLog(status="success", eval=spec, results=results, samples=samples), str(path))
    return path


@pytest.mark.parametrize("fail_on_error", [False, 0.5, 2])
def test_errors_that_a_task_allows_are_no_failure(tmp_path: Path, fail_on_error: bool | float) -> None:
    samples = [sample(1, match="C"), sample(2, error="broken")]
    path = write_success(tmp_path / "one.eval", samples, score("match", accuracy=1), fail_on_error=fail_on_error)
    outcome = read_outcome(path)
    require_success(outcome)
    assert (outcome.completed_samples, outcome.total_samples, outcome.scored_samples) == (1, 2, {"match": 1})


def test_failed_samples_that_were_scored_count_as_in_the_metric(tmp_path: Path) -> None:
    """With `score_on_error`; the accuracy is that of three samples."""
    samples = [sample(1, match="C"), sample(2, match="I", error="broken"), sample(3, match="I", error="broken")]
    samples.append(sample(4, error="broken"))
    path = write_success(tmp_path / "one.eval", samples, score("match", accuracy=1 / 3), fail_on_error=False)
    outcome = read_outcome(path)
    require_success(outcome)
    assert (outcome.completed_samples, outcome.total_samples, outcome.scored_samples) == (1, 4, {"match": 3})


def test_errors_are_a_failure_if_the_task_allows_none_or_nothing_is_left(tmp_path: Path) -> None:
    broken = [sample(1, error="broken"), sample(2, error="broken")]
    with pytest.raises(Failed, match="completed only 0 of 2 samples: sample 1: broken"):
        require_success(read_outcome(write_success(tmp_path / "one.eval", broken, fail_on_error=False)))
    half = [sample(1, match="C"), broken[1]]
    with pytest.raises(Failed, match="completed only 1 of 2 samples: sample 2: broken"):
        require_success(read_outcome(write_success(tmp_path / "two.eval", half)))


@pytest.mark.parametrize(
    ("left_out", "said"), [(2, None), (1, "completed only 2 of 4 samples"), (4, "evaluation had no samples")]
)
def test_samples_that_a_task_stops_before_are_no_failure(tmp_path: Path, left_out: int, said: str | None) -> None:
    done = [sample(number, match="C") for number in range(1, 3 if left_out < 4 else 1)]
    path = write_success(tmp_path / "one.eval", done, score("match", accuracy=1))
    log = read_eval_log(str(path))
    assert log.results
    log.results.total_samples = 4
    stops = [EarlyStop(id=number, epoch=1, reason="enough") for number in range(left_out)]
    log.results.early_stopping = EarlyStoppingSummary(manager="m", early_stops=stops, metadata={})
    write_eval_log(log, str(path))
    outcome = read_outcome(path)
    assert (outcome.completed_samples, outcome.total_samples, outcome.left_out) == (len(done), 4, left_out)
    if said is None:
        require_success(outcome)
    else:
        with pytest.raises(Failed, match=said):
            require_success(outcome)


def test_samples_without_a_value_are_not_counted_as_scored(tmp_path: Path) -> None:
    nan = float("nan")
    samples = [
        sample(1, match="C", judge=nan, both={"length": 1, "share": nan}),
        sample(2, match="C", judge=0.5, both={"length": 2, "share": None}),
        sample(3, match="I", both=nan),
    ]
    scores = (score("match", accuracy=0.5), score("judge", mean=0.5), score("both", "length"), score("both", "share"))
    outcome = read_outcome(write_success(tmp_path / "one.eval", samples, *scores))
    assert outcome.scored_samples == {"match": 3, "judge": 1, "both/length": 2, "both/share": 0}


def test_a_score_that_is_no_number_has_no_mean(tmp_path: Path) -> None:
    """inspect-ai counts texts and lists as 0, and would show a mean of 0.000."""
    samples = [
        sample(1, label="cat", spans=["a"], said="yes", flag=True, grade={"tone": "kind", "length": 0}, none="C"),
        sample(2, label="dog", spans=[], said="maybe", flag=False, grade={"tone": "rude", "length": 0}, none="I"),
    ]
    scores = [score(name, mean=0, stderr=0) for name in ("label", "spans", "said", "flag")]
    scores += [score("grade", key, mean=0) for key in ("tone", "length")]
    scores += [score("none", accuracy=0), score("label", "own", accuracy=0.5, refusals=0)]
    outcome = read_outcome(write_success(tmp_path / "one.eval", samples, *scores))
    assert {name for name, value in outcome.metrics.items() if value is None} == {
        *("label/mean", "label/stderr", "spans/mean", "spans/stderr", "grade/tone/mean")
    }


def write(path: Path, *, error: str = "", traceback: str = "") -> Path:
    """A log of an evaluation that failed."""
    spec = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        model="none/none",
        dataset=EvalDataset(samples=3, sample_ids=[1, 2, 3]),
        config=EvalConfig(),
    )
    failed = EvalError(message=error, traceback=traceback, traceback_ansi="")
    write_eval_log(EvalLog(status="error", eval=spec, error=failed), str(path))
    return path


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("[bold]ERROR[/bold]: ([bold]pip install openai[/bold])", "ERROR: (pip install openai)"),
        ("[bold red]no[/] task['a'] in list[int]", "no task['a'] in list[int]"),
        ("the key canary-8471 is wrong", "the key *** is wrong"),
    ],
)
def test_an_error_is_told_without_markup_and_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, said: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-8471")
    path = write(tmp_path / "one.eval", error=error, traceback=f"Traceback\nPrerequisiteError: {error}")
    assert read_outcome(path).error == f"{said} (PrerequisiteError: {said})"
