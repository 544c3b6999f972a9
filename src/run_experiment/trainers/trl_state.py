"""What a training with TRL has saved to resume from, within an epoch or after one; without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from run_experiment.common.json_files import read_record, write_record
from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CHECKPOINT_NAME
from run_experiment.finetuning.resume_state import PARTIAL, sync_files, sync_folder

# Folder of the states in a training's output folder; transformers names each `checkpoint-STEP`.
STATES = "resume_state"
_STATE = "checkpoint-*"
# Written last into a state, which is whole with it: its step, complete epochs, configuration and the files' sizes.
_WHOLE = "whole.json"


def state_folder(output_dir: Path, step: int) -> Path:
    """Folder of the state after an optimizer step (from 1)."""
    return output_dir / STATES / _STATE.replace("*", str(step))


def finish_state(folder: Path, facts: dict[str, Any]) -> None:
    """Mark a state as whole, once its files are on disk for good, and remove the older ones. Raises OSError."""
    sync_files(folder)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    write_record(folder / _WHOLE, {**facts, "sizes": sizes})
    sync_folder(folder)
    for other in folder.parent.glob(_STATE):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def newest_state(output_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole state of which all complete epochs are there, and what it says of itself."""
    found = [(folder, facts) for folder in (output_dir / STATES).glob(_STATE) if (facts := _facts(folder))]
    usable = [(folder, facts) for folder, facts in found if _has_epochs(output_dir, facts["epochs"])]
    return max(usable, key=lambda one: int(one[1]["step"]), default=None)


def what_is_missing(output_dir: Path) -> str | None:
    """Why a training cannot resume although there are states or epochs; None if there are none."""
    states = sorted((output_dir / STATES).glob(_STATE))
    if not states:
        epochs = any(output_dir.glob(CHECKPOINT_NAME.format(epoch="*")))
        return f"{STATES} is missing" if epochs else None
    broken = next((folder.name for folder in states if not _facts(folder)), None)
    return f"{STATES}/{broken} is not whole" if broken else "an epoch before the saved state is missing"


def drop_state(output_dir: Path) -> None:
    """Remove the states and partial epochs."""
    shutil.rmtree(output_dir / STATES, ignore_errors=True)
    for folder in output_dir.glob(PARTIAL.format(epoch="*")):
        shutil.rmtree(folder, ignore_errors=True)


def state_files(output_dir: Path) -> Iterator[Path]:
    """The marks of whole states."""
    return output_dir.glob(f"{STATES}/{_STATE}/{_WHOLE}")


def _facts(folder: Path) -> dict[str, Any] | None:
    """What a state says of itself; None unless it is whole."""
    facts = read_record(folder / _WHOLE)
    if not facts or not {"step", "epochs", "sizes"} <= facts.keys():
        return None
    whole = all(_size(folder / name) == size for name, size in facts["sizes"].items())
    return facts if whole else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _has_epochs(output_dir: Path, count: int) -> bool:
    folders = [output_dir / CHECKPOINT_NAME.format(epoch=epoch) for epoch in range(count)]
    return all(_holds_weights(folder) for folder in folders)


def _holds_weights(folder: Path) -> bool:
    """Whether an epoch's folder has its adapter, or a whole model."""
    if (folder / ADAPTER_CONFIG).is_file():
        return (folder / ADAPTER_WEIGHTS).is_file()
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def deciding(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that decides the result, which a training that resumes has to share."""
    left_out = {"model", "tokenizer", "output_dir", "data", "save_every_minutes", "wandb_project", "resume_from"}
    # Like the data's rows, part of a job's configuration where it matters.
    left_out |= {"mask_history"}
    left_out |= {"per_device_train_batch_size", "gradient_accumulation_steps"}
    kept = {name: value for name, value in config.items() if name not in left_out}
    values = {name: deciding(value) if isinstance(value, dict) else value for name, value in kept.items()}
    return dict(json.loads(json.dumps(values)))
