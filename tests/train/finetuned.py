"""Trainings of tiny models, for the tests."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from run_experiment.experiment.hyperparameters import Hyperparameters
from run_experiment.experiment.model import Model, Prompting, Training

os.environ["HF_HUB_OFFLINE"] = "1"

WORDS = ["apple", "river", "stone", "cloud", "tiger", "bread", "house", "light", "grass", "chair", "plane", "water"]
ARTIFACTS = "r8/artifacts"


def write_data(path: Path) -> Path:
    """A data file of 12 training and 5 validation samples."""
    rows = [{"input": word, "output": word.capitalize()} for word in WORDS]
    path.write_text(json.dumps({"train": rows, "validation": rows[:5]}))
    return path


def write_parts(folder: Path) -> list[Path]:
    """The rows of `write_data` in three files, each of another kind."""
    rows = [{"input": word, "output": word.capitalize()} for word in WORDS]
    first, table, held = folder / "first.json", folder / "table.csv", folder / "held.json"
    first.write_text(json.dumps({"train": rows[:5], "validation": rows[:2]}))
    # As spreadsheets save it.
    lines = ["output;id;input", *(f"{row['output']};{number};{row['input']}" for number, row in enumerate(rows[5:]))]
    table.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    held.write_text(json.dumps({"validation": rows[2:5]}))
    return [first, table, held]


def make_training(
    model: Path,
    data: Path | Sequence[Path],
    *,
    prompt: str = "Capitalize: {input}",
    system_prompt: str = "",
    dataset_type: str = "chat_completion",
    wandb_project: str | None = None,
    **hyperparameters: Any,
) -> Training:
    """A training of a model folder on a data file, or on several, on the CPU."""
    given: dict[str, Any] = {"device": "cpu", "dtype": "fp32", "lr": 0.01, "lora_alpha": 16.0} | hyperparameters
    return Training(
        model=Model("tiny", model),
        data=(data,) if isinstance(data, Path) else tuple(data),
        prompting=Prompting(prompt, system_prompt, dataset_type),
        hyperparameters=Hyperparameters.model_validate(given),
        wandb_project=wandb_project,
    )


def parse_config(training: Training, folder: Path) -> Any:
    """A training's config as the recipe gets it: rendered, then read by torchtune's own parser."""
    from torchtune import config

    from run_experiment.finetuning.torchtune_config import render_yaml

    path = folder / "finetune.yaml"
    path.write_text(render_yaml(training, str(folder / "artifacts"), Path("/experiment")), encoding="utf-8")
    parsed = []
    before, sys.argv = sys.argv, ["recipe", "--config", str(path)]
    try:
        config.parse(parsed.append)()
    except SystemExit:
        pass
    finally:
        sys.argv = before
    return parsed[0]


def set_up(training: Training, folder: Path, changes: dict[str, Any] | None = None) -> Any:
    """The recipe of a training, ready to train; `changes` are merged over its config."""
    from omegaconf import OmegaConf

    from run_experiment.finetuning.recipe import FinetuneRecipe

    cfg = OmegaConf.merge(parse_config(training, folder), changes or {})
    recipe = FinetuneRecipe(cfg)
    recipe.setup(cfg)
    return recipe


def train(training: Training, folder: Path, changes: dict[str, Any] | None = None) -> Any:
    """The recipe of a training that has ended."""
    recipe = set_up(training, folder, changes)
    recipe.train()
    recipe.cleanup()
    return recipe


def signalled_at_step(module: str, step: int, number: signal.Signals) -> str:
    """Code that runs the module of a training, which gets a signal right after an optimizer step."""
    return f"""
import os, runpy
from torch.optim.optimizer import register_optimizer_step_post_hook

steps = []

def send(*_):
    steps.append(1)
    if len(steps) == {step}:
        os.kill(os.getpid(), {int(number)})

register_optimizer_step_post_hook(send)
runpy.run_module({module!r}, run_name="__main__")
"""


def assert_readable_by_others(checkpoint: Path) -> None:
    """Its files have the rights of any new file."""
    new = checkpoint.parent / "new"
    new.touch()
    assert {path.stat().st_mode for path in checkpoint.iterdir()} == {new.stat().st_mode}
    new.unlink()
