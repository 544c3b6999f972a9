"""TRL's SFTTrainer with peft, on models of transformers; it resumes within epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_experiment.common.json_files import Config, mapping
from run_experiment.trainers import trl_state
from run_experiment.trainers.trainer import Resumption, Sizes, Trainer, whole_numbers

if TYPE_CHECKING:
    from run_experiment.experiment.hyperparameters import Hyperparameters
    from run_experiment.experiment.model import Training

_SFT, _BATCH, _ACCUMULATION = "sft", "per_device_train_batch_size", "gradient_accumulation_steps"


class Trl(Trainer):
    """Trains with `trl_recipe`; `sft` in its config is SFTConfig's, `peft` LoraConfig's."""

    name = package = "trl"
    extra = "train-trl"
    module = "run_experiment.trainers.trl_recipe"
    shares = True

    def render(self, training: Training, output_dir: str, folder: Path, tokenizer: str | None = None) -> str:
        """A config with SFTConfig's and LoraConfig's names."""
        from run_experiment.trainers.trl_config import render_yaml

        return render_yaml(training, output_dir, folder, tokenizer)

    def model_problem(self, model_dir: Path) -> str | None:
        """An architecture that is not tested, or files that cannot be loaded."""
        from run_experiment.trainers.trl_config import model_problem

        return model_problem(model_dir)

    def option_problems(self, given: Hyperparameters, model_dir: Path) -> Mapping[str, str]:
        """Options that change the result in ways that are not tested."""
        from run_experiment.trainers.trl_config import option_problems

        return option_problems(given, model_dir)

    def max_seq_len(self, training: Training) -> int:
        """At most what the model can take."""
        from run_experiment.trainers.trl_config import max_seq_len

        return max_seq_len(training)

    def resumption(self, output_dir: Path) -> Resumption | None:
        """After the step of the newest whole state."""
        found = trl_state.newest_state(output_dir)
        if found is None:
            return None
        folder, facts = found
        return Resumption(int(facts["epochs"]), {"resume_from": folder.name}, f"step {facts['step']}")

    def what_is_missing(self, output_dir: Path) -> str | None:
        """The state that is not whole."""
        return trl_state.what_is_missing(output_dir)

    def states(self, output_dir: Path) -> Iterator[Path]:
        """The marks of whole states."""
        return trl_state.state_files(output_dir)

    def drop_state(self, output_dir: Path) -> None:
        """Remove the states and partial epochs."""
        trl_state.drop_state(output_dir)

    def seed(self, config: Mapping[str, Any]) -> int | None:
        """The seed of adapters, dropout and data order."""
        seed = mapping(config.get(_SFT)).get("seed")
        return seed if isinstance(seed, int) else None

    def sizes(self, config: Mapping[str, Any]) -> Sizes | None:
        """As TRL names them."""
        given = mapping(config.get(_SFT))
        return whole_numbers(given.get(_BATCH), given.get(_ACCUMULATION, 1))

    def with_sizes(self, sizes: Sizes) -> Config:
        """As TRL names them."""
        return {_SFT: {_BATCH: sizes.batch, _ACCUMULATION: sizes.accumulation}}
