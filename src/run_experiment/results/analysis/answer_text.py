"""An answer in plain sentences, without any markup."""

from __future__ import annotations

from collections.abc import Sequence

from run_experiment.common.text import counted
from run_experiment.experiment.evaluation_section import VALIDATION_LOSS
from run_experiment.results.analysis.answer import Answer, verdict
from run_experiment.results.analysis.comparisons import Comparison
from run_experiment.results.analysis.replicates import SeedMean
from run_experiment.results.analysis.scores import Score


def answer_text(answer: Answer) -> str:
    """What may be said of a task's best run."""
    if not answer.best:
        return f"No best run is named: {answer.why}."
    parts = [_best(answer), _chosen(answer), _against_base(answer), _against_runner_up(answer), _over_seeds(answer)]
    return " ".join(part for part in parts if part)


def name_of(score: Score) -> str:
    """An evaluation in words: `r8 after epoch 1`."""
    return score.run if score.epoch is None else f"{score.run} after epoch {score.epoch}"


def interval_text(low: float | None, high: float | None, method: str, signed: bool = False) -> str:
    """`95 % interval 0.812 to 0.968, Wilson`, or why there is none."""
    if low is None or high is None:
        return f"no interval: {method.removeprefix('none: ') or 'not computed'}"
    sign = "+" if signed else ""
    return f"95 % interval {low:{sign}.3f} to {high:{sign}.3f}" + (f", {method}" if method else "")


def _best(answer: Answer) -> str:
    first, direction = answer.best[0], "Highest" if answer.better == "higher" else "Lowest"
    if answer.chosen_on:
        is_loss = answer.chosen_on == VALIDATION_LOSS
        selector = "the lowest validation loss" if is_loss else f"its score on {answer.chosen_on}"
        names = _listed([f"{name_of(one)} ({_value(one)})" for one in answer.best])
        return f"Chosen by {selector}: {names}."
    if answer.is_level:
        return f"All {answer.cells} results have the same {answer.metric}: {_value(first)}."
    names = _listed([name_of(one) for one in answer.best])
    tie = "a tie of " if len(answer.best) > 1 else ""
    return f"{direction} {answer.metric}: {tie}{names}, {_value(first)}."


def _value(score: Score) -> str:
    count = "" if score.n_scored is None else f"n = {score.n_scored}; "
    return f"{_number(score.value)} ({count}{interval_text(score.low, score.high, score.method)})"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _chosen(answer: Answer) -> str:
    if not answer.is_selected:
        return ""
    text = f"It was chosen among {answer.cells} evaluations on the split that is reported, so its score is optimistic"
    if answer.optimism is None:
        return f"{text}; by how much is not known."
    better = "+" if answer.better == "higher" else "-"
    return f"{text}: if all were equal, the best would still show about {better}{answer.optimism:.3f}."


def _against_base(answer: Answer) -> str:
    return _compared(answer, answer.against_base)


def _against_runner_up(answer: Answer) -> str:
    if answer.runner_up is None:
        return ""
    return _compared(answer, answer.against_runner_up, f"the runner-up, {name_of(answer.runner_up)}")


def _over_seeds(answer: Answer) -> str:
    if (seeds := answer.seeds) is None:
        return ""
    best = seeds.best
    spread = f"mean {best.mean:.3f}, standard deviation {best.sd:.3f}"
    parts = [f"Over seeds, {mean_name(best)} is best of {counted(seeds.cells, 'mean')}: {spread}."]
    if seeds.optimism is not None:
        sign = "+" if answer.better == "higher" else "-"
        parts.append(f"If all means were equal, the best would still show about {sign}{seeds.optimism:.3f}.")
    if seeds.against_base:
        parts.append(_seeds_compared(seeds.against_base.reference, seeds.against_base))
    if seeds.runner_up and seeds.against_runner_up:
        parts.append(
            _seeds_compared(f"{mean_name(seeds.runner_up)}, mean {seeds.runner_up.mean:.3f}", seeds.against_runner_up)
        )
    return " ".join(parts)


def mean_name(one: SeedMean) -> str:
    """A mean over seeds in words: `lora_rank 8 after epoch 1 (3 seeds)`."""
    return f"{one.name} after epoch {one.epoch} ({one.seeds} seeds)"


def _seeds_compared(other: str, comparison: Comparison) -> str:
    begin = f"Against {other}: {comparison.delta:+.3f}"
    if comparison.p_corrected is None:
        return f"{begin} ({comparison.why})."
    interval = interval_text(comparison.low, comparison.high, "", signed=True)
    test = f"{comparison.method}, corrected p = {comparison.p_corrected:.2g}"
    return f"{begin} ({interval}; {test}): {verdict(comparison)} between seeds."


def _compared(answer: Answer, comparisons: Sequence[Comparison], name: str = "") -> str:
    """What the best shows beside its reference, or what has a name; several that tie are named where they differ."""
    scores = {score.subject: score for score in answer.best}
    alike: dict[tuple[str, str], list[str]] = {}
    for one in comparisons:
        alike.setdefault((name or one.reference, _shown(one)), []).append(name_of(scores[one.subject]))
    return " ".join(
        f"{'Against' if len(alike) == 1 else f'{_listed(names)} against'} {other}:{shown}"
        for (other, shown), names in alike.items()
    )


def _shown(comparison: Comparison) -> str:
    found = verdict(comparison)
    delta = "" if comparison.delta is None else f" {comparison.delta:+.3f}"
    if not comparison.paired:
        return f"{delta}{',' if delta else ''} not compared, since {comparison.why}."
    interval = interval_text(comparison.low, comparison.high, "", signed=True)
    samples = f"better on {comparison.wins} and worse on {comparison.losses} of {counted(comparison.n, 'sample')}"
    test = f"{comparison.method}, corrected p = {comparison.p_corrected:.2g}"
    return f"{delta} ({interval}; {samples}; {test}): {found}.{_sight(comparison, found)}"


def _sight(comparison: Comparison, found: str) -> str:
    """What so few samples can show, if nothing was seen (exact McNemar only)."""
    if found != "within noise" or comparison.method != "exact McNemar":
        return ""
    differing = comparison.wins + comparison.losses
    verb = "differs" if differing == 1 else "differ"
    begin = f" With {counted(comparison.n, 'sample')} of which {differing} {verb}, "
    if comparison.smallest is None:
        return f"{begin}no difference can be seen."
    return f"{begin}differences below {comparison.smallest:.3f} cannot be seen."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
