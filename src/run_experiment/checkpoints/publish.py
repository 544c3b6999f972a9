"""A folder from which transformers loads a verified checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from run_experiment.checkpoints.verify import read_json
from run_experiment.common.errors import CheckpointError
from run_experiment.common.files import give_usual_rights, replace_link
from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from run_experiment.experiment.model import Model


def publish_checkpoint(checkpoint: Path, model: Model, target: Path) -> Path:
    """Make `target` a folder from which transformers loads a checkpoint, an adapter on `model` or a whole model.

    A target that is right already is left alone. Raises CheckpointError where the checkpoint is not whole, or lies in
    the target itself: making that anew would remove it.
    """
    if not target.is_symlink() and checkpoint.resolve().is_relative_to(target.resolve()):
        raise CheckpointError(f"{checkpoint} lies where verified checkpoints are linked: keep it in another folder")
    if (checkpoint / ADAPTER_CONFIG).exists():
        return _publish_adapter(checkpoint, model, target)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    replace_link(target, checkpoint)
    return target


def _publish_adapter(checkpoint: Path, model: Model, target: Path) -> Path:
    """Publish `adapter_config.json` with the base model's absolute path and the weights, and nothing else.

    A `config.json` beside them would be taken for a whole model's.
    """
    weights = (checkpoint / ADAPTER_WEIGHTS).absolute()
    config = {**read_json(checkpoint / ADAPTER_CONFIG), "base_model_name_or_path": str(model.path.absolute())}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    if not weights.is_file():
        raise CheckpointError(f"{weights} is missing")
    if _is_published(target, text, weights):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        new = Path(beside) / "new"
        new.mkdir()
        (new / ADAPTER_CONFIG).write_text(text, encoding="utf-8")
        if config.get("use_dora"):
            _copy_dora(weights, new / ADAPTER_WEIGHTS)
        else:
            _link(weights, new / ADAPTER_WEIGHTS, from_folder=target.absolute())
        if target.exists():
            target.rename(Path(beside) / "old")
        new.rename(target)
    return target


def _is_published(target: Path, text: str, weights: Path) -> bool:
    try:
        return (
            sorted(path.name for path in target.iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
            and (target / ADAPTER_CONFIG).read_text(encoding="utf-8") == text
            and (target / ADAPTER_WEIGHTS).samefile(weights)
        )
    except OSError:
        return False


def _copy_dora(source: Path, target: Path) -> None:
    """Copy the weights of a DoRA adapter with names that transformers 5 loads, too.

    It takes no magnitudes that are named as peft saves them, says so only in a warning, and computes with others.
    """
    from safetensors.torch import load_file, save_file

    tensors = load_file(source)
    named = {f"{name}.weight" if name.endswith(".lora_magnitude_vector") else name: tensors[name] for name in tensors}
    save_file(named, target, metadata={"format": "pt"})
    give_usual_rights(target)


def _link(source: Path, target: Path, from_folder: Path) -> None:
    """Link to a file in whatever way the file system knows, else copy it.

    The link is relative to the folder where it will lie, so that it survives a move of the experiment.
    """
    with suppress(OSError):
        target.symlink_to(os.path.relpath(source, from_folder))
        return
    with suppress(OSError):
        target.hardlink_to(source)
        return
    shutil.copyfile(source, target)
