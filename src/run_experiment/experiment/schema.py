"""The models of `experiment_summary.yaml`: every key a user may write, its type and its default.

The JSON schema and the reference page are generated from these models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import AliasChoices, BeforeValidator, Field, NonNegativeInt, PositiveInt

from run_experiment.experiment.compute import Compute, SlurmOverrides
from run_experiment.experiment.evaluation_section import EvaluationSection
from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.section import Name, Number, Section, as_list

_RECIPE = "lora_finetune_single_device"
# What other tools call versions of the recipe that trains here.
_RECIPES = {f"cruijff_kit.tools.torchtune.custom_recipes.{_RECIPE}_{version}" for version in ("stable", "nightly")}


def _recipe(value: Any) -> Any:
    """Take other tools' names of the LoRA recipe for one device for torchtune's."""
    return _RECIPE if isinstance(value, str) and value in _RECIPES else value


_CHECKPOINT = (
    "For eval-only runs: the checkpoint's folder. A whole model is evaluated with the tokenizer and chat template in "
    "its folder, if there are any; an adapter always with those of its base model."
)


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
        None, description="Kept for other tools: the LoRA recipe for one device."
    )
    save_adapter_weights_only: Literal[True] | None = Field(
        None, description="Kept for other tools: checkpoints hold adapters, but for `full_finetuning`."
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
        BeforeValidator(as_list, json_schema_input_type=list[BaseModelEntry] | BaseModelEntry),
    ] = Field(description="The base models: one, or a list.")


# Joined in their order.
DataFiles = Annotated[list[str], Field(min_length=1), BeforeValidator(as_list, json_schema_input_type=list[str] | str)]


class TrainingData(Section):
    """The data set that runs are trained on."""

    shared = True

    path: DataFiles = Field(
        description="JSON file of splits, each a list of objects with `input` and `output`; or JSON Lines or CSV. Of "
        "several files the rows of a split are joined in their order."
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
    data: DataFiles | None = Field(
        None,
        validation_alias=AliasChoices("data", "dataset_path"),
        description="Data files of its training instead of `data.training.path`; its tasks then name their `dataset`.",
    )
    training_condition: str | None = Field(
        None, description="Name of its data in other tools; here `data` chooses the file and is required beside it."
    )


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
