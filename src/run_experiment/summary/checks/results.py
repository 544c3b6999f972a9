"""Keys that only the results depend on: what they compare with, what the best run is chosen on."""

from __future__ import annotations

from collections.abc import Iterator

from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.text import shortened
from run_experiment.common.yaml_lines import shown
from run_experiment.experiment.schema import VALIDATION_LOSS
from run_experiment.summary.draft import Draft, Finding

_REFERENCE, _SELECT_ON = ("evaluation", "reference"), ("evaluation", "select_on")


def check_results(draft: Draft) -> Iterator[Finding]:
    """Names that nothing has, and choices for which a result is missing."""
    yield from _reference(draft)
    yield from _select_on(draft)


def _reference(draft: Draft) -> Iterator[Finding]:
    reference = draft.evaluation.reference
    if reference is None or not draft.run_names:
        return
    if reference not in draft.run_names:
        message = f"there is no run {shown(reference)}{did_you_mean(reference, draft.run_names)}"
        yield Finding(_REFERENCE, message)
        return
    evaluated = {task for entry in draft.matrix.values() if entry.run == reference for task in entry.tasks}
    others = dict.fromkeys(task for entry in draft.matrix.values() for task in entry.tasks if task not in evaluated)
    if others:
        tasks = shortened(list(others))
        message = f"run {reference} is not evaluated on {tasks}: results there are compared with nothing"
        yield Finding(_REFERENCE, message, warning=True)


def _select_on(draft: Draft) -> Iterator[Finding]:
    chosen = draft.evaluation.select_on
    if chosen is None:
        return
    if chosen == VALIDATION_LOSS:
        trained = [run for run in draft.runs.values() if run.type == "fine-tuned"]
        if trained and not any(draft.merged(run).validation_during_training for run in trained):
            yield Finding(_SELECT_ON, f"{chosen} is only known with validation_during_training: true")
    elif draft.task_names and chosen not in draft.task_names:
        hint = did_you_mean(chosen, [*draft.task_names, VALIDATION_LOSS])
        yield Finding(_SELECT_ON, f"is neither a task nor {VALIDATION_LOSS}: {shown(chosen)}{hint}")
