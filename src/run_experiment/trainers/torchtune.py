"""torchtune's LoRA recipe for one device, on Llama and Qwen2; it resumes after whole epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common.json_files import Config
from run_experiment.common.paths import CHECKPOINT_NAME
from run_experiment.finetuning import resume_state
from run_experiment.trainers.trainer import Resumption, Sizes, Trainer, whole_numbers

if TYPE_CHECKING:
    from run_experiment.experiment.hyperparameters import Hyperparameters
    from run_experiment.experiment.model import Training

_BATCH, _ACCUMULATION = "batch_size", "gradient_accumulation_steps"

# Why a key that is set cannot be done, and the way out; `docs` has the same texts.
CANNOT: Mapping[str, str] = {
    "full_finetuning": "it trains LoRA adapters here (write trainer `trl`)",
    "load_in_4bit": "it trains on the model as it is (write trainer `trl`)",
    "use_dora": "it trains plain LoRA here (write trainer `trl`)",
    "use_rslora": "it trains plain LoRA here (write trainer `trl`, or another lora_alpha)",
    "weight_key": "its loss counts all rows alike (write trainer `trl`)",
    "fsdp": "it trains on one GPU here (write trainer `trl`)",
    "lora_target_modules": "write lora_attn_modules and apply_lora_to_mlp (or trainer `trl`)",
}


class Torchtune(Trainer):
    """Trains with `finetuning.recipe`, whose config is torchtune's."""

    name = package = "torchtune"
    extra = "train"
    module = "run_experiment.finetuning.recipe"

    def render(self, training: Training, output_dir: str, folder: Path, tokenizer: str | None = None) -> str:
        """A config with torchtune's components."""
        from run_experiment.finetuning.torchtune_config import render_yaml

        return render_yaml(training, output_dir, folder, tokenizer)

    def model_problem(self, model_dir: Path) -> str | None:
        """Raises ModelError if torchtune would build another model than transformers does."""
        from run_experiment.finetuning.architecture import lora_builder
        from run_experiment.finetuning.model_files import folder_problem, training_problem

        lora_builder(model_dir)
        return folder_problem(model_dir) or training_problem(model_dir)

    def option_problems(self, given: Hyperparameters, model_dir: Path) -> Mapping[str, str]:
        """Adapters other than plain LoRA."""
        return {key: f"cannot be used with torchtune: {why}" for key, why in CANNOT.items() if getattr(given, key)}

    def max_seq_len(self, training: Training) -> int:
        """At most what the model can take."""
        from run_experiment.finetuning.torchtune_config import max_seq_len

        return max_seq_len(training)

    def resumption(self, output_dir: Path) -> Resumption | None:
        """After the newest complete epoch."""
        epoch = resume_state.last_whole_epoch(output_dir)
        if epoch is None:
            return None
        return Resumption(epoch + 1, resume_state.resume_changes(epoch), CHECKPOINT_NAME.format(epoch=epoch))

    def what_is_missing(self, output_dir: Path) -> str | None:
        """The first file that is missing or damaged."""
        return resume_state.what_is_missing(output_dir)

    def states(self, output_dir: Path) -> Iterator[Path]:
        """The recipe's states, written with each epoch."""
        return output_dir.glob(f"{CHECKPOINT_NAME.format(epoch='*')}/{resume_state.RECIPE_STATE}")

    def drop_state(self, output_dir: Path) -> None:
        """Remove the recipe's states and partial epochs."""
        resume_state.drop_state(output_dir)

    def seed(self, config: Mapping[str, Any]) -> int | None:
        """The seed of adapters, dropout and data order."""
        seed = config.get("seed")
        return seed if isinstance(seed, int) else None

    def sizes(self, config: Mapping[str, Any]) -> Sizes | None:
        """As torchtune names them."""
        return whole_numbers(config.get(_BATCH), config.get(_ACCUMULATION, 1))

    def with_sizes(self, sizes: Sizes) -> Config:
        """As torchtune names them."""
        return {_BATCH: sizes.batch, _ACCUMULATION: sizes.accumulation}
