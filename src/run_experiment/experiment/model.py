"""An experiment with everything resolved: what each run trains with, what each evaluation is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.experiment.schema import (
    Compute,
    ControlsSection,
    EvaluationSection,
    EvaluationSettings,
    ExperimentSummary,
    Hyperparameters,
    MatrixEntry,
    RunEntry,
    RunType,
    TaskEntry,
    TaskMetric,
)


@dataclass(frozen=True)
class Model:
    """A base model: its name and its folder (absolute)."""

    name: str
    path: Path


@dataclass(frozen=True)
class Prompting:
    """How a sample becomes a prompt, in training and evaluation alike."""

    prompt: str
    system_prompt: str
    dataset_type: str


@dataclass(frozen=True)
class Training:
    """What a fine-tune is given. `data` is the data file (absolute); splits are `train` and `validation`."""

    model: Model
    data: Path
    prompting: Prompting
    hyperparameters: Hyperparameters
    wandb_project: str | None = None


@dataclass(frozen=True)
class Run:
    """One run. `training` is set for fine-tuned runs, `checkpoint` for eval-only ones (absolute)."""

    name: str
    type: RunType
    model: Model
    parameters: Mapping[str, Any]
    training: Training | None
    checkpoint: Path | None
    checkpoint_pattern: str
    compute: Compute | None

    @property
    def epochs(self) -> range:
        """Epochs that its training goes through, from 0; empty without training."""
        return range(self.training.hyperparameters.epochs if self.training else 0)

    @property
    def why_untrained(self) -> str:
        """Why it has no training of its own."""
        return "control: nothing to train" if self.type == "control" else "eval-only: trained elsewhere"

    @property
    def verified(self) -> list[int | None]:
        """Epochs whose checkpoints are verified; None for a checkpoint made elsewhere."""
        return [None] if self.checkpoint else list(self.epochs)

    @property
    def output_dir(self) -> Path | None:
        """Folder that torchtune has to write to, which names its checkpoints itself; None where it cannot be had."""
        parent, last = Path(self.checkpoint_pattern).parent, Path(self.checkpoint_pattern).name
        return Path(str(parent).format(run=self.name)) if last == paths.CHECKPOINT_NAME else None

    def checkpoint_dir(self, epoch: int | None) -> Path:
        """Folder of the checkpoint after `epoch`, or of the one made elsewhere; may be relative to the experiment."""
        if self.checkpoint is not None:
            return self.checkpoint
        return Path(self.checkpoint_pattern.format(run=self.name, epoch=epoch))


@dataclass(frozen=True)
class Task:
    """An inspect-ai task: its file (absolute), the function if one was named, and the data file (absolute).

    `own_data` is True where the summary names a data file for this task, not the training data.
    `metric` and `cluster` are about the results alone.
    """

    name: str
    script: Path
    function: str | None
    data: Path | None
    own_data: bool
    args: Mapping[str, Any]
    metric: TaskMetric | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class Generation:
    """How an evaluation generates."""

    do_sample: bool
    temperature: float | None
    seed: int
    max_tokens: int | None
    max_connections: int
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """One cell of the matrix: a run's model after an epoch (None without training) on a task."""

    run: Run
    task: Task
    epoch: int | None
    prompting: Prompting
    generation: Generation
    scorers: tuple[Mapping[str, Any], ...]
    label: str
    compute: Compute | None
    # File of prompts, scorers and labels for tasks that read them from one (absolute).
    config_file: Path
    # Beginning of the model's answers, for tasks that take one; empty for none.
    assistant_prefix: str = ""

    @property
    def cell(self) -> str:
        """Its name within the run, `{task}_epoch{N}`."""
        return paths.cell(self.task.name, self.epoch)

    @property
    def subject(self) -> str:
        """Its name in the logs, `{run}/{task}/epoch{N}`."""
        return paths.subject(self.run.name, self.task.name, self.epoch)

    @property
    def needs_checkpoint(self) -> bool:
        """Whether it evaluates a checkpoint, not a base model."""
        return self.run.type != "control"


@dataclass(frozen=True)
class Experiment:
    """An experiment and its folder (absolute).

    `reference` is the run that results are compared with, `select_on` what the best one is chosen on, if given.
    """

    folder: Path
    name: str
    question: str
    date: str | None
    variables: tuple[str, ...]
    runs: tuple[Run, ...]
    tasks: tuple[Task, ...]
    evaluations: tuple[Evaluation, ...]
    reference: str | None = None
    select_on: str | None = None

    @cached_property
    def run_by_name(self) -> dict[str, Run]:
        """Runs by their name."""
        return {run.name: run for run in self.runs}

    @cached_property
    def evaluation_by_key(self) -> dict[tuple[str, str], Evaluation]:
        """Evaluations by run and cell."""
        return {(item.run.name, item.cell): item for item in self.evaluations}

    @cached_property
    def fine_tuned(self) -> tuple[Run, ...]:
        """Runs that are trained here."""
        return tuple(run for run in self.runs if run.training)


def generation_of(settings: EvaluationSettings) -> Generation:
    """How the evaluations of a summary generate."""
    return Generation(
        do_sample=settings.do_sample,
        temperature=settings.temperature,
        seed=settings.seed,
        max_tokens=settings.max_tokens,
        max_connections=settings.max_connections,
        logprobs=settings.logprobs,
        top_logprobs=settings.top_logprobs,
    )


def split_script(script: str) -> tuple[str, str | None]:
    """Split `task.py@function` into file and function (None where not named)."""
    path, at, function = script.rpartition("@")
    return (path, function) if at and path.endswith(".py") else (script, None)


def resolve(summary: ExperimentSummary, folder: Path) -> Experiment:
    """Resolve a valid summary: defaults filled in, names followed, paths made absolute (from `folder`)."""
    folder = folder.absolute()
    models = {entry.name: Model(entry.name, folder / entry.path) for entry in summary.models.base}
    training_data = folder / summary.data.training.path if summary.data.training else None
    merged = {entry.name: entry.parameters.over(summary.controls) for entry in summary.runs}
    runs = {
        entry.name: _run(entry, merged[entry.name], summary, models, training_data, folder) for entry in summary.runs
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
            for evaluation in _cells(entry, summary.evaluation, runs[entry.run], merged[entry.run], tasks, folder)
        ),
        reference=summary.evaluation.reference,
        select_on=summary.evaluation.select_on,
    )


def _run(
    entry: RunEntry,
    controls: ControlsSection,
    summary: ExperimentSummary,
    models: Mapping[str, Model],
    training_data: Path | None,
    folder: Path,
) -> Run:
    model = models[entry.model] if entry.model else next(iter(models.values()))
    training = None
    data = folder / entry.data if entry.data else training_data
    if entry.type == "fine-tuned" and data is not None:
        training = Training(
            model=model,
            data=data,
            prompting=_prompting(controls),
            hyperparameters=Hyperparameters.model_validate(
                {name: getattr(controls, name) for name in Hyperparameters.model_fields}
            ),
            wandb_project=summary.output.wandb_project,
        )
    given = entry.checkpoint_path or entry.parameters.checkpoint_path
    return Run(
        name=entry.name,
        type=entry.type,
        model=model,
        parameters=entry.parameters.model_dump(exclude_unset=True),
        training=training,
        checkpoint=folder / given if given else None,
        checkpoint_pattern=_checkpoint_pattern(summary),
        compute=entry.slurm_overrides.over(entry.compute) if entry.slurm_overrides else entry.compute,
    )


def _checkpoint_pattern(summary: ExperimentSummary) -> str:
    base, pattern = summary.output.base_directory, summary.output.checkpoint_pattern
    pattern = pattern or paths.CHECKPOINT_PATTERN
    return f"{base.rstrip('/')}/{pattern}" if base else pattern


def _prompting(controls: ControlsSection) -> Prompting:
    return Prompting(controls.prompt, controls.system_prompt, controls.dataset_type)


def _task(entry: TaskEntry, training_data: Path | None, folder: Path) -> Task:
    path, function = split_script(entry.script)
    same = entry.dataset is None or entry.dataset == "same"
    data = training_data if same else folder / str(entry.dataset)
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
    entries = {task.name: task for task in section.tasks}
    return [
        Evaluation(
            run=run,
            task=tasks[name],
            epoch=epoch,
            prompting=_eval_prompting(_prompting(controls), section, entries[name]),
            generation=generation_of(section),
            scorers=tuple(scorer.model_dump() for scorer in section.scorers),
            label=entry.vis_label or run.name,
            compute=section.compute,
            config_file=folder / paths.task_config(run.name, paths.cell(name, epoch)),
            assistant_prefix=_first_given(entries[name].assistant_prefix, section.assistant_prefix, ""),
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
