"""Checks of what the numbers rest on: losses, samples without a score, saturation, classes, answers that were cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from run_experiment.planning.results_state import Records
from run_experiment.report.samples import Logs, compared
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import Answer
from run_experiment.results.analysis.samples import LogSamples
from run_experiment.results.analysis.scores import Score

_SATURATED = 0.95
# Targets are classes if there are few of them, each of several samples.
_MOST_CLASSES, _LEAST_OF_CLASS = 10, 5

Row = dict[str, str]


def checks(records: Records, logs: Logs, analysis: Analysis, curves: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for each check, those with a finding first."""
    rows = [*_losses(curves), *_checkpoints(records)]
    for answer in analysis.answers:
        scores = [score for score in analysis.scores if score.task == answer.task]
        rows += [*_scored(answer.task, scores), *_saturation(answer, scores)]
        rows += [*_classes(answer, analysis), *_cut(records, logs, answer)]
    return sorted(rows, key=lambda row: row["verdict"] == "as it should be")


def _row(subject: str, check: str, found: str, verdict: str = "as it should be") -> Row:
    return {"subject": subject, "check": check, "found": found, "verdict": verdict}


def _losses(curves: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    fell = 0
    for curve in curves:
        train = [loss for _, loss in curve["train"]]
        validation = [loss for *_, loss in curve["validation"]]
        if None in train or None in validation:
            yield _row(curve["run"], "loss", "not a finite number", "diverged")
        elif len(train) > 1 and fmean(train[-5:]) >= train[0]:
            yield _row(curve["run"], "train loss", f"{train[0]:.4g} to {train[-1]:.4g}", "did not fall")
        else:
            fell += 1
        finite = [loss for loss in validation if loss is not None]
        if len(finite) > 1 and finite[-1] > min(finite):
            best = finite.index(min(finite))
            found = f"lowest after epoch {best} ({min(finite):.4g}), {finite[-1]:.4g} at the end"
            yield _row(curve["run"], "validation loss", found, "rises: later epochs may overfit")
    if fell:
        yield _row("trainings", "train loss", f"fell in {fell} of {len(curves)}")


def _checkpoints(records: Records) -> Iterator[Row]:
    experiment, snapshot = records.experiment, records.plan.snapshot
    of = [(run.name, epoch) for run in experiment.runs for epoch in run.verified]
    verified = sum(snapshot.manifest(*one) is not None for one in of)
    if verified:
        found = f"{verified} of {len(of)} verified: every tensor of the right shape, finite, not all zero"
        yield _row(
            "checkpoints", "tensors", found, *([] if verified == len(of) else ["the others are not verified yet"])
        )


def _scored(task: str, scores: Sequence[Score]) -> Iterator[Row]:
    lacking = [score for score in scores if (score.n_scored or 0) < (score.n or 0)]
    if lacking:
        most = max(lacking, key=lambda score: (score.n or 0) - (score.n_scored or 0))
        worst = f"most in {most.subject}: {(most.n or 0) - (most.n_scored or 0)} of {most.n}"
        yield _row(
            task,
            "samples without a score",
            f"in {len(lacking)} of {len(scores)} results; {worst}",
            "left out of scores",
        )
    elif scores:
        yield _row(task, "samples without a score", "none")


def _saturation(answer: Answer, scores: Sequence[Score]) -> Iterator[Row]:
    values = [score.value for score in scores if score.value is not None]
    if answer.better != "higher" or not values or max(values) > 1 or min(values) < 0:
        return
    high = sum(value >= _SATURATED for value in values)
    verdict = "saturated: differences near the top are hard to see" if high > len(values) / 2 else "as it should be"
    yield _row(answer.task, "saturation", f"{high} of {len(values)} results are {_SATURATED} or more", verdict)


def _classes(answer: Answer, analysis: Analysis) -> Iterator[Row]:
    """Balance of the targets if they are classes, with balanced accuracy of the best result."""
    read = analysis.samples.get(answer.best[0].subject) if answer.best else None
    counts = Counter(sample.target for sample in read.samples) if read else Counter[str]()
    if not read or not 1 < len(counts) <= _MOST_CLASSES or min(counts.values()) < _LEAST_OF_CLASS:
        return
    share = max(counts.values()) / counts.total()
    balanced = balanced_accuracy(read, (answer.metric or "").rpartition("/")[0])
    value, found = answer.best[0].value, f"{len(counts)} targets, the most frequent {share:.0%}"
    if balanced is not None:
        found += f"; balanced accuracy of the best {balanced:.3f}"
    worse = value is not None and answer.better == "higher" and value <= share
    yield _row(
        answer.task, "class balance", found, "no better than always the same answer" if worse else "as it should be"
    )


def balanced_accuracy(read: LogSamples, scorer: str) -> float | None:
    """Mean over the targets of the share of right samples; None if scores are not 0 or 1."""
    by_target: dict[str, list[float]] = {}
    for sample in read.samples:
        score = sample.scores.get(scorer)
        if score is not None:
            by_target.setdefault(sample.target, []).append(score)
    if not by_target or any(score not in (0.0, 1.0) for scores in by_target.values() for score in scores):
        return None
    return fmean(fmean(scores) for scores in by_target.values())


def _cut(records: Records, logs: Logs, answer: Answer) -> Iterator[Row]:
    """Answers that used up `max_tokens`, among the results whose samples are shown."""
    made = records.evaluations()
    for subject in compared(answer):
        most = (made[subject].config.get("generation") or {}).get("max_tokens") if subject in made else None
        summaries = logs.of(subject) if most else {}
        cut = sum(
            any(usage.get("output_tokens", 0) >= most for usage in (one.get("model_usage") or {}).values())
            for one in summaries.values()
        )
        if cut:
            found = f"{cut} of {len(summaries)} answers have max_tokens ({most}) or more"
            yield _row(subject, "answers cut", found, "may be cut off")
