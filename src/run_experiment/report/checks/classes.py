"""Checks of tasks whose targets are a few classes: their balance, what answers are, F1 and balanced accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from run_experiment.report.values import FINE, check_row
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import Answer
from run_experiment.results.analysis.samples import LogSamples
from run_experiment.results.analysis.scores import Score

# Targets are classes if there are few of them, each of several samples.
_MOST_CLASSES, _LEAST_OF_CLASS = 10, 5
# Share of answers that are one of the targets below which the format of answers deserves a look.
_PARSED = 0.9


@dataclass(frozen=True)
class ClassFigures:
    """Figures of a result whose targets are classes, each from 0 to 1.

    `parsed` is the share of answers that name a class; recall and F1 are means over the classes (macro), an answer that
    names none being wrong. They are None if scores are not 0 or 1, `parsed` and `f1` if answers are not known.
    """

    classes: int
    most: str
    share: float
    balanced_accuracy: float | None
    f1: float | None
    parsed: float | None


def class_checks(answer: Answer, analysis: Analysis) -> Iterator[dict[str, str]]:
    """Rows on the best result of a task, and on its reference."""
    scorer = (answer.metric or "").rpartition("/")[0]
    subjects = [score.subject for score in answer.best[:1]] + [one.reference_subject for one in answer.against_base[:1]]
    scores = {score.subject: score for score in analysis.scores}
    for place, subject in enumerate(subjects):
        read = analysis.samples.get(subject)
        found = class_figures(read, scorer) if read else None
        if found and subject in scores:
            if place == 0:
                yield _balance(answer, scores[subject], found)
            yield from _formats(subject, found)
            yield from _quality(subject, found)


def _balance(answer: Answer, score: Score, found: ClassFigures) -> dict[str, str]:
    text = f"{found.classes} targets, the most frequent ({found.most}) {found.share:.0%} of the samples"
    no_better = answer.better == "higher" and score.value is not None and score.value <= found.share
    return check_row(
        answer.task, "class balance", text, "no better than always giving the same answer" if no_better else FINE
    )


def _formats(subject: str, found: ClassFigures) -> Iterator[dict[str, str]]:
    if found.parsed is not None:
        few = found.parsed < _PARSED
        verdict = "answers that name no target count as wrong: look at their format" if few else FINE
        yield check_row(subject, "parse rate", f"{found.parsed:.0%} of the answers are one of the targets", verdict)


def _quality(subject: str, found: ClassFigures) -> Iterator[dict[str, str]]:
    if found.balanced_accuracy is not None:
        f1 = "" if found.f1 is None else f"; F1 {found.f1:.3f}"
        yield check_row(subject, "balanced accuracy", f"{found.balanced_accuracy:.3f}{f1}, means over the targets")


def class_figures(read: LogSamples, scorer: str) -> ClassFigures | None:
    """The figures of a log's samples; None if their targets are no classes."""
    counts = Counter(sample.label for sample in read.samples)
    if "" in counts or not 1 < len(counts) <= _MOST_CLASSES or min(counts.values()) < _LEAST_OF_CLASS:
        return None
    most, number = counts.most_common(1)[0]
    pairs = _pairs(read, scorer, set(counts))
    known = bool(pairs) and any(scorer.partition("@")[0] in sample.answers for sample in read.samples)
    return ClassFigures(
        classes=len(counts),
        most=most,
        share=number / counts.total(),
        balanced_accuracy=_balanced(pairs),
        f1=_f1(pairs) if known else None,
        parsed=fmean(bool(predicted) for _, predicted in pairs) if known else None,
    )


def _pairs(read: LogSamples, scorer: str, classes: set[str]) -> list[tuple[str, str]]:
    """Target and predicted class of each scored sample; empty if scores are not 0 or 1.

    A scorer may find the target within a long answer, so what is right is of the class of its target.
    """
    pairs = []
    for sample in read.samples:
        score = sample.scores.get(scorer)
        if score is None:
            continue
        if score not in (0.0, 1.0):
            return []
        answer = sample.answers.get(scorer.partition("@")[0], "")
        wrong = answer if answer in classes and answer != sample.label else ""
        pairs.append((sample.label, sample.label if score else wrong))
    return pairs


def _balanced(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Mean over the targets of the share of right samples."""
    recalls = [fmean(predicted == target for target, predicted in pairs if target == one) for one in dict(pairs)]
    return fmean(recalls) if recalls else None


def _f1(pairs: Sequence[tuple[str, str]]) -> float:
    """Macro F1: mean over the targets of 2 · right / (samples of the target + answers that name it)."""
    right = Counter(target for target, predicted in pairs if target == predicted)
    targets, predictions = (Counter(column) for column in zip(*pairs, strict=True))
    return fmean(2 * right[one] / (targets[one] + predictions[one]) for one in targets)
