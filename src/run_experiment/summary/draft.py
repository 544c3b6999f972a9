"""The parts of a summary that can be checked further, so that a fault in one part hides none in another.

Of a valid file these are the parts of its summary. Of a file with faults each part is validated by itself, without its
faulty keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from run_experiment.common.errors import Problem
from run_experiment.common.yaml_lines import KeyPath, Source, dotted
from run_experiment.experiment.evaluation_section import EvaluationSettings, MatrixEntry, TaskEntry
from run_experiment.experiment.hyperparameters import MOST_EPOCHS
from run_experiment.experiment.schema import (
    BaseModelEntry,
    ControlsSection,
    ExperimentSummary,
    OutputSection,
    RunEntry,
    ToolsSection,
    TrainingData,
)
from run_experiment.experiment.section import Section

AnySection = TypeVar("AnySection", bound=Section)


@dataclass(frozen=True)
class Finding:
    """Something wrong, or odd, at a place of the file."""

    path: KeyPath
    message: str
    warning: bool = False


def errors_of(source: Source, findings: Iterable[Finding]) -> list[Problem]:
    """All that keeps a file from being used, with lines."""
    return _problems(source, (finding for finding in findings if not finding.warning))


def warnings_of(source: Source, findings: Iterable[Finding]) -> list[Problem]:
    """What is odd and keeps no file from being used, with lines."""
    return _problems(source, (finding for finding in findings if finding.warning))


def _problems(source: Source, findings: Iterable[Finding]) -> list[Problem]:
    """Findings with their lines, after what is wrong with the file as YAML: at one place that comes first."""
    places = {problem.path for problem in source.problems}
    found = {Problem(source.line(finding.path), dotted(finding.path), finding.message): None for finding in findings}
    return sorted([*source.problems, *(problem for problem in found if problem.path not in places)])


@dataclass(frozen=True)
class Draft:
    """Sections without their faulty keys; entries by their path in the file, without those that cannot be used.

    The `…_names` have every name written, those of unusable entries too. `unknown_epochs` are the fine-tuned runs
    whose number of epochs is faulty.
    """

    controls: ControlsSection
    output: OutputSection
    evaluation: EvaluationSettings
    tools: ToolsSection
    training: TrainingData | None
    has_training: bool
    variables: Mapping[str, Any]
    models: Mapping[KeyPath, BaseModelEntry]
    runs: Mapping[KeyPath, RunEntry]
    tasks: Mapping[KeyPath, TaskEntry]
    matrix: Mapping[KeyPath, MatrixEntry]
    model_names: tuple[str, ...]
    run_names: tuple[str, ...]
    task_names: tuple[str, ...]
    unknown_epochs: frozenset[str]

    def merged(self, run: RunEntry) -> ControlsSection:
        """What a run is trained and prompted with."""
        return run.parameters.over(self.controls)

    def trainer(self, run: RunEntry) -> str:
        """What trains a run."""
        return run.trainer or self.tools.preparation

    @staticmethod
    def place_of(path: KeyPath, run: RunEntry, key: str) -> KeyPath:
        """The key that gives a run a parameter: its own, or that of all runs."""
        return (*path, "parameters", key) if key in run.parameters.model_fields_set else ("controls", key)


def draft_of(source: Source, summary: ExperimentSummary | None) -> Draft:
    """What can be used of a file: of its summary, or of its values if they make no valid summary."""
    data, parts = source.data, _Parts(source.data, summary)
    models, runs, tasks = ("models", "base"), ("runs",), ("evaluation", "tasks")
    return Draft(
        controls=parts.section(ControlsSection, ("controls",)) or ControlsSection(),
        output=parts.section(OutputSection, ("output",)) or OutputSection(),
        tools=parts.section(ToolsSection, ("tools",)) or ToolsSection(),
        evaluation=parts.section(EvaluationSettings, ("evaluation",)) or EvaluationSettings(),
        training=parts.section(TrainingData, ("data", "training")),
        has_training=_at(data, ("data", "training")) is not None,
        variables=_mapping(data, ("variables",)),
        models=parts.entries(BaseModelEntry, models),
        runs=parts.entries(RunEntry, runs),
        tasks=parts.entries(TaskEntry, tasks),
        matrix=parts.entries(MatrixEntry, ("evaluation", "matrix")),
        model_names=_names(source, models),
        run_names=_names(source, runs),
        task_names=_names(source, tasks),
        unknown_epochs=frozenset(_unknown_epochs(data)),
    )


class _Parts:
    """Sections by their path in the file."""

    def __init__(self, data: Any, summary: ExperimentSummary | None) -> None:
        self._data = data
        self._summary = summary

    def entries(self, model: type[AnySection], path: KeyPath) -> dict[KeyPath, AnySection]:
        """Usable sections of a list; one alone counts as a list of one."""
        if self._summary:
            listed = _of_summary(self._summary, path)
            return {place: listed[index] for index, (place, _) in enumerate(_items(self._data, path))}
        salvaged = ((place, _salvaged(model, item)) for place, item in _items(self._data, path))
        return {place: entry for place, entry in salvaged if entry is not None}

    def section(self, model: type[AnySection], path: KeyPath) -> AnySection | None:
        """One section; None if it cannot be used, or is absent."""
        if self._summary:
            found: AnySection | None = _of_summary(self._summary, path)
            return found
        values = _at(self._data, path)
        return _salvaged(model, values) if isinstance(values, dict) else None


def _of_summary(summary: ExperimentSummary, path: KeyPath) -> Any:
    value: Any = summary
    for step in path:
        value = getattr(value, str(step), None)
    return value


def file_places(path: KeyPath, files: Sequence[str]) -> list[tuple[KeyPath, str]]:
    """The places of files that a key lists, which may have one alone, with what is written there."""
    return [(path, files[0])] if len(files) == 1 else [((*path, index), text) for index, text in enumerate(files)]


def without(data: Any, paths: Iterable[KeyPath]) -> Any:
    """A copy of values without some keys; in a list, the key that holds the list goes."""
    by_first: dict[Any, list[KeyPath]] = {}
    for path in paths:
        if path:
            by_first.setdefault(path[0], []).append(path[1:])
    if isinstance(data, list):
        return [without(item, by_first.get(index, [])) for index, item in enumerate(data)]
    if not isinstance(data, dict):
        return data
    gone = {key for key, rests in by_first.items() if any(not rest for rest in rests)}
    return {key: without(item, by_first.get(key, [])) for key, item in data.items() if key not in gone}


def _salvaged(model: type[AnySection], values: Mapping[str, Any]) -> AnySection | None:
    """A section without its faulty keys; None where a required one, or its type, is faulty."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faulty = [_up_to_index(item["loc"]) for item in error.errors(include_url=False)]
    if ("type",) in faulty:
        return None
    try:
        return model.model_validate(without(values, faulty))
    except ValidationError:
        return None


def _up_to_index(path: KeyPath) -> KeyPath:
    """The part of a path before it goes into a list."""
    index = next((place for place, step in enumerate(path) if isinstance(step, int)), len(path))
    return path[:index]


def _at(data: Any, path: KeyPath) -> Any:
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _mapping(data: Any, path: KeyPath) -> Mapping[str, Any]:
    value = _at(data, path)
    return value if isinstance(value, dict) else {}


def _items(data: Any, path: KeyPath) -> list[tuple[KeyPath, Mapping[str, Any]]]:
    """Mappings of a list with their paths; one alone counts as a list of one."""
    value = _at(data, path)
    if isinstance(value, dict):
        return [(path, value)]
    items = value if isinstance(value, list) else []
    return [((*path, index), item) for index, item in enumerate(items) if isinstance(item, dict)]


def _names(source: Source, path: KeyPath) -> tuple[str, ...]:
    """Names as they were written, also those that YAML does not read as text."""
    named = ((item["name"], (*place, "name")) for place, item in _items(source.data, path) if "name" in item)
    return tuple(name if isinstance(name, str) else source.texts.get(place, "") for name, place in named)


def _unknown_epochs(data: Any) -> Iterator[str]:
    shared = _mapping(data, ("controls",)).get("epochs", 1)
    for _, run in _items(data, ("runs",)):
        epochs = _mapping(run, ("parameters",)).get("epochs", shared)
        if type(epochs) is not int or not 1 <= epochs <= MOST_EPOCHS:
            yield str(run.get("name"))
