"""Keys that only the results depend on: what varies, what they compare with, what the best run is chosen on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.text import shortened
from run_experiment.common.yaml_lines import shown
from run_experiment.experiment.evaluation_section import VALIDATION_LOSS
from run_experiment.experiment.schema import Parameters
from run_experiment.summary.draft import Draft, Finding

# What changes memory and time alone; seeds are told apart by the results.
_NO_CAUSE = {"device", "compile", "enable_activation_checkpointing", "enable_activation_offloading", "fsdp", "seed"}
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


def check_variables(draft: Draft, strict: bool) -> Iterator[Finding]:
    """What `variables` names that cannot vary, and what varies between runs without being in it.

    Unless `strict`, unknown parameters are warnings.
    """
    for name in draft.variables:
        if name in ("trainer", "data"):
            # Keys of runs, not of their parameters.
            continue
        if name not in Parameters.model_fields:
            hint = did_you_mean(name, Parameters.model_fields)
            yield Finding(("variables", name), f"is not a parameter of runs{hint}", warning=not strict)
        elif _changes_nothing(name):
            yield Finding(("variables", name), "varies, but changes nothing here", warning=True)
        else:
            yield from _unlisted_values(draft, name)
    if draft.variables:
        yield from _unlisted_parameters(draft)


def _changes_nothing(name: str) -> bool:
    return (Parameters.model_fields[name].description or "").startswith("Kept for")


def _unlisted_values(draft: Draft, name: str) -> Iterator[Finding]:
    """Runs with another value of a variable than those that it lists."""
    listed = draft.variables[name]
    if not isinstance(listed, list):
        return
    known = [_value(name, one) for one in listed]
    for path, run in draft.runs.items():
        value = getattr(run.parameters, name)
        if name in run.parameters.model_fields_set and value not in known:
            values = shortened([shown(one) for one in listed])
            message = f"is {shown(value)}, but variables.{name} lists {values or 'no value'}"
            yield Finding((*path, "parameters", name), message, warning=True)


def _value(name: str, value: Any) -> Any:
    """A listed value as runs have it; itself if no run could."""
    try:
        return getattr(Parameters.model_validate({name: value}), name)
    except ValidationError:
        return value


def _unlisted_parameters(draft: Draft) -> Iterator[Finding]:
    """Parameters in which trained runs differ, though only others are said to vary."""
    trained = {path: run for path, run in draft.runs.items() if run.type == "fine-tuned"}
    own = dict.fromkeys(name for run in trained.values() for name in run.parameters.model_fields_set)
    for name in own:
        if name in draft.variables or name in _NO_CAUSE or name == "checkpoint_path" or _changes_nothing(name):
            continue
        values = [getattr(draft.merged(run), name) for run in trained.values()]
        path = next(path for path, run in trained.items() if name in run.parameters.model_fields_set)
        if any(value != values[0] for value in values):
            message = "differs between runs, but is not in variables: their results may differ because of it"
            yield Finding((*path, "parameters", name), message, warning=True)
