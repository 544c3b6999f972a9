"""What the page says of evaluations: the answer by task, scores, comparisons, means over seeds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from run_experiment.common.text import shortened
from run_experiment.planning.results_state import Records
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import CLEAR, NOT_COMPARABLE, Answer
from run_experiment.results.analysis.answer_text import answer_text, name_of
from run_experiment.results.analysis.comparisons import Comparison
from run_experiment.results.analysis.scores import Score

# Corrected p-values below this are marked.
_CLEAR = 0.05


def evaluations(records: Records, analysis: Analysis) -> dict[str, Any]:
    """The parts of the page's data that are made from evaluations."""
    labels = {item.subject: item.label for item in records.experiment.evaluations if item.label != item.run.name}
    return {
        "tasks": [_task(answer) for answer in analysis.answers],
        "scores": [_score(score, labels.get(score.subject, "")) for score in analysis.scores if score.metric],
        "comparisons": [_comparison(one) for one in analysis.comparisons],
        "seeds": [{**asdict(one), "runs": ", ".join(one.runs)} for one in analysis.seed_means],
    }


def _task(answer: Answer) -> dict[str, Any]:
    best = answer.best[0] if len(answer.best) == 1 else None
    return {
        "task": answer.task,
        "metric": answer.metric,
        "better": answer.better,
        "best_run": best.run if best else None,
        "best_epoch": best.epoch if best else None,
        "answer": lead(answer),
        "caution": _caution(answer),
        "details": answer_text(answer),
    }


def lead(answer: Answer) -> str:
    """The answer in one or two sentences; what it rests on is in its details."""
    if not answer.best:
        return f"No best run can be named: {answer.why}."
    first, names = answer.best[0], [name_of(score) for score in answer.best]
    what = f"the {'lowest' if answer.better == 'lower' else 'highest'} {answer.metric}"
    if len(names) > 1:
        return f"{shortened(names, most=3)} share {what}: {_value(first)}."
    chosen = f", chosen on {answer.chosen_on.replace('_', ' ')}" if answer.chosen_on else ""
    begin = (
        f"{names[0]}{chosen}: {answer.metric} {_value(first)}."
        if chosen
        else f"{names[0]} has {what}: {_value(first)}."
    )
    against = [_against(answer, answer.against_base, answer.verdict_base, "")]
    if answer.runner_up:
        runner_up = f"the runner-up, {name_of(answer.runner_up)}"
        against.append(_against(answer, answer.against_runner_up, answer.verdict_runner_up, runner_up))
    return " ".join([begin, *filter(None, against)])


def _caution(answer: Answer) -> str:
    """How far the best score is too good, if it was chosen by the samples that it is of."""
    if answer.chosen_on or answer.cells < 2 or not answer.best:
        return ""
    begin = f"It was chosen among {answer.cells} results on the samples that are reported, so its score is optimistic"
    return f"{begin}." if answer.optimism is None else f"{begin}, by up to about {answer.optimism:.3f}."


def _value(score: Score) -> str:
    interval = (
        "" if score.low is None or score.high is None else f" (95 % interval {score.low:.3f} to {score.high:.3f})"
    )
    return f"{score.value:.3f}{interval}"


def _against(answer: Answer, comparison: Comparison | None, verdict: str, name: str) -> str:
    if comparison is None or comparison.delta is None:
        return ""
    name = name or comparison.reference
    if verdict == NOT_COMPARABLE:
        return f"It cannot be compared with {name}."
    if verdict != CLEAR:
        return f"Its difference to {name}, {comparison.delta:+.3f}, is within noise."
    better = (comparison.delta > 0) == (answer.better == "higher")
    return f"It is clearly {'better' if better else 'worse'} than {name} ({comparison.delta:+.3f})."


def _score(score: Score, label: str) -> dict[str, Any]:
    return {
        "task": score.task,
        "run": score.run,
        "epoch": score.epoch,
        "metric": score.metric,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n_scored,
        "unscored": (score.n or 0) - (score.n_scored or 0) or None,
        "method": score.method,
        "note": label,
    }


def _comparison(one: Comparison) -> dict[str, Any]:
    values = asdict(one)
    counts = ("n", "wins", "losses")
    return {
        **{name: values[name] for name in values if name not in ("subject", "reference_subject", "metric", "paired")},
        # Zeros of what was not paired say nothing.
        **({} if one.paired else dict.fromkeys(counts)),
        "clear": one.p_corrected is not None and one.p_corrected < _CLEAR,
    }
