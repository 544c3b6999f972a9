"""The trainers that an experiment can choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from run_experiment.common.json_files import Config
from run_experiment.trainers.torchtune import Torchtune
from run_experiment.trainers.trainer import Trainer

_DEFAULT = Torchtune()
TRAINERS: Mapping[str, Trainer] = {trainer.name: trainer for trainer in (_DEFAULT,)}
# What of a configuration says its trainer; configurations of the default one do not have it.
KEY = "trainer"


def trainer_of(config: Mapping[str, Any]) -> Trainer:
    """The trainer of a training's configuration; the default for one that this version does not know."""
    return TRAINERS.get(str(config.get(KEY)), _DEFAULT)


def determinant(name: str) -> Config:
    """What a trainer adds to the configuration of a training."""
    return {} if name == _DEFAULT.name else {KEY: name}


def saved_states(output_dir: Path) -> Iterator[Path]:
    """What any trainer has saved in an output folder to resume from."""
    for trainer in TRAINERS.values():
        yield from trainer.states(output_dir)
