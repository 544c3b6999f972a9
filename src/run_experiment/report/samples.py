"""Samples for the page, with the answers of several results to choose two from.

There are first those in which the best result and the next one differ, then wrong ones, then right ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from run_experiment.common import paths
from run_experiment.planning.results_state import Records
from run_experiment.report.values import cut, finite
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import Answer
from run_experiment.results.analysis.samples import SamplesError, summaries

# Samples shown of all tasks together, and of one at least.
_MOST, _LEAST = 300, 12
# Results of a task to choose two from, and characters of their answers.
_MOST_RESULTS, _ANSWER = 16, 400
# How many of a task's samples differ, are wrong, are right, as far as there are as many.
_SHARES = {"differs": 0.6, "wrong": 0.25, "right": 0.15}

Summary = Mapping[str, Any]


def shown_samples(logs: Logs, analysis: Analysis) -> list[dict[str, Any]]:
    """The samples of all tasks; texts are cut."""
    room = max(_LEAST, _MOST // max(1, len(analysis.answers)))
    return [sample for answer in analysis.answers for sample in _of_task(logs, analysis, answer, room)]


def compared(answer: Answer) -> list[str]:
    """The evaluations of a task that its answer speaks of: the best, the runner-up, the reference."""
    best = [score.subject for score in answer.best]
    others = [answer.runner_up.subject] if answer.runner_up else []
    others += [one.reference_subject for one in answer.against_base if one.reference_subject]
    return list(dict.fromkeys([*best[:1], *others, *best[1:]]))


class Logs:
    """Summaries of the samples in the logs of evaluations; each log is read once."""

    def __init__(self, records: Records) -> None:
        self._experiment = records.experiment
        self._read: dict[str, dict[Any, Summary]] = {}

    def of(self, subject: str) -> dict[Any, Summary]:
        """Summaries of an evaluation's samples by their ids, of the first epoch; empty if they cannot be read."""
        if subject not in self._read:
            evaluation = next(item for item in self._experiment.evaluations if item.subject == subject)
            log = self._experiment.folder / paths.eval_log(evaluation.run.name, evaluation.cell)
            try:
                self._read[subject] = {one["id"]: one for one in reversed(summaries(log))}
            except SamplesError:
                self._read[subject] = {}
        return self._read[subject]


def _of_task(logs: Logs, analysis: Analysis, answer: Answer, room: int) -> Iterator[dict[str, Any]]:
    subjects = [subject for subject in _choosable(answer, analysis) if subject in analysis.samples]
    scorer = (answer.metric or "").rpartition("/")[0]
    scores = {
        subject: {one.id: one.scores.get(scorer) for one in analysis.samples[subject].samples} for subject in subjects
    }
    if not subjects:
        return
    verdicts = _verdicts(answer, [score for of_one in scores.values() for score in of_one.values()])
    ordered = _worst_first(scores[subjects[0]], answer)
    kinds = {name: _kind([scores[subject].get(name) for subject in subjects[:2]], verdicts) for name in ordered}
    texts = {subject: logs.of(subject) for subject in subjects}
    for name in _chosen(kinds, room):
        first = texts[subjects[0]].get(name)
        if first:
            there = [subject for subject in subjects if name in scores[subject]]
            yield {
                "task": answer.task,
                "id": cut(str(name), 60),
                "input": cut(said(first.get("input"))),
                "target": cut(said(first.get("target"))),
                "answers": [
                    _answer(one, texts[one].get(name), scorer, scores[one].get(name), verdicts) for one in there
                ],
            }


def _choosable(answer: Answer, analysis: Analysis) -> list[str]:
    """Evaluations of a task whose answers can be compared: those of `compared`, then the best of each other run."""
    scores = [one for one in analysis.scores if one.task == answer.task and one.value is not None]
    sign = -1 if answer.better == "lower" else 1
    ordered = sorted(scores, key=lambda one: -sign * (one.value or 0.0))
    best_of_run = {one.run: one.subject for one in reversed(ordered)}
    others = sorted(best_of_run.values(), key=[one.subject for one in ordered].index)
    return list(dict.fromkeys([*compared(answer), *others]))[:_MOST_RESULTS]


def _verdicts(answer: Answer, scores: Iterable[float | None]) -> Mapping[float, str]:
    """What scores of a task are called: 1 is right and 0 is wrong if they go from 0 to 1 and higher is better."""
    is_share = answer.better == "higher" and all(score is None or 0 <= score <= 1 for score in scores)
    return {1.0: "right", 0.0: "wrong"} if is_share else {}


def _worst_first(scores: Mapping[Any, float | None], answer: Answer) -> list[Any]:
    """Ids of samples, the worst of the best result first, as far as scores are more than right and wrong."""
    sign = -1 if answer.better == "lower" else 1
    if answer.better is None or (answer.better == "higher" and set(scores.values()) <= {0.0, 1.0, None}):
        return list(scores)
    known = [name for name, score in scores.items() if score is not None]
    worst = sorted(known, key=lambda name: sign * (scores[name] or 0.0))
    return [*worst, *(name for name in scores if scores[name] is None)]


def _kind(scores: Sequence[float | None], verdicts: Mapping[float, str]) -> str:
    """What the two best results did with a sample."""
    if any(score is None for score in scores):
        return "not scored"
    if len(set(scores)) > 1:
        return "differs"
    return verdicts.get(scores[0] or 0.0, "same")


def _chosen(kinds: Mapping[Any, str], room: int) -> list[Any]:
    """Ids of the samples that are shown."""
    by_kind: dict[str, list[Any]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, []).append(name)
    order = [*_SHARES, *(kind for kind in by_kind if kind not in _SHARES)]
    first = [name for kind in order for name in by_kind.get(kind, [])[: round(room * _SHARES.get(kind, 0.1))]]
    rest = [name for kind in order for name in by_kind.get(kind, []) if name not in set(first)]
    chosen = set([*first, *rest][:room])
    return [name for kind in order for name in by_kind.get(kind, []) if name in chosen]


def _answer(
    subject: str, summary: Summary | None, scorer: str, score: float | None, verdicts: Mapping[float, str]
) -> dict[str, Any]:
    scores = (summary or {}).get("scores") or {}
    given = scores.get(scorer.partition("@")[0].partition("/")[0]) or {}
    error = (summary or {}).get("error")
    text = said(error or given.get("answer") or given.get("explanation"))
    verdict = "" if score is None else verdicts.get(score, "")
    return {"of": subject, "score": finite(score), "verdict": verdict, "answer": cut(text, _ANSWER)}


def said(value: Any) -> str:
    """The text of a prompt, a target or an answer: a string, several, or the messages of a chat."""
    if isinstance(value, list):
        return "\n".join(said(one) for one in value)
    if isinstance(value, Mapping):
        return said(value.get("content") or value.get("text"))
    return "" if value is None else str(value)
