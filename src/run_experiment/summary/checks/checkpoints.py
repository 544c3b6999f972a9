"""Checkpoints that eval-only runs name: whether they can be loaded, and whether they are of the run's model."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from run_experiment.checkpoints.verify import checkpoint_files, require_loadable
from run_experiment.common.errors import CheckpointError
from run_experiment.common.json_files import read_record
from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.experiment.schema import BaseModelEntry, RunEntry
from run_experiment.inputs.safetensors_header import tensor_shapes
from run_experiment.summary.draft import Draft, Finding
from run_experiment.summary.path_hints import folder_within, holds_checkpoint, sharded_state, why_missing

# A model in the cache of Hugging Face: `models--organisation--name/snapshots/abc`.
_IN_CACHE = re.compile(r"models--[^/]*--([^/]+)/snapshots/[^/]+/?$")


def check_checkpoints(draft: Draft, folder: Path) -> Iterator[Finding]:
    """What is wrong with the checkpoints of eval-only runs; paths are relative to `folder`."""
    for path, run in draft.runs.items():
        written = [((*path, "checkpoint_path"), run.checkpoint_path)]
        written += [((*path, "parameters", "checkpoint_path"), run.parameters.checkpoint_path)]
        for place, text in written:
            if run.type == "eval-only" and text:
                yield from _checkpoint(place, text, _model(draft, run), folder)


def _model(draft: Draft, run: RunEntry) -> BaseModelEntry | None:
    models = list(draft.models.values())
    return next((model for model in models if run.model == model.name), models[0] if len(models) == 1 else None)


def _checkpoint(path: KeyPath, text: str, model: BaseModelEntry | None, folder: Path) -> Iterator[Finding]:
    where = folder / text
    if not os.path.isdir(where):
        yield Finding(path, f"there is no folder {shown(str(where), 200)}{why_missing(text, where)}")
        return
    try:
        files = checkpoint_files(where)
        require_loadable(where)
    except (CheckpointError, OSError) as error:
        expected = f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}, or config.json and *.safetensors"
        hint = folder_within(where, holds_checkpoint) or sharded_state(where) or f"; expected {expected}"
        yield Finding(path, f"{shown(str(error), 500)[1:-1]}{hint}")
        return
    try:
        for file in files:
            if file.suffix == ".safetensors":
                tensor_shapes(file)
    except CheckpointError as error:
        yield Finding(path, shown(str(error), 500)[1:-1])
        return
    if model and os.path.isfile(where / ADAPTER_CONFIG):
        yield from _of_other_model(path, where, model, folder)
        yield from _other_template(path, where, folder / model.path)


def _of_other_model(path: KeyPath, where: Path, model: BaseModelEntry, folder: Path) -> Iterator[Finding]:
    """An adapter says which model it was trained on: a name of the Hub, or a folder that may have moved since."""
    trained_on = (read_record(where / ADAPTER_CONFIG) or {}).get("base_model_name_or_path")
    if not isinstance(trained_on, str) or not trained_on:
        return
    known = {_name(model.path), model.name.lower(), _name(os.path.realpath(folder / model.path))}
    if _name(trained_on) not in known:
        said = f"the adapter says that it was trained on {shown(trained_on, 200)}"
        yield Finding(path, f"{said}, and is evaluated on {model.name} ({model.path})", warning=True)


def _name(path: str) -> str:
    """The last part of a model's name or path, by which people know it."""
    cached = _IN_CACHE.search(path)
    return (cached[1] if cached else path.rstrip("/").rpartition("/")[2]).lower()


def _other_template(path: KeyPath, where: Path, model: Path) -> Iterator[Finding]:
    """An adapter's folder may bring the tokenizer that it was trained with; its base model's is used."""
    own, base = _template(where), _template(model)
    if own is not None and own != base:
        message = "has a chat template that is not the base model's; evaluations use the base model's"
        yield Finding(path, f"{shown(str(where), 200)} {message}", warning=True)
    more = _tokens(where) - _tokens(model)
    if more:
        lacking = f"has tokens that the base model's tokenizer lacks ({shown(sorted(more)[0])})"
        message = f"{lacking}; evaluations use the base model's"
        yield Finding(path, f"{shown(str(where), 200)} {message}", warning=True)


def _template(folder: Path) -> Any:
    """The chat template of a folder's tokenizer; None if there is none."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        found = (read_record(folder / "tokenizer_config.json") or {}).get("chat_template")
        return found.strip() if isinstance(found, str) else found


def _tokens(folder: Path) -> set[str]:
    """Tokens that were added to the vocabulary of a folder's tokenizer."""
    added = (read_record(folder / "tokenizer.json") or {}).get("added_tokens") or []
    return {str(token.get("content")) for token in added if isinstance(token, dict)}
