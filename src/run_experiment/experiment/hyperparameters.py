"""The hyperparameters of a training, as `experiment_summary.yaml` names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt

from run_experiment.experiment.columns import DEFAULT_COLUMNS, Columns
from run_experiment.experiment.section import NonNegativeNumber, PositiveNumber, Probability, Section, Seed, as_list

MOST_EPOCHS = 10_000

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


# Hyperparameters that are newer than records, with the values that are the same as leaving them out.
_SAME_AS_ABSENT: Mapping[str, tuple[Any, ...]] = {
    "packed": (False,),
    "training_samples": (None,),
    "use_dora": (False,),
    "use_rslora": (False,),
    "lora_target_modules": (None,),
    "full_finetuning": (False,),
    "load_in_4bit": (False,),
    "input_key": (None, DEFAULT_COLUMNS.input),
    "output_key": (None, DEFAULT_COLUMNS.output),
    "weight_key": (None,),
    "mask_history": (True,),
    "fsdp": (False,),
}


# What only trainings of adapters have.
OF_ADAPTERS = (
    "load_in_4bit",
    *("lora_rank", "lora_alpha", "lora_dropout", "use_dora", "use_rslora"),
    *("lora_attn_modules", "apply_lora_to_mlp", "lora_target_modules"),
)


def _module(value: Any) -> Any:
    """Take Hugging Face's name of the last attention projection for torchtune's."""
    return "output_proj" if value == "o_proj" else value


AttentionModule = Annotated[Literal["q_proj", "k_proj", "v_proj", "output_proj"], BeforeValidator(_module)]


class Hyperparameters(Section):
    """How a run is trained. In `controls` they hold for all runs, in a run's `parameters` for that run."""

    epochs: PositiveInt = Field(1, le=MOST_EPOCHS, description="Passes over the training split.")
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
    full_finetuning: bool = Field(
        False,
        description="Whether all weights of the model are trained, without an adapter; epochs are whole models then.",
    )
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
    load_in_4bit: bool = Field(
        False,
        description="Whether the model is held in 4 bits while its adapter is trained (QLoRA): less memory, more time.",
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
            BeforeValidator(as_list, json_schema_input_type=list[str] | str),
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
    weight_key: str | None = Field(
        None,
        min_length=1,
        description="Column of the data with how much each row of the training split counts in the loss, beside the "
        "others of its step: a number above 0 (trainer `trl`). Absent: all alike.",
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
    fsdp: bool = Field(
        False, description="Divide the model's weights among the GPUs that share the training: less memory, more time."
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

    def used(self, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """The values that a training uses: those of adapters are none of a whole model's."""
        return self.model_dump(mode=mode, exclude=set(OF_ADAPTERS) if self.full_finetuning else None)

    def recorded(self) -> dict[str, Any]:
        """The values as records hold them, without later keys that change nothing: records are older than those."""
        values = self.used("json")
        return {name: value for name, value in values.items() if value not in _SAME_AS_ABSENT.get(name, ())}
