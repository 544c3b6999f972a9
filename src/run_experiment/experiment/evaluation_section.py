"""The section `evaluation` of `experiment_summary.yaml`: tasks, settings, and which run is evaluated on what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, NonNegativeInt, PositiveInt

from run_experiment.experiment.compute import Compute
from run_experiment.experiment.section import Name, NonNegativeNumber, Section, Seed, as_list

# What the best run may be chosen on, besides the score on a task: a name of torchtune's metrics.
VALIDATION_LOSS = "validation_loss"


def _scorer(value: Any) -> Any:
    """Take a scorer's bare name for `{name: …}`."""
    return {"name": value} if isinstance(value, str) else value


class Scorer(Section):
    """A scorer and its parameters."""

    name: str = Field(description="Name of the scorer.")
    params: dict[str, Any] = Field(default_factory=dict, description="Its parameters.")


ScorerEntry = Annotated[Scorer, BeforeValidator(_scorer, json_schema_input_type=Scorer | str)]


class TaskMetric(Section):
    """The metric that stands for a task in the results. Changing it evaluates nothing again."""

    name: str | None = Field(
        None,
        min_length=1,
        description="The metric, as `results/evals.csv` names it or part of it: `match/accuracy`, `accuracy`; absent: "
        "the first.",
    )
    better: Literal["higher", "lower"] | None = Field(
        None, description="Which direction is better; absent: known for usual names like `accuracy`, `f1`, `mae`."
    )


Backend = Literal["hf", "vllm"]

# Options of `vllm serve` by which a job finds its server, and what it serves.
_JOBS_OWN = frozenset(
    {
        *("host", "port", "uds", "api-key", "ssl-keyfile", "ssl-certfile", "root-path", "headless", "config"),
        *("model", "served-model-name", "tokenizer", "seed"),
        *("enable-lora", "lora-modules", "max-lora-rank"),
    }
)


def _vllm_option(name: Any) -> Any:
    """An option's name with - between its words; one that the job sets itself is refused."""
    if not isinstance(name, str):
        return name
    known = name.replace("_", "-")
    if known in _JOBS_OWN:
        raise ValueError("is set by the job")
    return known


VllmOption = Annotated[str, BeforeValidator(_vllm_option), Field(pattern=r"^[a-z][a-z0-9-]*$")]


class TaskEntry(Section):
    """An inspect-ai task."""

    shared = True

    name: Name = Field(description="Name of the task; the evaluations' files begin with it.")
    script: str = Field(
        description="The task's Python file, `task.py` or `task.py@function`. Of several functions in it, one with the "
        "name of the task needs no `@function`."
    )
    dataset: str | None = Field(
        None,
        description="Data file given to the task as `data_path`; `same` or absent: the training data's file, if there "
        "is one only.",
    )
    prompt: str | None = Field(None, description="Prompt instead of `controls.prompt`.")
    system_prompt: str | None = Field(None, description="System prompt instead of `controls.system_prompt`.")
    args: dict[str, Any] = Field(default_factory=dict, description="More arguments of the task's function.")
    metric: TaskMetric | None = Field(None, description="The metric that stands for the task in the results.")
    cluster: str | None = Field(
        None,
        min_length=1,
        description="Key of the samples' metadata by which samples depend on each other, such as the text that several "
        "questions are about; intervals and tests of the results are clustered by it.",
    )
    description: str | None = Field(None, description="Kept for the reader.")
    eval_condition: str | None = Field(
        None, description="Name of its data in other tools; here `dataset` chooses the file and is required beside it."
    )
    assistant_prefix: str | None = Field(None, description="Prefix instead of `evaluation.assistant_prefix`.")
    backend: Backend | None = Field(None, description="Backend instead of `evaluation.backend`.")


class MatrixEntry(Section):
    """Which tasks a run is evaluated on, after which epochs."""

    shared = True

    run: str = Field(description="Name of the run.")
    tasks: Annotated[
        list[str],
        Field(min_length=1),
        BeforeValidator(as_list, json_schema_input_type=list[str] | str),
    ] = Field(description="Names of tasks.")
    epochs: (
        Annotated[
            list[NonNegativeInt],
            BeforeValidator(as_list, json_schema_input_type=list[NonNegativeInt] | NonNegativeInt),
        ]
        | None
    ) = Field(
        None,
        description="Epochs, counted from 0; null: all of a trained run, and the only choice for others.",
    )
    vis_label: str | None = Field(
        None, description="Label in results and plots; given to the task where its function takes `vis_label`."
    )


class EvaluationSettings(Section):
    """How models are evaluated, whatever the task."""

    temperature: NonNegativeNumber | None = Field(None, description="Temperature, with `do_sample: true`.")
    do_sample: bool = Field(False, description="Sample, instead of always taking the likeliest token.")
    seed: Seed = Field(14, description="Seed of the sampling.")
    max_tokens: PositiveInt | None = Field(None, description="Tokens generated a sample at the most.")
    backend: Backend = Field(
        "hf",
        description="What generates the answers: `hf` is transformers, `vllm` a vLLM server that each job starts. "
        "With another one an evaluation is made again.",
    )
    vllm_options: dict[VllmOption, str | int | float | bool] = Field(
        default_factory=dict,
        description="Further options of `vllm serve`, such as `gpu-memory-utilization: 0.5`; `true` for a flag.",
    )
    max_connections: PositiveInt | None = Field(
        None, description="Samples at once at the most, with `hf` a batch; absent: 32, with `vllm` 256."
    )
    scorers: Annotated[
        list[ScorerEntry],
        BeforeValidator(as_list, json_schema_input_type=list[ScorerEntry] | ScorerEntry),
    ] = Field(
        default_factory=list,
        validation_alias=AliasChoices("scorers", "scorer"),
        description="Scorers: given to the task where its function takes `scorer` or `scorers`.",
    )
    system_prompt: str | None = Field(None, description="System prompt instead of `controls.system_prompt`.")
    compute: Compute | None = Field(None, description="What an evaluation requests of the cluster.")
    reference: str | None = Field(
        None, description="Run that the results compare with; absent: the control of the same model."
    )
    select_on: str | None = Field(
        None,
        description="What the best run is chosen on: the name of a task, or `validation_loss`; absent: the same task "
        "on the split `validation` if it is evaluated, else the reported score, marked as optimistic.",
    )
    assistant_prefix: str | None = Field(
        None, description="Beginning of the answers: given to tasks whose function takes `assistant_prefix`."
    )
    logprobs: bool | None = Field(None, description="Whether logs have the log probabilities of the answers' tokens.")
    top_logprobs: PositiveInt | None = Field(
        None, description="Likeliest tokens at each place that logs have the probabilities of, with `logprobs: true`."
    )


class EvaluationSection(EvaluationSettings):
    """How models are evaluated."""

    tasks: list[TaskEntry] = Field(min_length=1, description="The tasks.")
    matrix: list[MatrixEntry] = Field(min_length=1, description="Which run is evaluated on what.")
