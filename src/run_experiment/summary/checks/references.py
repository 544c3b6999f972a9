"""What the parts of a summary must have in common: names, references, epochs, prompts, paths."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.suggestions import did_you_mean
from run_experiment.common.yaml_lines import KeyPath, dotted, shown
from run_experiment.experiment.evaluation_section import MatrixEntry, TaskEntry
from run_experiment.experiment.schema import BaseModelEntry, RunEntry
from run_experiment.summary.checks.prompts import check_prompts, template_problem
from run_experiment.summary.checks.results import check_results, check_variables
from run_experiment.summary.checks.trainings import check_training_keys
from run_experiment.summary.draft import Draft, Finding, file_places
from run_experiment.summary.slurm_options import check_slurm_options

Named = BaseModelEntry | RunEntry | TaskEntry

# Folders of a run with other files than what it trains.
_OF_A_RUN = ("attempts", "checkpoints", "eval", paths.TRAININGS)
# What Snakemake takes for a rule that would make its own input for ever.
_REPEATED = re.compile(r"(.+)\1{19}$")
# Files beside the runs' folders.
_OWN_FILES = {paths.SUMMARY, paths.TEMPLATE_DATE, "run-torchtune.log", "run-inspect.log"}


def check_references(draft: Draft, folder: Path, strict: bool = True) -> list[Finding]:
    """What does not fit together, in an experiment's folder.

    Where not `strict`, unknown hyperparameters in `variables` are warnings.
    """
    checks: tuple[Callable[[Draft], Iterator[Finding]], ...] = (
        _names,
        _models_of_runs,
        _checkpoints,
        _training_data,
        _matrix_references,
        _matrix_epochs,
        _repeated_evaluations,
        _runs_without_evaluation,
        check_prompts,
        check_slurm_options,
        _sampling,
        _probabilities,
        _offloading,
        check_results,
        _checkpoint_pattern,
        _paths,
    )
    found = [finding for check in checks for finding in check(draft)]
    found += [*check_training_keys(draft, strict), *_conditions(draft, strict)]
    return [*check_variables(draft, strict), *found, *_checkpoint_folders(draft, folder)]


def trained_epochs(draft: Draft, run: RunEntry) -> range:
    """Epochs that a run's training goes through; empty without training."""
    if run.type != "fine-tuned":
        return range(0)
    return range(draft.merged(run).epochs)


def _names(draft: Draft) -> Iterator[Finding]:
    for entries in (draft.models, draft.runs, draft.tasks):
        yield from _unique(entries)
    for path, run in draft.runs.items():
        if run.name.lower() in paths.RESERVED_RUN_NAMES | _OWN_FILES:
            yield Finding((*path, "name"), f"{run.name} is a name of the experiment folder's own; choose another")


def _unique(entries: Mapping[KeyPath, Named]) -> Iterator[Finding]:
    seen: dict[str, tuple[KeyPath, str]] = {}
    for path, entry in entries.items():
        if ".." in entry.name:
            yield Finding((*path, "name"), f"{entry.name} has two dots in a row; a name must not")
        if _REPEATED.search(entry.name):
            yield Finding((*path, "name"), "ends in 20 times the same, which Snakemake takes for an error; shorten it")
        first, name = seen.setdefault(entry.name.lower(), (path, entry.name))
        if first != path:
            same = "is already the name of" if name == entry.name else "differs only in upper and lower case from"
            yield Finding((*path, "name"), f"{entry.name} {same} {dotted(first)}")


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return f"there is no {kind} {shown(name)}{did_you_mean(name, known)}"


def _models_of_runs(draft: Draft) -> Iterator[Finding]:
    for path, run in draft.runs.items():
        if run.model is None and len(draft.model_names) > 1:
            models = ", ".join(draft.model_names)
            yield Finding((*path, "model"), f"is required if there are several base models: {models}")
        elif run.model is not None and draft.model_names and run.model not in draft.model_names:
            yield Finding((*path, "model"), _unknown("model", run.model, draft.model_names))


def _checkpoints(draft: Draft) -> Iterator[Finding]:
    for path, run in draft.runs.items():
        own, in_parameters = run.checkpoint_path, run.parameters.checkpoint_path
        place = (*path, "checkpoint_path") if own or not in_parameters else (*path, "parameters", "checkpoint_path")
        if run.type == "eval-only" and not (own or in_parameters):
            yield Finding(place, "is required for an eval-only run: the folder of its checkpoint")
        if run.type == "eval-only" and own and in_parameters and own != in_parameters:
            yield Finding(place, "differs from parameters.checkpoint_path; keep one")
        if run.type != "eval-only" and (own or in_parameters):
            yield Finding(place, f"is for eval-only runs; this one is {run.type}")


def _training_data(draft: Draft) -> Iterator[Finding]:
    fine_tuned = [run.name for run in draft.runs.values() if run.type == "fine-tuned" and not run.data]
    if fine_tuned and not draft.has_training:
        yield Finding(("data", "training"), f"is required: run {fine_tuned[0]} is fine-tuned")
    for path, run in draft.runs.items():
        if run.data and run.type != "fine-tuned":
            yield Finding((*path, "data"), f"is for fine-tuned runs; this one is {run.type}")
    for path, task in draft.tasks.items():
        if task.dataset == "same" and not draft.has_training:
            yield Finding((*path, "dataset"), "is same, but there is no data.training")


def _matrix_references(draft: Draft) -> Iterator[Finding]:
    for path, entry in draft.matrix.items():
        if draft.run_names and entry.run not in draft.run_names:
            yield Finding((*path, "run"), _unknown("run", entry.run, draft.run_names))
        for index, task in enumerate(entry.tasks):
            if draft.task_names and task not in draft.task_names:
                yield Finding((*path, "tasks", index), _unknown("task", task, draft.task_names))


def _matrix_epochs(draft: Draft) -> Iterator[Finding]:
    runs = {run.name: run for run in draft.runs.values()}
    for path, entry in draft.matrix.items():
        run, place = runs.get(entry.run), (*path, "epochs")
        if entry.epochs == []:
            yield Finding(place, "must not be empty; null means all epochs")
        elif run and entry.epochs is not None and run.type != "fine-tuned":
            yield Finding(place, f"must be null: run {run.name} is {run.type} and has no epochs")
        elif run and entry.epochs and run.name not in draft.unknown_epochs:
            yield from _untrained(place, entry.epochs, run.name, trained_epochs(draft, run))


def _untrained(path: KeyPath, epochs: list[int], run: str, trained: range) -> Iterator[Finding]:
    there = "its only epoch is 0" if len(trained) == 1 else f"its epochs are 0 to {trained[-1]}"
    for index, epoch in enumerate(epochs):
        if epoch not in trained:
            yield Finding((*path, index), f"epoch {epoch} of run {run} is not trained; {there}")


def _repeated_evaluations(draft: Draft) -> Iterator[Finding]:
    runs = {run.name: run for run in draft.runs.values()}
    seen: dict[tuple[str, str, int | None], KeyPath] = {}
    for path, entry in draft.matrix.items():
        trained = trained_epochs(draft, runs[entry.run]) if entry.run in runs else range(0)
        for cell in _cells(entry, trained):
            if cell in seen:
                run, task, epoch = cell
                when = "" if epoch is None else f" after epoch {epoch}"
                where = "" if seen[cell] == path else f", first in {dotted(seen[cell])}"
                yield Finding(path, f"run {run} on task {task}{when} appears twice{where}")
                break
            seen[cell] = path


def _cells(entry: MatrixEntry, trained: range) -> Iterator[tuple[str, str, int | None]]:
    for task in entry.tasks:
        for epoch in entry.epochs or trained or (None,):
            yield entry.run, task, epoch


def _runs_without_evaluation(draft: Draft) -> Iterator[Finding]:
    named = {entry.run for entry in draft.matrix.values()}
    for path, run in draft.runs.items():
        if run.name not in named:
            consequence = "it is trained, but never evaluated" if run.type == "fine-tuned" else "it is not used"
            message = f"no line of evaluation.matrix names {run.name}: {consequence}"
            yield Finding((*path, "name"), message, warning=True)


def _sampling(draft: Draft) -> Iterator[Finding]:
    settings, path = draft.evaluation, ("evaluation", "temperature")
    if settings.do_sample and settings.temperature is None:
        yield Finding(path, "is required with do_sample: true")
    elif settings.do_sample and settings.temperature == 0:
        yield Finding(path, "must be more than 0 with do_sample: true")
    elif settings.temperature and not settings.do_sample:
        yield Finding(path, "is ignored without do_sample: true", warning=True)


def _offloading(draft: Draft) -> Iterator[Finding]:
    """torchtune offloads activations only with checkpointing, and only from a GPU."""
    key, needed = "enable_activation_offloading", "enable_activation_checkpointing"
    for path, run in draft.runs.items():
        merged = draft.merged(run)
        place = draft.place_of(path, run, key)
        if run.type != "fine-tuned" or not merged.enable_activation_offloading:
            continue
        if not merged.enable_activation_checkpointing:
            yield Finding(place, f"needs {needed}: true as well (run {run.name})")
        elif merged.device == "cpu":
            yield Finding(place, f"is for GPUs, but run {run.name} has device: cpu")


def _probabilities(draft: Draft) -> Iterator[Finding]:
    if draft.evaluation.top_logprobs is not None and not draft.evaluation.logprobs:
        message = "has an effect only with logprobs: true, or in tasks that take it"
        yield Finding(("evaluation", "top_logprobs"), message, warning=True)


def _conditions(draft: Draft, strict: bool) -> Iterator[Finding]:
    """Conditions that choose data in other tools, without the file that they stand for: its name is not known here.

    A folder that such a tool made has the files in its configs already.
    """
    asked = [
        ((*path, "training_condition"), "data")
        for path, run in draft.runs.items()
        if run.training_condition and not run.data
    ]
    asked += [
        ((*path, "eval_condition"), "dataset")
        for path, task in draft.tasks.items()
        if task.eval_condition and not task.dataset
    ]
    for place, key in asked:
        yield Finding(place, f"chooses no data file here; name the file in {key} beside it", warning=not strict)


def _checkpoint_pattern(draft: Draft) -> Iterator[Finding]:
    pattern, path = draft.output.checkpoint_pattern, ("output", "checkpoint_pattern")
    if pattern is None:
        return
    problem = template_problem(pattern, required=("run", "epoch"))
    if problem:
        yield Finding(path, problem)
    elif os.path.isabs(pattern):
        yield Finding(path, "must be relative to output.base_directory")
    elif re.search(r"\{run\}\d*\{epoch\}|\{epoch\}\d*\{run\}", pattern):
        yield Finding(path, "runs would share folders; put something other than digits between {run} and {epoch}")


def _checkpoint_folders(draft: Draft, folder: Path) -> Iterator[Finding]:
    """The folder that a run is trained to has no other files: it becomes a link to the folder of a training."""
    written, base = draft.output.checkpoint_pattern, draft.output.base_directory or ""
    pattern = Path(written or paths.CHECKPOINT_PATTERN)
    if template_problem(str(pattern), required=("run", "epoch")) or pattern.name != paths.CHECKPOINT_NAME:
        return
    if "\0" in f"{base}{pattern}":
        return
    for run in draft.runs.values():
        own = os.path.realpath(folder / run.name)
        # It may be a link already, to where the run's trainings are.
        parent, name = os.path.split(folder / base / str(pattern.parent).format(run=run.name))
        output = os.path.normpath(os.path.join(os.path.realpath(parent), name))
        inner = next((name for name in _OF_A_RUN if _is_below(output, os.path.join(own, name))), None)
        if run.type == "fine-tuned" and (inner or _is_below(own, output)):
            where = f"{run.name}/{inner}" if inner else f"the folder of run {run.name}"
            path = ("output", "checkpoint_pattern" if written else "base_directory")
            instead = f"write {paths.CHECKPOINT_PATTERN}" if written else "choose another folder"
            yield Finding(path, f"would have checkpoints in {where} among other files of the run; {instead}")
            return


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _paths(draft: Draft) -> Iterator[Finding]:
    for path, text in _written_paths(draft):
        if text == "":
            yield Finding(path, "must not be empty")
        elif "\0" in text:
            yield Finding(path, f"{shown(text)}: no path has a NUL character")
        elif text.startswith("~") or "$" in text:
            yield Finding(path, f"{shown(text)}: ~ and $ are not expanded; write the full path")
        elif not os.path.isabs(text) and os.path.normpath(text).split(os.sep)[0] == "..":
            yield Finding(path, f"{shown(text)} leads out of the experiment's folder; write the full path")


def _written_paths(draft: Draft) -> Iterator[tuple[KeyPath, str]]:
    written: list[tuple[KeyPath, str | None]] = [
        (("output", "base_directory"), draft.output.base_directory),
        (("output", "checkpoint_pattern"), draft.output.checkpoint_pattern),
    ]
    written += file_places(("data", "training", "path"), draft.training.path) if draft.training else []
    for path, run in draft.runs.items():
        written += file_places((*path, "data"), run.data) if run.data else []
        written += [
            ((*path, "checkpoint_path"), run.checkpoint_path),
            ((*path, "parameters", "checkpoint_path"), run.parameters.checkpoint_path),
        ]
    written += [((*path, "path"), model.path) for path, model in draft.models.items()]
    for path, task in draft.tasks.items():
        written += [((*path, "script"), task.script), ((*path, "dataset"), task.dataset)]
    yield from ((path, text) for path, text in written if text is not None)
