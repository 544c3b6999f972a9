"""The answer of each task: which run is best, how it was chosen, and whether that can be told from noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from run_experiment.experiment.evaluation_section import VALIDATION_LOSS
from run_experiment.experiment.model import Experiment, Task
from run_experiment.results.analysis import statistics
from run_experiment.results.analysis.comparisons import Cells, Comparison, compare, reference_of
from run_experiment.results.analysis.headline import Headline
from run_experiment.results.analysis.replicates import SeedMean, SeedsAnswer, seeds_answer
from run_experiment.results.analysis.scores import Cell, Score, backends_of

VALIDATION = "validation"

CLEAR, WITHIN_NOISE, NOT_COMPARABLE = "clear", "within noise", "not comparable"
_VERDICTS = (NOT_COMPARABLE, WITHIN_NOISE, CLEAR)


@dataclass(frozen=True)
class Answer:
    """Which evaluation of a task is best: several if they tie, none if the metric's direction is not known (`why`).

    It was chosen on `chosen_on`: another task, `validation_loss`, or (empty) the split that is reported; then the best
    of `cells` equal ones would show about `optimism` too much. There is a comparison for each of several that tie, and
    the verdict is the weakest of them: `clear`, `within noise`, `not comparable`, or empty if there is none.
    """

    task: str
    metric: str | None
    better: str | None
    why: str = ""
    best: tuple[Score, ...] = ()
    chosen_on: str = ""
    cells: int = 0
    optimism: float | None = None
    against_base: tuple[Comparison, ...] = ()
    verdict_base: str = ""
    runner_up: Score | None = None
    against_runner_up: tuple[Comparison, ...] = ()
    verdict_runner_up: str = ""
    seeds: SeedsAnswer | None = None

    @property
    def is_level(self) -> bool:
        """Whether all results to choose among have the same score, so that none is best."""
        return not self.chosen_on and len(self.best) == self.cells > 1

    @property
    def is_selected(self) -> bool:
        """Whether the best was chosen by the scores that are reported; if all are equal, nothing was chosen."""
        return not self.chosen_on and 0 < len(self.best) < self.cells


@dataclass(frozen=True)
class _Choice:
    """Candidates, best first, with the number that orders them (higher is better), and what they were chosen on."""

    ordered: tuple[tuple[Cell, float], ...]
    chosen_on: str

    @property
    def winners(self) -> list[Cell]:
        top = self.ordered[0][1]
        return [cell for cell, value in self.ordered if math.isclose(value, top, rel_tol=1e-9, abs_tol=1e-12)]


class Answers:
    """Answers the tasks of an experiment from its cells and their comparisons."""

    def __init__(
        self,
        experiment: Experiment,
        cells: Cells,
        headlines: Mapping[str, Headline],
        comparisons: Sequence[Comparison],
        validation_losses: Mapping[tuple[str, int | None], float],
        means: Sequence[SeedMean] = (),
    ) -> None:
        self._experiment = experiment
        self._cells = cells
        self._headlines = headlines
        self._comparisons = {one.subject: one for one in comparisons}
        self._validation_losses = validation_losses
        self._means = means

    def answer(self, task: Task) -> Answer:
        """The answer of a task."""
        headline = self._headlines[task.name]
        empty = Answer(task.name, headline.metric, headline.better, headline.why)
        candidates = self._candidates(task, headline)
        if headline.better is None or not candidates:
            return replace(empty, why=headline.why or "no evaluation has a value")
        selector = self._experiment.select_on or self._validation_task(task)
        if several := self._several_backends({task.name, selector}, candidates):
            return replace(empty, why=several)
        choice = self._choice(task, candidates, selector)
        best = choice.winners
        found = replace(empty, best=tuple(cell.score for cell in best), chosen_on=choice.chosen_on)
        found = replace(found, cells=len(choice.ordered), **self._of_base(best), **self._of_runner_up(choice))
        found = replace(found, seeds=self._over_seeds(task, headline, candidates))
        return found if choice.chosen_on else replace(found, optimism=_optimism(candidates, headline))

    def _over_seeds(self, task: Task, headline: Headline, candidates: Sequence[Cell]) -> SeedsAnswer | None:
        means = [one for one in self._means if one.task == task.name]
        runs = {cell.score.run for cell in candidates}
        return seeds_answer(means, headline, list(self._comparisons.values()), runs)

    def _candidates(self, task: Task, headline: Headline) -> list[Cell]:
        """Evaluations to choose among: not those without training, unless there are no others."""
        found = [cell for (name, _, _), cell in self._cells.items() if name == task.name]
        found = [cell for cell in found if cell.score.value is not None]
        return [cell for cell in found if cell.evaluation.run.type != "control"] or found

    def _several_backends(self, tasks: Collection[str], candidates: Sequence[Cell]) -> str:
        """Why candidates cannot be told apart by their scores on tasks; empty unless several backends computed them."""
        for task in tasks:
            found = [self._cells.get((task, one.score.run, one.score.epoch)) for one in candidates]
            if len(names := backends_of(filter(None, found))) > 1:
                return f"results of {task} are of several backends ({', '.join(names)})"
        return ""

    def _choice(self, task: Task, candidates: Sequence[Cell], selector: str) -> _Choice:
        if selector == VALIDATION_LOSS:
            found = _ordered(candidates, self._negative_loss, VALIDATION_LOSS)
        elif selector and selector != task.name:
            found = _ordered(candidates, lambda cell: self._value_on(selector, cell), selector)
        else:
            found = None
        reported = _ordered(candidates, lambda cell: self._value_on(task.name, cell), "")
        assert reported
        return found or reported

    def _validation_task(self, task: Task) -> str:
        """The task that is this one on the split `validation`; empty if there is none."""
        for other in self._experiment.tasks:
            same = (other.script, other.data) == (task.script, task.data) and _same_function(other, task)
            if same and _split(other) == VALIDATION != _split(task) and _without_split(other) == _without_split(task):
                return other.name
        return ""

    def _value_on(self, task: str, cell: Cell) -> float | None:
        other, headline = self._cells.get((task, cell.score.run, cell.score.epoch)), self._headlines.get(task)
        if other is None or other.score.value is None or headline is None or headline.better is None:
            return None
        return headline.sign * other.score.value

    def _negative_loss(self, cell: Cell) -> float | None:
        loss = self._validation_losses.get((cell.score.run, cell.score.epoch))
        return None if loss is None else -loss

    def _of_base(self, best: Sequence[Cell]) -> dict[str, Any]:
        subjects = [cell.score.subject for cell in best if reference_of(self._experiment, cell.evaluation.run)]
        found = [self._comparisons[subject] for subject in subjects if subject in self._comparisons]
        return {"against_base": tuple(found), "verdict_base": weakest(found)}

    def _of_runner_up(self, choice: _Choice) -> dict[str, Any]:
        """The best of the other runs. Chosen on the reported split, it counts as one of as many comparisons."""
        best = choice.winners
        others = [cell for cell, _ in choice.ordered if cell.score.run not in {one.score.run for one in best}]
        if not others:
            return {}
        number = len(best) * (1 if choice.chosen_on else len({cell.score.run for cell in others}))
        found = [_times(compare(one, others[0]), number) for one in best]
        return {
            "runner_up": others[0].score,
            "against_runner_up": tuple(found),
            "verdict_runner_up": weakest(found),
        }


def _times(comparison: Comparison, number: int) -> Comparison:
    """A comparison that is one of several (Bonferroni)."""
    p = None if comparison.p is None else min(1.0, comparison.p * number)
    return replace(comparison, p_corrected=p)


def weakest(comparisons: Sequence[Comparison]) -> str:
    """The weakest verdict on comparisons; empty if there are none."""
    return min(map(verdict, comparisons), key=_VERDICTS.index, default="")


def verdict(comparison: Comparison) -> str:
    """What a comparison shows, by its corrected p-value."""
    if not comparison.paired or comparison.p_corrected is None:
        return NOT_COMPARABLE
    return CLEAR if comparison.p_corrected < statistics.ALPHA else WITHIN_NOISE


def _ordered(cells: Sequence[Cell], value: Callable[[Cell], float | None], chosen_on: str) -> _Choice | None:
    found = [(cell, number) for cell in cells if (number := value(cell)) is not None]
    return _Choice(tuple(sorted(found, key=lambda one: -one[1])), chosen_on) if found else None


def _same_function(one: Task, other: Task) -> bool:
    """Whether two tasks of one file call the same function, which the name of a task may choose."""
    return one.function == other.function or (one.function or one.name) == (other.function or other.name)


def _split(task: Task) -> object:
    return task.args.get("split")


def _without_split(task: Task) -> dict[str, object]:
    return {name: value for name, value in task.args.items() if name != "split"}


def _optimism(cells: Sequence[Cell], headline: Headline) -> float | None:
    """Optimism of the best of cells whose samples are the same; None if that is not known."""
    first = next((cell for cell in cells if cell.by_sample), None)
    if first is None:
        return None
    common = set(first.by_sample).intersection(*(cell.by_sample for cell in cells))
    names = [name for name in first.by_sample if name in common]
    if not names or any(cell.targets[name] != first.targets[name] for cell in cells for name in names):
        return None
    scores = np.array([[cell.by_sample[name] for name in names] for cell in cells])
    return statistics.optimism(headline.sign * scores)
