"""The models of `experiment_summary.yaml`: every key a user may write, its type and its default.

The JSON schema and the reference page are generated from these models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    PrivateAttr,
    model_validator,
)

from run_experiment.experiment.columns import DEFAULT_COLUMNS, Columns

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
TIME_PATTERN = r"(\d+-)?\d+(:\d{1,2}){0,2}"
# A small number without a unit would be megabytes to SLURM, and is meant as gigabytes.
MEMORY_PATTERN = r"(\d+[KMGT]|\d{4,})"
# Fits into a line of a job script as it is.
OPTION_PATTERN = r"[^\s\"'\\#]+"

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def _number(value: Any) -> Any:
    """Take `1e-5` as the number it means: YAML 1.1 reads it as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return value


# What torchtune, Hugging Face and others call the same schedules.
_SCHEDULERS = {
    "get_cosine_schedule_with_warmup": "cosine",
    "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup": "cosine",
    "cosine_with_warmup": "cosine",
    "get_linear_schedule_with_warmup": "linear",
    "torchtune.training.lr_schedulers.get_linear_schedule_with_warmup": "linear",
    "constant_with_warmup": "constant",
    "get_constant_schedule_with_warmup": "constant",
    "torchtune.training.lr_schedulers.get_constant_schedule_with_warmup": "constant",
}


def _scheduler(value: Any) -> Any:
    """Take other tools' names of a schedule for ours."""
    return _SCHEDULERS.get(value, value) if isinstance(value, str) else value


_RECIPE = "lora_finetune_single_device"
# What other tools call versions of the recipe that trains here.
_RECIPES = {f"cruijff_kit.tools.torchtune.custom_recipes.{_RECIPE}_{version}" for version in ("stable", "nightly")}


def _recipe(value: Any) -> Any:
    """Take other tools' names of the LoRA recipe for one device for torchtune's."""
    return _RECIPE if isinstance(value, str) and value in _RECIPES else value


def _as_list(value: Any) -> Any:
    """Take a single value for a list of one."""
    return value if value is None or isinstance(value, list) else [value]


def _scorer(value: Any) -> Any:
    """Take a scorer's bare name for `{name: …}`."""
    return {"name": value} if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
# numpy, which torchtune seeds too, takes 32 bits.
Seed = Annotated[NonNegativeInt, Field(le=2**32 - 1)]
# The bounds are inside of the validator: the JSON schema has them then.
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
NonNegativeNumber = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
Probability = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number)]


_CHECKPOINT = (
    "For eval-only runs: the checkpoint's folder. A whole model is evaluated with the tokenizer and chat template in "
    "its folder, if there are any; an adapter always with those of its base model."
)


class Section(BaseModel):
    """A mapping of the file; keys that it does not have are reported by the reader."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    # Whether other tools put keys of their own here.
    shared: ClassVar[bool] = False

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_absent(cls, value: Any) -> Any:
        """Take `runs[].parameters:` with nothing below it for an absent one."""
        if not isinstance(value, dict):
            return value
        optional = {
            key for name in cls.model_fields if cls.model_fields[name].default_factory for key in cls.keys(name)
        }
        return {key: item for key, item in value.items() if item is not None or key not in optional}

    @classmethod
    def keys(cls, field: str) -> tuple[str, ...]:
        """Keys that a field is read from: its name, then older ones."""
        alias = cls.model_fields[field].validation_alias
        return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else (field,)

    @classmethod
    def all_keys(cls) -> tuple[str, ...]:
        """All keys of the section, older names too."""
        return tuple(key for field in cls.model_fields for key in cls.keys(field))


class ExperimentSection(Section):
    """What the experiment is about."""

    shared = True

    name: Name = Field(description="Name of the experiment; job names begin with it.")
    question: str = Field("", description="The question that the experiment answers; heads the results.")
    date: str | None = Field(None, description="Date of the design, YYYY-MM-DD.")
    directory: str | None = Field(
        None,
        validation_alias=AliasChoices("directory", "dir"),
        description="Where the experiment was meant to live. The folder of this file is what counts.",
    )
    project: str | None = Field(None, description="Kept for other tools.")
    hypothesis: str | None = Field(None, description="Kept for the reader.")
    purpose: str | None = Field(None, description="Kept for the reader.")


TrainerName = Literal["torchtune", "trl"]


class ToolsSection(Section):
    """Which tools prepare and evaluate the models."""

    shared = True

    preparation: TrainerName = Field(
        "torchtune", description="The trainer: docs/trainers.md says what each can do. Changing it trains anew."
    )
    evaluation: Literal["inspect-ai"] = Field("inspect-ai", description="The tool that evaluates.")


# Hyperparameters that are newer than records, with the values that are the same as leaving them out.
_SAME_AS_ABSENT: Mapping[str, tuple[Any, ...]] = {
    "packed": (False,),
    "training_samples": (None,),
    "use_dora": (False,),
    "use_rslora": (False,),
    "lora_target_modules": (None,),
    "input_key": (None, DEFAULT_COLUMNS.input),
    "output_key": (None, DEFAULT_COLUMNS.output),
    "mask_history": (True,),
}


def _module(value: Any) -> Any:
    """Take Hugging Face's name of the last attention projection for torchtune's."""
    return "output_proj" if value == "o_proj" else value


AttentionModule = Annotated[Literal["q_proj", "k_proj", "v_proj", "output_proj"], BeforeValidator(_module)]


class Hyperparameters(Section):
    """How a run is trained. In `controls` they hold for all runs, in a run's `parameters` for that run."""

    epochs: PositiveInt = Field(1, le=10_000, description="Passes over the training split.")
    batch_size: PositiveInt = Field(4, description="Samples that a device takes at once, at the most.")
    gradient_accumulation_steps: PositiveInt = Field(
        1,
        description="Batches an optimizer step. The product with `batch_size` is the effective batch size, on however "
        "many GPUs: they share its samples.",
    )
    seed: Seed = Field(14, description="Seed of the initialisation and of the data order.")
    lr: PositiveNumber = Field(3e-4, description="Peak learning rate.")
    weight_decay: NonNegativeNumber = Field(0.01, description="Weight decay of AdamW.")
    lr_scheduler: Annotated[Literal["cosine", "linear", "constant"], BeforeValidator(_scheduler)] = Field(
        "cosine",
        description="Learning rate after the warm-up: half a cosine or a line down to 0, or constant. "
        "Names like `get_cosine_schedule_with_warmup` are understood.",
    )
    num_warmup_steps: NonNegativeInt = Field(0, description="Steps of linear warm-up.")
    lora_rank: PositiveInt = Field(8, le=65_536, description="Rank of the LoRA matrices.")
    lora_alpha: PositiveNumber | None = Field(None, description="LoRA scaling; twice the rank where absent.")
    lora_dropout: Probability = Field(0.0, description="Dropout of the LoRA input.")
    use_dora: bool = Field(
        False, description="Whether adapters are DoRA: LoRA of the weights' direction, beside their trained magnitude."
    )
    use_rslora: bool = Field(
        False,
        description="Whether LoRA is scaled by `lora_alpha / sqrt(lora_rank)` (rsLoRA), not `lora_alpha / lora_rank`.",
    )
    lora_attn_modules: tuple[AttentionModule, ...] = Field(
        ("q_proj", "v_proj", "output_proj"),
        min_length=1,
        strict=False,
        description="Attention projections that get LoRA matrices; `o_proj` is taken for `output_proj`.",
    )
    apply_lora_to_mlp: bool = Field(True, description="Whether the MLP gets LoRA matrices too.")
    lora_target_modules: (
        Annotated[
            tuple[str, ...],
            Field(min_length=1, strict=False),
            BeforeValidator(_as_list, json_schema_input_type=list[str] | str),
        ]
        | None
    ) = Field(
        None,
        description="Layers that get LoRA matrices by the model's own names, or `all-linear`, in place of what "
        "`lora_attn_modules` and `apply_lora_to_mlp` name (trainer `trl`).",
    )
    max_seq_len: PositiveInt | None = Field(None, description="Tokens a sample is cut to.")
    packed: bool = Field(
        False,
        description="Whether samples are packed, one after the other, into sequences of `max_seq_len` tokens, which "
        "is required then. `batch_size` and steps count packs.",
    )
    training_samples: PositiveInt | None = Field(
        None, description="How many rows of the training split are used, from the first; absent: all."
    )
    input_key: str | None = Field(
        None,
        min_length=1,
        description="Column of the data with the text for `{input}`; absent: `input`. Given to tasks whose function "
        "takes `input_key`.",
    )
    output_key: str | None = Field(
        None,
        min_length=1,
        description="Column of the data with the answers; absent: `output`. Given to tasks whose function takes "
        "`output_key`.",
    )
    max_steps_per_epoch: PositiveInt | None = Field(None, description="Optimizer steps an epoch at the most.")
    clip_grad_norm: PositiveNumber | None = Field(None, description="Gradient norm to clip to.")
    shuffle: bool = Field(True, description="Whether the training split is shuffled every epoch.")
    train_on_input: bool = Field(False, description="Whether the loss counts the prompt's tokens too.")
    mask_history: bool = Field(
        True,
        description="Whether the loss leaves out all answers of a conversation (rows with `messages`) but the last.",
    )
    validation_during_training: bool = Field(
        False, description="Whether the loss on the validation split is computed after every epoch."
    )
    compile: bool = Field(False, description="Whether torch.compile is used.")
    enable_activation_checkpointing: bool = Field(False, description="Recompute activations: less memory, more time.")
    enable_activation_offloading: bool = Field(
        False, description="Keep activations in host memory (CUDA, with activation checkpointing)."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device; `auto` takes a GPU if there is one.")
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Number format; `auto` takes bf16 where a GPU has it, else fp32."
    )

    @property
    def scaling(self) -> float:
        """LoRA scaling: `lora_alpha`, or twice the rank if there is none."""
        return 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha

    @property
    def columns(self) -> Columns:
        """The columns of the data that are trained on."""
        return Columns(self.input_key or DEFAULT_COLUMNS.input, self.output_key or DEFAULT_COLUMNS.output)

    def recorded(self) -> dict[str, Any]:
        """The values as records hold them, without later keys that change nothing: records are older than those."""
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if value not in _SAME_AS_ABSENT.get(name, ())}


# What the best run may be chosen on, besides the score on a task: a name of torchtune's metrics.
VALIDATION_LOSS = "validation_loss"

DatasetType = Literal["chat_completion", "text_completion"]


class ControlsSection(Hyperparameters):
    """What is the same in all runs."""

    system_prompt: str = Field("", description="System prompt of training and evaluation; none where empty.")
    prompt: str = Field("{input}", description="Prompt of training and evaluation; `{input}` is the sample's input.")
    dataset_type: DatasetType = Field(
        "chat_completion",
        description="`chat_completion` uses the model's chat template, `text_completion` is for base models.",
    )
    input_formatting: str | None = Field(
        None, description="Kept for other tools: the folder that the data file is in, which its path names."
    )
    custom_recipe: Annotated[Literal["lora_finetune_single_device"], BeforeValidator(_recipe)] | None = Field(
        None, description="Kept for other tools: the LoRA recipe for one device, which is the one used here."
    )
    save_adapter_weights_only: Literal[True] | None = Field(
        None, description="Kept for other tools: checkpoints are always adapters."
    )
    batch_size_val: PositiveInt | None = Field(
        None, description="Kept for other tools: validation uses `batch_size`, which does not change its loss."
    )
    num_workers: NonNegativeInt | None = Field(
        None, description="Kept for other tools: samples are tokenized before training."
    )
    log_every_n_steps: PositiveInt | None = Field(None, description="Kept for other tools: every step is logged.")


class Parameters(ControlsSection):
    """What differs in one run: any key of `controls`."""

    checkpoint_path: str | None = Field(None, description=_CHECKPOINT)

    def over(self, controls: ControlsSection) -> ControlsSection:
        """What the run is trained and prompted with: its own parameters over those of all runs."""
        own = {name: getattr(self, name) for name in self.model_fields_set & set(ControlsSection.model_fields)}
        merged = controls.model_copy(update=own)
        return merged.model_copy(update={"lora_alpha": merged.scaling})


class BaseModelEntry(Section):
    """A model that is trained or evaluated."""

    shared = True

    name: Name = Field(description="Name that runs refer to.")
    path: str = Field(description="Folder with `config.json`, the tokenizer and safetensors weights.")
    size_gb: Number | None = Field(None, description="Kept for other tools.")


class ModelsSection(Section):
    """The models."""

    shared = True

    base: Annotated[
        list[BaseModelEntry],
        Field(min_length=1),
        BeforeValidator(_as_list, json_schema_input_type=list[BaseModelEntry] | BaseModelEntry),
    ] = Field(description="The base models: one, or a list.")


class TrainingData(Section):
    """The data set that runs are trained on."""

    shared = True

    path: str = Field(
        description="JSON file of splits, each a list of objects with `input` and `output`; or JSON Lines or CSV."
    )
    label: str | None = Field(
        None,
        validation_alias=AliasChoices("label", "dataset_label"),
        description="Name of the data set.",
    )
    format: Literal["json", "jsonl", "csv"] | None = Field(
        None, description="Format; from the file's ending where absent."
    )
    splits: dict[str, NonNegativeInt] | None = Field(None, description="Samples a split; checked against the file.")
    size_kb: Number | None = Field(None, description="Kept for other tools.")


class DataSection(Section):
    """The data."""

    shared = True

    training: TrainingData | None = Field(None, description="The training data; required where a run is fine-tuned.")
    data_generation: Any = Field(None, description="Kept for other tools.")


class OutputSection(Section):
    """Where results of training go."""

    shared = True

    base_directory: str | None = Field(
        None, description="Folder of the runs' artifacts; the experiment folder where absent."
    )
    checkpoint_pattern: str | None = Field(
        None,
        description="Checkpoint folder below it, with `{run}` and `{epoch}`; "
        "`{run}/artifacts/epoch_{epoch}` where absent. Has to end in `epoch_{epoch}`, as torchtune names them, unless "
        "your own job scripts write them.",
    )
    wandb_project: str | None = Field(
        None, description="Weights & Biases project for the training curves (offline mode)."
    )


Option = Annotated[str, Field(pattern=f"^{OPTION_PATTERN}$")]


def _option_value(value: Any) -> Any:
    """The text of an option's value; a flag, `true` in the file, has an empty one."""
    return "" if value is True else str(value) if type(value) is int else value


OptionValue = Annotated[str, BeforeValidator(_option_value), Field(pattern=f"^({OPTION_PATTERN})?$")]


class Compute(Section):
    """What a job requests of the cluster; what is absent is estimated, or is the settings'."""

    time: Annotated[str, Field(pattern=f"^{TIME_PATTERN}$")] | None = Field(None, description="Time limit, HH:MM:SS.")
    gpus: NonNegativeInt | None = Field(None, description="GPUs on each node; several share a training by `trl`.")
    nodes: PositiveInt | None = Field(None, description="Nodes that share a training by `trl`; absent: one.")
    mem: Annotated[str, Field(pattern=f"^{MEMORY_PATTERN}$")] | None = Field(None, description="Memory, like 80G.")
    cpus_per_task: PositiveInt | None = Field(None, description="CPU cores.")
    partition: Option | None = Field(None, description="Partition, instead of the settings'.")
    account: Option | None = Field(None, description="Account, instead of the settings'.")
    constraint: Option | None = Field(None, description="Features of the nodes.")
    qos: Option | None = Field(None, description="Quality of service.")

    # Further options of sbatch by their full names, and the requests that `slurm_overrides` made.
    _options: dict[str, str] = PrivateAttr(default_factory=dict)
    _overridden: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def options(self) -> Mapping[str, str]:
        """Further options of sbatch by their full names; the value of a flag is empty."""
        return self._options

    @property
    def devices(self) -> int:
        """GPUs of all nodes, or nodes without GPUs, that share a training."""
        return (self.nodes or 1) * max(1, self.gpus or 1)

    def key(self, name: str) -> str:
        """The key of the run that a request is or would be written at: `compute.time`."""
        return f"{'slurm_overrides' if name in self._overridden else 'compute'}.{name}"


class SlurmOverrides(Compute):
    """Requests that are stronger than those of `compute`; any further option of sbatch, with - or _ in its name."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, populate_by_name=True)

    __pydantic_extra__: dict[str, OptionValue] = Field(init=False)

    def over(self, other: Compute | None) -> Compute:
        """These requests, and another's for what they leave open."""
        names = self.model_fields_set & set(Compute.model_fields)
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        merged = (other or Compute()).model_copy(update=own)
        merged._overridden = frozenset(own)
        merged._options = {name.replace("_", "-"): value for name, value in (self.model_extra or {}).items()}
        return merged


RunType = Literal["fine-tuned", "control", "eval-only"]


class RunEntry(Section):
    """One run: a model to train and evaluate, or to evaluate as it is."""

    name: Name = Field(description="Name of the run and of its folder.")
    type: RunType = Field(
        "fine-tuned",
        description="`fine-tuned` is trained here, `control` is the base model as it is, "
        "`eval-only` a checkpoint made elsewhere.",
    )
    model: str | None = Field(None, description="Name of its base model; may be absent where there is only one.")
    parameters: Parameters = Field(default_factory=Parameters, description="What differs from `controls`.")
    checkpoint_path: str | None = Field(None, description=_CHECKPOINT)
    trainer: TrainerName | None = Field(None, description="Its trainer, instead of `tools.preparation`.")
    compute: Compute | None = Field(None, description="What its training requests of the cluster.")
    slurm_overrides: SlurmOverrides | None = Field(
        None, description="The same, and stronger, with any further option of sbatch: other tools write it here."
    )
    data: str | None = Field(
        None,
        validation_alias=AliasChoices("data", "dataset_path"),
        description="Data file of its training instead of `data.training.path`; its tasks then name their `dataset`.",
    )
    training_condition: str | None = Field(
        None, description="Name of its data in other tools; here `data` chooses the file and is required beside it."
    )


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
    script: str = Field(description="The task's Python file, `task.py` or `task.py@function`.")
    dataset: str | None = Field(
        None,
        description="Data file given to the task as `data_path`; `same` or absent: the training data's file.",
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
        BeforeValidator(_as_list, json_schema_input_type=list[str] | str),
    ] = Field(description="Names of tasks.")
    epochs: (
        Annotated[
            list[NonNegativeInt],
            BeforeValidator(_as_list, json_schema_input_type=list[NonNegativeInt] | NonNegativeInt),
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
        BeforeValidator(_as_list, json_schema_input_type=list[ScorerEntry] | ScorerEntry),
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


class ExperimentSummary(Section):
    """An experiment, as its `experiment_summary.yaml` tells it."""

    experiment: ExperimentSection = Field(description="What the experiment is about.")
    tools: ToolsSection = Field(default_factory=ToolsSection, description="Which tools are used.")
    variables: dict[str, list[Any]] = Field(default_factory=dict, description="What varies, with the values tried.")
    controls: ControlsSection = Field(default_factory=ControlsSection, description="What is the same in all runs.")
    models: ModelsSection = Field(description="The models.")
    data: DataSection = Field(default_factory=DataSection, description="The data.")
    output: OutputSection = Field(default_factory=OutputSection, description="Where results of training go.")
    runs: list[RunEntry] = Field(min_length=1, description="The runs.")
    evaluation: EvaluationSection = Field(description="How models are evaluated.")


ITEM = "[]"


def sections(
    model: type[Section] = ExperimentSummary, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    """Every section with the path of its keys in the file; `[]` stands for an entry of a list."""
    yield path, model
    for name, field in model.model_fields.items():
        for section, is_item in _sections_of(field.annotation):
            for key in model.keys(name):
                yield from sections(section, (*path, key, *((ITEM,) if is_item else ())))


def _sections_of(annotation: Any, in_list: bool = False) -> Iterator[tuple[type[Section], bool]]:
    """Sections that an annotation like `list[X]` or `X | None` holds, and whether as items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, in_list
    for part in get_args(annotation):
        yield from _sections_of(part, in_list or getattr(annotation, "__origin__", None) is list)
