"""The trainers that an experiment can choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from run_experiment.trainers.torchtune import Torchtune
from run_experiment.trainers.trainer import Trainer
from run_experiment.trainers.trl import Trl

_DEFAULT = Torchtune()
TRAINERS: Mapping[str, Trainer] = {trainer.name: trainer for trainer in (_DEFAULT, Trl())}


def trainer_of(config: Mapping[str, Any]) -> Trainer:
    """The trainer of a training's configuration; the default for one that this version does not know."""
    return TRAINERS.get(str(config.get("trainer")), _DEFAULT)


def saved_states(output_dir: Path) -> Iterator[Path]:
    """What any trainer has saved in an output folder to resume from."""
    for trainer in TRAINERS.values():
        yield from trainer.states(output_dir)
