"""What the page says of evaluations: the answer by task, scores, comparisons, means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from run_experiment.common.text import shortened
from run_experiment.planning.results_state import Records
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import CLEAR, NOT_COMPARABLE, Answer, verdict, weakest
from run_experiment.results.analysis.answer_text import answer_text, name_of
from run_experiment.results.analysis.comparisons import Comparison
from run_experiment.results.analysis.replicates import SeedMean
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
        "seeds": [_seed_mean(one) for one in analysis.seed_means],
    }


def _seed_mean(one: SeedMean) -> dict[str, Any]:
    values = {name: value for name, value in vars(one).items() if name not in ("parameters", "by_seed", "better")}
    return {**values, "name": one.name, "runs": ", ".join(one.runs)}


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
    """The answer in a few sentences; what it rests on is in its details."""
    if not answer.best:
        return f"No best run can be named: {answer.why}."
    against = [_against(answer, answer.against_base, "")]
    if answer.runner_up:
        against.append(_against(answer, answer.against_runner_up, f"the runner-up, {name_of(answer.runner_up)}"))
    return " ".join(filter(None, [_best(answer), *against, answer.seeds]))


def _best(answer: Answer) -> str:
    first, names = answer.best[0], [name_of(score) for score in answer.best]
    if answer.chosen_on:
        values = [f"{name_of(score)} {_value(score)}" for score in answer.best]
        tie = "a tie of " if len(names) > 1 else ""
        return f"Chosen on {answer.chosen_on.replace('_', ' ')}: {tie}{shortened(values, most=3)}, {answer.metric}."
    what = f"the {'lowest' if answer.better == 'lower' else 'highest'} {answer.metric}"
    if len(names) > 1:
        return f"{shortened(names, most=3)} share {what}: {_value(first)}."
    return f"{names[0]} has {what}: {_value(first)}."


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


def _against(answer: Answer, comparisons: Sequence[Comparison], name: str) -> str:
    """What the best, or all that tie, are beside another result; the weakest verdict counts."""
    first = next((one for one in comparisons if verdict(one) == weakest(comparisons)), None)
    if first is None or first.delta is None:
        return ""
    tie, name = len(answer.best) > 1, name or first.reference
    if weakest(comparisons) == NOT_COMPARABLE:
        return f"{'Not all' if tie else 'It'} can{'' if tie else 'not'} be compared with {name}."
    if weakest(comparisons) != CLEAR:
        subject = f"The difference of {first.run}" if tie else "Its difference"
        return f"{subject} to {name}, {first.delta:+.3f}, is within noise."
    better = (first.delta > 0) == (answer.better == "higher")
    begin = "All are" if tie else "It is"
    return f"{begin} clearly {'better' if better else 'worse'} than {name} ({first.delta:+.3f})."


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
