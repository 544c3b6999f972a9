"""Resolves a summary: defaults filled in, names followed, paths made absolute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from run_experiment.common import paths
from run_experiment.experiment.evaluation_section import (
    Backend,
    EvaluationSection,
    EvaluationSettings,
    MatrixEntry,
    TaskEntry,
)
from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.model import Evaluation, Experiment, Generation, Model, Prompting, Run, Task, Training
from run_experiment.experiment.schema import ControlsSection, ExperimentSummary, RunEntry

T = TypeVar("T")


class UnresolvableError(Exception):
    """Parts of a summary do not fit together; the message says which."""


# Samples at once: `hf` computes them in one batch, vLLM takes as many as its memory has room for.
_CONNECTIONS: Mapping[Backend, int] = {"hf": 32, "vllm": 256}


def generation_of(settings: EvaluationSettings, task: TaskEntry | None = None) -> Generation:
    """How the evaluations of a summary generate, those of a task if one is given."""
    backend = (task and task.backend) or settings.backend
    return Generation(
        do_sample=settings.do_sample,
        temperature=settings.temperature,
        seed=settings.seed,
        max_tokens=settings.max_tokens,
        max_connections=settings.max_connections or _CONNECTIONS[backend],
        logprobs=settings.logprobs,
        top_logprobs=settings.top_logprobs,
        backend=backend,
        vllm_options=settings.vllm_options if backend == "vllm" else {},
    )


def split_script(script: str) -> tuple[str, str | None]:
    """Split `task.py@function` into file and function (None where not named)."""
    path, at, function = script.rpartition("@")
    return (path, function) if at and path.endswith(".py") else (script, None)


def resolve(summary: ExperimentSummary, folder: Path) -> Experiment:
    """Resolve a summary: defaults filled in, names followed, paths made absolute (from `folder`).

    Raises UnresolvableError, never for a summary that passed its checks.
    """
    folder = folder.absolute()
    models = {entry.name: Model(entry.name, folder / entry.path) for entry in summary.models.base}
    training_data = _files(summary.data.training.path, folder) if summary.data.training else ()
    merged = {entry.name: entry.parameters.over(summary.controls) for entry in summary.runs}
    choices = _own_choices(summary)
    runs = {
        entry.name: _run(entry, merged[entry.name], choices.get(entry.name, {}), summary, models, training_data, folder)
        for entry in summary.runs
    }
    tasks = {entry.name: _task(entry, training_data, folder) for entry in summary.evaluation.tasks}
    return Experiment(
        folder=folder,
        name=summary.experiment.name,
        question=summary.experiment.question,
        date=summary.experiment.date,
        variables=tuple(summary.variables),
        runs=tuple(runs.values()),
        tasks=tuple(tasks.values()),
        evaluations=tuple(
            evaluation
            for entry in summary.evaluation.matrix
            for evaluation in _cells(
                entry, summary.evaluation, _named("run", entry.run, runs), merged[entry.run], tasks, folder
            )
        ),
        reference=summary.evaluation.reference,
        select_on=summary.evaluation.select_on,
    )


def _run(
    entry: RunEntry,
    controls: ControlsSection,
    choices: Mapping[str, str],
    summary: ExperimentSummary,
    models: Mapping[str, Model],
    training_data: tuple[Path, ...],
    folder: Path,
) -> Run:
    model = _named("model", entry.model, models) if entry.model else next(iter(models.values()))
    training = None
    data = _files(entry.data, folder) if entry.data else training_data
    if entry.type == "fine-tuned":
        if not data:
            raise UnresolvableError(f"run {entry.name} has no training data")
        training = Training(
            model=model,
            data=data,
            prompting=_prompting(controls),
            hyperparameters=Hyperparameters.model_validate(
                {name: getattr(controls, name) for name in Hyperparameters.model_fields}
            ),
            wandb_project=summary.output.wandb_project,
            trainer=entry.trainer or summary.tools.preparation,
        )
    given = entry.checkpoint_path or entry.parameters.checkpoint_path
    return Run(
        name=entry.name,
        type=entry.type,
        model=model,
        parameters=entry.parameters.model_dump(exclude_unset=True) | dict(choices),
        training=training,
        checkpoint=folder / given if given else None,
        checkpoint_pattern=_checkpoint_pattern(summary),
        compute=entry.slurm_overrides.over(entry.compute) if entry.slurm_overrides else entry.compute,
    )


def _files(written: Sequence[str], folder: Path) -> tuple[Path, ...]:
    return tuple(folder / path for path in written)


def _own_choices(summary: ExperimentSummary) -> dict[str, dict[str, str]]:
    """The trainer and the data of each trained run as parameters of it, where runs differ in them."""
    found = {run.name: _choices(run, summary) for run in summary.runs if run.type == "fine-tuned"}
    values: dict[str, set[str]] = {}
    for own in found.values():
        for name, value in own.items():
            values.setdefault(name, set()).add(value)
    return {run: {name: value for name, value in own.items() if len(values[name]) > 1} for run, own in found.items()}


def _choices(entry: RunEntry, summary: ExperimentSummary) -> dict[str, str]:
    shared = summary.data.training.path if summary.data.training else []
    return {
        "trainer": entry.trainer or summary.tools.preparation,
        "data": ", ".join(entry.data or shared),
    }


def _checkpoint_pattern(summary: ExperimentSummary) -> str:
    base, pattern = summary.output.base_directory, summary.output.checkpoint_pattern
    pattern = pattern or paths.CHECKPOINT_PATTERN
    pattern = f"{base.rstrip('/')}/{pattern}" if base else pattern
    try:
        pattern.format(run="", epoch=0)
    except (LookupError, ValueError, AttributeError) as error:
        raise UnresolvableError(f"{pattern} is no pattern of {{run}} and {{epoch}}") from error
    return pattern


def _prompting(controls: ControlsSection) -> Prompting:
    return Prompting(controls.prompt, controls.system_prompt, controls.dataset_type)


def _task(entry: TaskEntry, training_data: Sequence[Path], folder: Path) -> Task:
    path, function = split_script(entry.script)
    same = entry.dataset is None or entry.dataset == "same"
    trained = training_data[0] if len(training_data) == 1 else None
    data = trained if same else folder / str(entry.dataset)
    return Task(entry.name, folder / path, function, data, not same, entry.args, entry.metric, entry.cluster)


def _cells(
    entry: MatrixEntry,
    section: EvaluationSection,
    run: Run,
    controls: ControlsSection,
    tasks: Mapping[str, Task],
    folder: Path,
) -> list[Evaluation]:
    """Evaluations of one line of the matrix; `epochs: null` means all epochs of a trained run."""
    epochs: list[int | None] = [None] if not run.training else list(entry.epochs or run.epochs)
    for epoch in epochs:
        if run.type != "control" and epoch not in run.verified:
            raise UnresolvableError(f"run {run.name} has no checkpoint{'' if epoch is None else f' of epoch {epoch}'}")
    entries = {task.name: task for task in section.tasks}
    return [
        Evaluation(
            run=run,
            task=_named("task", name, tasks),
            epoch=epoch,
            prompting=_eval_prompting(_prompting(controls), section, entries[name]),
            generation=generation_of(section, entries[name]),
            scorers=tuple(scorer.model_dump() for scorer in section.scorers),
            label=entry.vis_label or run.name,
            compute=section.compute,
            config_file=folder / paths.task_config(run.name, paths.cell(name, epoch)),
            assistant_prefix=_first_given(entries[name].assistant_prefix, section.assistant_prefix, ""),
            columns=controls.columns,
        )
        for name in entry.tasks
        for epoch in epochs
    ]


def _eval_prompting(trained: Prompting, section: EvaluationSettings, task: TaskEntry) -> Prompting:
    """Prompts of an evaluation: the task's own, else the evaluation's, else those the run was trained with."""
    return Prompting(
        prompt=_first_given(task.prompt, trained.prompt),
        system_prompt=_first_given(task.system_prompt, section.system_prompt, trained.system_prompt),
        dataset_type=trained.dataset_type,
    )


def _first_given(*texts: str | None) -> str:
    return next(text for text in texts if text is not None)


def _named(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise UnresolvableError(f"there is no {kind} {name}")
    return known[name]
