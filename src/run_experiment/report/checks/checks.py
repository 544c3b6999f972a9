"""Checks of what the numbers rest on: losses, samples without a score, saturation, classes, cut answers, limits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from run_experiment.planning.results_state import Records
from run_experiment.report.checks.classes import class_checks
from run_experiment.report.checks.losses import loss_checks
from run_experiment.report.samples import Logs, Summary, compared
from run_experiment.report.values import FINE, check_row
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import Answer
from run_experiment.results.analysis.samples import LogSamples
from run_experiment.results.analysis.scores import Score

# Scores from which on a task is saturated, up to which nothing of it is solved.
_SATURATED, _UNSOLVED = 0.95, 0.05
# Rows of the same check and verdict.
_MOST_OF_A_KIND = 4

Row = dict[str, str]


def checks(records: Records, logs: Logs, analysis: Analysis, curves: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row for each check, those with a finding first."""
    rows = [*loss_checks(curves), *_checkpoints(records)]
    samples = analysis.samples
    for answer in analysis.answers:
        scores = [score for score in analysis.scores if score.task == answer.task]
        rows += [*_scored(answer.task, scores), *_saturation(answer, scores)]
        rows += [*class_checks(answer, analysis), *_cut(records, logs, answer)]
        read = {score.subject: samples[score.subject] for score in scores if score.subject in samples}
        rows += [*_limited(answer.task, read), *_texts(answer, read)]
    return sorted(_shortened(rows), key=lambda row: row["verdict"] == FINE)


def _shortened(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows, but of many with the same check and verdict only the first ones and how many there are more."""
    kinds = Counter((row["check"], row["verdict"]) for row in rows)
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        kind = row["check"], row["verdict"]
        seen[kind] += 1
        if kinds[kind] <= _MOST_OF_A_KIND or seen[kind] < _MOST_OF_A_KIND:
            yield row
        elif seen[kind] == _MOST_OF_A_KIND:
            yield check_row(f"{kinds[kind] - _MOST_OF_A_KIND + 1} more", row["check"], "the same", row["verdict"])


def _checkpoints(records: Records) -> Iterator[Row]:
    experiment, snapshot = records.experiment, records.plan.snapshot
    of = [(run.name, epoch) for run in experiment.runs for epoch in run.verified]
    found = {one: manifest for one in of if (manifest := snapshot.manifest(*one)) is not None}
    if not found:
        return
    text = f"{len(found)} of {len(of)} verified: tensors of the right shape, finite, changed since the start"
    yield check_row(
        "checkpoints", "tensors", text, *([] if len(found) == len(of) else ["the others are not verified yet"])
    )
    yield from _unchanged({one: manifest.hashes for one, manifest in found.items()})


def _unchanged(hashes: Mapping[tuple[str, int | None], Mapping[str, Any]]) -> Iterator[Row]:
    """Checkpoints that are the same as the one before: nothing was learned in between."""
    for (run, epoch), files in hashes.items():
        if epoch and files == hashes.get((run, epoch - 1)):
            found = f"the checkpoint of epoch {epoch} is that of epoch {epoch - 1}"
            yield check_row(run, "weights", found, "nothing was learned in that epoch")


def _scored(task: str, scores: Sequence[Score]) -> Iterator[Row]:
    lacking = [score for score in scores if (score.n_scored or 0) < (score.n or 0)]
    if lacking:
        most = max(lacking, key=lambda score: (score.n or 0) - (score.n_scored or 0))
        worst = f"most in {most.subject}: {(most.n or 0) - (most.n_scored or 0)} of {most.n}"
        yield check_row(
            task,
            "samples without a score",
            f"in {len(lacking)} of {len(scores)} results; {worst}",
            "left out of scores: look at their errors",
        )
    elif scores:
        yield check_row(task, "samples without a score", "none")


def _saturation(answer: Answer, scores: Sequence[Score]) -> Iterator[Row]:
    values = [score.value for score in scores if score.value is not None]
    if answer.better != "higher" or not values or max(values) > 1 or min(values) < 0:
        return
    high = sum(value >= _SATURATED for value in values)
    if max(values) <= _UNSOLVED:
        found = f"no result is above {max(values):.3f}"
        yield check_row(answer.task, "saturation", found, "hardly anything is solved: look at the format of answers")
        return
    verdict = "saturated: differences near the top are hard to see" if high > len(values) / 2 else FINE
    yield check_row(answer.task, "saturation", f"{high} of {len(values)} results are {_SATURATED} or more", verdict)


def _cut(records: Records, logs: Logs, answer: Answer) -> Iterator[Row]:
    """Answers that used up `max_tokens`, among the results whose samples are shown."""
    made = records.evaluations()
    for subject in compared(answer):
        generation = made[subject].config.get("generation") if subject in made else None
        most = int((generation or {}).get("max_tokens") or 0)
        summaries = logs.of(subject) if most else {}
        cut = sum(_is_cut(one, most) for one in summaries.values())
        if cut:
            found = f"{cut} of {len(summaries)} ({cut / len(summaries):.0%}) used up max_tokens ({most})"
            yield check_row(
                subject, "answers cut", found, "may be cut off: raise max_tokens or ask for shorter answers"
            )


def _limited(task: str, logs: Mapping[str, LogSamples]) -> Iterator[Row]:
    """Samples that a limit of their task ended, in the logs of its results by subject."""
    found = {subject: kinds for subject, read in logs.items() if (kinds := read.limited)}
    if found:
        most = max(found, key=lambda subject: found[subject].total())
        limits = ", ".join(sorted(found[most]))
        worst = f"most in {most}: {found[most].total()} of {len(logs[most].samples)} samples ({limits})"
        verdict = "scored as far as they came: raise the limit in the task, or ask for less"
        yield check_row(task, "ended by a limit", f"in {len(found)} of {len(logs)} results; {worst}", verdict)


def _texts(answer: Answer, logs: Mapping[str, LogSamples]) -> Iterator[Row]:
    """Texts among the numbers of a score, in the logs of a task's results by subject."""
    # Reducers have names of their own in metrics, such as `judge@mode/tone/mean`.
    name = re.sub("@[^/]*", "", (answer.metric or "").rpartition("/")[0])
    counts = {subject: read.texts(name) for subject, read in logs.items()}
    # Of texts alone there is no mean.
    found = {subject: count for subject, count in counts.items() if 0 < count < len(logs[subject].samples)}
    if found:
        most = max(found, key=lambda subject: found[subject])
        worst = f"most in {most}: {found[most]} of {len(logs[most].samples)} samples"
        verdict = "count as 0: have the scorer give numbers, or C, P, I and N"
        yield check_row(answer.task, "texts as scores", f"in {len(found)} of {len(logs)} results; {worst}", verdict)


def _is_cut(summary: Summary, most: int) -> bool:
    """Whether all answers of a sample used up `most` tokens; those of models in other roles, such as graders, aside."""
    models, roles = (_output_tokens(summary.get(name)) for name in ("model_usage", "role_usage"))
    return models - roles >= most * max(1, summary.get("turn_count") or 1)


def _output_tokens(usage: Any) -> int:
    return sum(one.get("output_tokens") or 0 for one in (usage or {}).values())
