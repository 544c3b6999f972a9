"""Checks of what the numbers rest on: losses, samples without a score, saturation, classes, answers that were cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from run_experiment.planning.results_state import Records
from run_experiment.report.class_checks import FINE, class_checks
from run_experiment.report.samples import Logs, compared
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import Answer
from run_experiment.results.analysis.scores import Score

_SATURATED = 0.95

Row = dict[str, str]


def checks(records: Records, logs: Logs, analysis: Analysis, curves: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for each check, those with a finding first."""
    rows = [*_losses(curves), *_checkpoints(records)]
    for answer in analysis.answers:
        scores = [score for score in analysis.scores if score.task == answer.task]
        rows += [*_scored(answer.task, scores), *_saturation(answer, scores)]
        rows += [*class_checks(answer, analysis), *_cut(records, logs, answer)]
    return sorted(rows, key=lambda row: row["verdict"] == FINE)


def _row(subject: str, check: str, found: str, verdict: str = FINE) -> Row:
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
    found = {one: manifest for one in of if (manifest := snapshot.manifest(*one)) is not None}
    if not found:
        return
    text = f"{len(found)} of {len(of)} verified: tensors of the right shape, finite, changed since the start"
    yield _row("checkpoints", "tensors", text, *([] if len(found) == len(of) else ["the others are not verified yet"]))
    yield from _unchanged({one: manifest.hashes for one, manifest in found.items()})


def _unchanged(hashes: Mapping[tuple[str, int | None], Mapping[str, Any]]) -> Iterator[Row]:
    """Checkpoints that are the same as the one before: nothing was learned in between."""
    for (run, epoch), files in hashes.items():
        if epoch and files == hashes.get((run, epoch - 1)):
            found = f"the checkpoint of epoch {epoch} is that of epoch {epoch - 1}"
            yield _row(run, "weights", found, "nothing was learned in that epoch")


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
    verdict = "saturated: differences near the top are hard to see" if high > len(values) / 2 else FINE
    yield _row(answer.task, "saturation", f"{high} of {len(values)} results are {_SATURATED} or more", verdict)


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
