"""What the page says of evaluations: the answer by task, scores, comparisons, means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from run_experiment.common.text import counted, shortened
from run_experiment.experiment.records import DEFAULT_BACKEND
from run_experiment.planning.results_state import Records
from run_experiment.report.values import signed
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.answer import CLEAR, NOT_COMPARABLE, Answer, verdict, weakest
from run_experiment.results.analysis.answer_text import answer_text, name_of
from run_experiment.results.analysis.comparisons import Comparison
from run_experiment.results.analysis.replicates import SeedMean, SeedsAnswer
from run_experiment.results.analysis.scores import Score

# Corrected p-values below this are marked.
_CLEAR = 0.05
# Fields of a mean over seeds that the page does not need.
_NOT_SHOWN = ("parameters", "by_seed", "better", "subjects")


def evaluations(records: Records, analysis: Analysis) -> dict[str, Any]:
    """The parts of the page's data that are made from evaluations."""
    notes = _score_notes(records, analysis)
    return {
        "tasks": [_task(answer) for answer in analysis.answers],
        "scores": [_score(score, notes.get(score.subject, "")) for score in analysis.scores if score.metric],
        "comparisons": [_comparison(one) for one in sorted(analysis.comparisons, key=_is_of_one_run)],
        "seeds": [_seed_mean(one) for one in analysis.seed_means],
    }


def _score_notes(records: Records, analysis: Analysis) -> dict[str, str]:
    """What to know of scores, by subject: the evaluation's label, and its backend if any has another than the usual."""
    backends = {one.score.subject: one.record.backend for one in analysis.cells.values()}
    shown = backends if set(backends.values()) - {DEFAULT_BACKEND} else {}
    notes = {}
    for item in records.experiment.evaluations:
        label = item.label if item.label != item.run.name else ""
        backend = f"backend {shown[item.subject]}" if item.subject in shown else ""
        notes[item.subject] = "; ".join(filter(None, [label, backend]))
    return notes


def _is_of_one_run(one: Comparison) -> bool:
    """False for a mean over seeds, which comes first: it says more than each of its runs."""
    return ", " not in one.subject


def _seed_mean(one: SeedMean) -> dict[str, Any]:
    values = {name: value for name, value in vars(one).items() if name not in _NOT_SHOWN}
    return {**values, "name": one.name, "runs": ", ".join(one.runs)}


def _task(answer: Answer) -> dict[str, Any]:
    seeds = answer.seeds if answer.seeds and answer.seeds.is_all else None
    single = answer.best[0] if len(answer.best) == 1 else None
    runs, epoch = ([single.run], single.epoch) if single else ([], None)
    if seeds:
        runs, epoch = list(seeds.best.runs), seeds.best.epoch
    return {
        "task": answer.task,
        "metric": answer.metric,
        "better": answer.better,
        "best_runs": runs,
        "best_epoch": epoch,
        "answer": lead(answer),
        "caution": _caution(answer),
        "details": answer_text(answer),
    }


def lead(answer: Answer) -> str:
    """The answer in a few sentences; what it rests on is in its details."""
    if not answer.best:
        return f"No best run can be named: {answer.why}."
    if answer.seeds and answer.seeds.is_all:
        return _over_seeds(answer, answer.seeds)
    against = [_against(answer, answer.against_base, "")]
    if answer.runner_up:
        against.append(_against(answer, answer.against_runner_up, f"the runner-up, {name_of(answer.runner_up)}"))
    over_seeds = _over_seeds(answer, answer.seeds) if answer.seeds else ""
    return " ".join(filter(None, [_best(answer), *against, over_seeds]))


def _over_seeds(answer: Answer, seeds: SeedsAnswer) -> str:
    """The best mean over seeds: beside the reference by the samples of each seed, beside others by seeds."""
    best, what = seeds.best, "lowest" if answer.better == "lower" else "highest"
    spread = f"{best.mean:.3f} (standard deviation {best.sd:.3f})"
    parts = [f"Over {best.seeds} seeds, {best.name} after epoch {best.epoch} has the {what} {best.metric}: {spread}."]
    clear = sum(verdict(one) == CLEAR and (one.delta or 0) * _sign(answer) > 0 for one in seeds.each)
    if seeds.each:
        parts.append(
            f"{clear} of {counted(len(seeds.each), 'seed')} are clearly better than {seeds.each[0].reference}."
        )
    if seeds.runner_up and (second := seeds.against_runner_up) and second.delta is not None:
        name = f"{seeds.runner_up.name} after epoch {seeds.runner_up.epoch}"
        is_clear = verdict(second) == CLEAR
        said = "is clear between seeds" if is_clear else "is within noise between seeds"
        parts.append(f"Its difference to {name}, {signed(second.delta)}, {said}.")
    return " ".join(parts)


def _sign(answer: Answer) -> int:
    return -1 if answer.better == "lower" else 1


def _best(answer: Answer) -> str:
    first, names = answer.best[0], [name_of(score) for score in answer.best]
    if answer.chosen_on:
        values = [f"{name_of(score)} {_value(score)}" for score in answer.best]
        tie = "a tie of " if len(names) > 1 else ""
        return f"Chosen on {answer.chosen_on.replace('_', ' ')}: {tie}{shortened(values, most=3)}, {answer.metric}."
    what = f"the {'lowest' if answer.better == 'lower' else 'highest'} {answer.metric}"
    if answer.is_level:
        return f"All {answer.cells} results have the same {answer.metric}: {_value(first)}."
    if len(names) > 1:
        return f"{shortened(names, most=3)} share {what}: {_value(first)}."
    return f"{names[0]} has {what}: {_value(first)}."


def _caution(answer: Answer) -> str:
    """How far the best score is too good, if it was chosen by the samples that it is of."""
    if answer.seeds and answer.seeds.is_all and answer.seeds.cells > 1:
        return _chosen_among(f"{answer.seeds.cells} means", "it", answer.seeds.optimism)
    if not answer.is_selected:
        return ""
    return _chosen_among(f"{answer.cells} results", "its score", answer.optimism)


def _chosen_among(count: str, what: str, optimism: float | None) -> str:
    size = "" if optimism is None else f", by up to about {optimism:.3f}"
    return f"It was chosen among {count} on the samples that are reported, so {what} is optimistic{size}."


def _value(score: Score) -> str:
    interval = (
        "" if score.low is None or score.high is None else f" (95 % interval {score.low:.3f} to {score.high:.3f})"
    )
    return f"{score.value:.3f}{interval}"


def _against(answer: Answer, comparisons: Sequence[Comparison], name: str) -> str:
    """What the best, or all that tie, are beside another result; the weakest verdict counts."""
    first = next((one for one in comparisons if verdict(one) == weakest(comparisons)), None)
    if first is None:
        return ""
    tie, name = len(answer.best) > 1, name or first.reference
    if first.delta is None or weakest(comparisons) == NOT_COMPARABLE:
        none = all(verdict(one) == NOT_COMPARABLE for one in comparisons)
        who = "It cannot" if not tie else "None can" if none else "Not all can"
        return f"{who} be compared with {name}."
    if weakest(comparisons) != CLEAR:
        same = len({one.delta for one in comparisons}) == 1
        subject = "Its difference" if not tie else "Their difference" if same else f"The difference of {first.run}"
        return f"{subject} to {name}, {signed(first.delta)}, is within noise."
    better = (first.delta > 0) == (answer.better == "higher")
    begin = "All are" if tie else "It is"
    return f"{begin} clearly {'better' if better else 'worse'} than {name} ({signed(first.delta)})."


def _score(score: Score, note: str) -> dict[str, Any]:
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
        "note": note,
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
