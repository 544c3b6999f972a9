"""All that is computed from an experiment's results: scores, comparisons, answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

from run_experiment.common import paths
from run_experiment.experiment.evaluation_section import VALIDATION_LOSS
from run_experiment.experiment.model import Evaluation
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.planning.results_state import Records
from run_experiment.results.analysis.answer import Answer, Answers
from run_experiment.results.analysis.comparisons import Cells, Comparison, comparisons, corrected
from run_experiment.results.analysis.headline import Headline, headline
from run_experiment.results.analysis.losses import losses_of, validation_by_epoch
from run_experiment.results.analysis.replicates import SeedMean, seed_comparisons, seed_means
from run_experiment.results.analysis.samples import CACHE, LogSamples, SamplesError, read_samples
from run_experiment.results.analysis.scores import Cell, Score, backends_of, cell, is_binary


@dataclass(frozen=True)
class Analysis:
    """What the results show. `cells` are by task, run and epoch, in the summary's order; `unreadable` has the logs
    whose samples could not be read, by the evaluation's subject, with the reason.
    """

    headlines: Mapping[str, Headline]
    cells: Cells
    comparisons: tuple[Comparison, ...]
    answers: tuple[Answer, ...]
    seed_means: tuple[SeedMean, ...]
    unreadable: Mapping[str, str]

    @property
    def scores(self) -> tuple[Score, ...]:
        """The score of every evaluation."""
        return tuple(one.score for one in self.cells.values())

    @property
    def samples(self) -> dict[str, LogSamples]:
        """Samples of every evaluation whose log could be read, by its subject."""
        return {one.score.subject: one.samples for one in self.cells.values() if one.samples}

    @property
    def comparison_columns(self) -> list[str]:
        """Fields of a comparison."""
        return [field.name for field in fields(Comparison)]

    def several_backends(self) -> list[str]:
        """What to know of each task whose results are of several backends."""
        by_task = {task: backends_of(self.of_task(task)) for task in self.headlines}
        return [
            f"Results of {task} are of several backends ({', '.join(names)}) and are not compared with each other"
            for task, names in by_task.items()
            if len(names) > 1
        ]

    def of_task(self, task: str) -> list[Cell]:
        """Cells of a task."""
        return [one for (name, _, _), one in self.cells.items() if name == task]


@lru_cache(maxsize=1)
def analyse(records: Records) -> Analysis:
    """Analyse the results of an experiment; a log that cannot be read costs its own samples only. Cached."""
    experiment, made = records.experiment, records.evaluations()
    found = [(item, made[item.subject]) for item in experiment.evaluations if item.subject in made]
    headlines = {
        task.name: headline(task, [record.metrics for item, record in found if item.task.name == task.name])
        for task in experiment.tasks
    }
    samples, unreadable = _read_logs(records, [item for item, _ in found])
    read = [item for item, _ in found if item.subject in samples]
    binary = {
        task: is_binary(head.metric, (samples[one.subject] for one in read if one.task.name == task))
        for task, head in headlines.items()
    }
    cells = {
        (item.task.name, item.run.name, item.epoch): cell(
            item, record, headlines[item.task.name], samples.get(item.subject), binary[item.task.name]
        )
        for item, record in found
    }
    means = seed_means(list(cells.values()))
    compared = corrected([*comparisons(experiment, cells), *seed_comparisons(experiment, cells, means)])
    answers = Answers(experiment, cells, headlines, compared, _validation_losses(records), means)
    evaluated = {name for name, _, _ in cells}
    return Analysis(
        headlines=headlines,
        cells=cells,
        comparisons=tuple(compared),
        answers=tuple(answers.answer(task) for task in experiment.tasks if task.name in evaluated),
        seed_means=tuple(means),
        unreadable=unreadable,
    )


def _validation_losses(records: Records) -> dict[tuple[str, int | None], float]:
    """Validation losses by run and epoch, if the best is chosen by them."""
    found: dict[tuple[str, int | None], float] = {}
    if records.experiment.select_on != VALIDATION_LOSS:
        return found
    for name, record in records.trainings().items():
        run = records.experiment.run_by_name[name]
        losses = losses_of(records, run)
        by_epoch = validation_by_epoch(losses) if losses else {}
        # A trainer that leaves no losses by step says only the last one.
        final = record.losses.get(VALIDATION_LOSS)
        if not by_epoch and final is not None and run.epochs:
            by_epoch = {max(run.epochs): final}
        found |= {(name, epoch): loss for epoch, loss in by_epoch.items() if math.isfinite(loss)}
    return found


def _read_logs(records: Records, items: list[Evaluation]) -> tuple[dict[str, LogSamples], dict[str, str]]:
    folder = records.experiment.folder
    memory = HashMemory(folder / CACHE / "hashes.json")
    samples, unreadable = {}, {}
    for item in items:
        try:
            log = folder / paths.eval_log(item.run.name, item.cell)
            samples[item.subject] = read_samples(log, memory, folder / CACHE)
        except SamplesError as error:
            unreadable[item.subject] = str(error)
    memory.save()
    return samples, unreadable
