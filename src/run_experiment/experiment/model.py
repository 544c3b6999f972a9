"""An experiment with everything resolved: what each run trains with, what each evaluation is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common import paths
from run_experiment.experiment.columns import DEFAULT_COLUMNS, Columns

if TYPE_CHECKING:
    # A verification, which evaluations wait for, begins faster without the schema.
    from run_experiment.experiment.compute import Compute
    from run_experiment.experiment.evaluation_section import Backend, TaskMetric
    from run_experiment.experiment.hyperparameters import Hyperparameters
    from run_experiment.experiment.schema import RunType

# What trains if the summary does not say.
DEFAULT_TRAINER = "torchtune"


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
    """What a fine-tune is given. `data` are its data files (absolute), joined; splits are `train` and `validation`."""

    model: Model
    data: tuple[Path, ...]
    prompting: Prompting
    hyperparameters: Hyperparameters
    wandb_project: str | None = None
    trainer: str = DEFAULT_TRAINER


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
        """Folder that a trainer has to write to, which names its checkpoints itself; None if it cannot be had."""
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

    `own_data` is True where the summary names a data file for this task, not the training data. `data` is None where
    that would be several files.
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
    backend: Backend = "hf"
    vllm_options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


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
    columns: Columns = DEFAULT_COLUMNS

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
