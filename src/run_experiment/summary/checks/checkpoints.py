"""Checkpoints that eval-only runs name: whether they can be loaded, and whether they are of the run's model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from run_experiment.checkpoints.verify import checkpoint_files, read_json, require_loadable
from run_experiment.common.errors import CheckpointError
from run_experiment.common.json_files import mapping, read_record
from run_experiment.common.paths import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.experiment.schema import BaseModelEntry, RunEntry
from run_experiment.finetuning.model_files import first_problem, folder_problem
from run_experiment.inputs.safetensors_header import tensor_shapes
from run_experiment.summary.draft import Draft, Finding
from run_experiment.summary.path_hints import (
    folder_within,
    holds_checkpoint,
    other_adapter,
    sharded_state,
    why_missing,
)

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
    if not os.access(where, os.R_OK | os.X_OK):
        yield Finding(path, f"you have no right to look into {shown(str(where), 200)}")
        return
    try:
        files = checkpoint_files(where)
    except (CheckpointError, OSError) as error:
        expected = f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}, or config.json and *.safetensors"
        hint = folder_within(where, holds_checkpoint) or sharded_state(where) or other_adapter(where)
        hint = hint or f"; expected {expected}"
        yield Finding(path, f"{shown(str(error), 500)[1:-1]}{hint}")
        return
    is_adapter = os.path.isfile(where / ADAPTER_CONFIG)
    if problem := first_problem(where, lambda _: _files_problem(where, files), *([] if is_adapter else [_whole_model])):
        yield Finding(path, shown(problem, 500)[1:-1])
    elif is_adapter and model:
        yield from _of_other_model(path, where, model, folder)
        yield from _of_other_use(path, where)
        yield from _of_random_start(path, where)
        yield from _other_tokenizer(path, where, folder / model.path)


def _files_problem(where: Path, files: Iterable[Path]) -> None:
    """Raises CheckpointError for a file that cannot be read or loaded."""
    require_loadable(where)
    for file in files:
        if file.suffix == ".safetensors":
            tensor_shapes(file)
        elif file.name == ADAPTER_CONFIG:
            read_json(file)


def _whole_model(where: Path) -> str | None:
    return folder_problem(where, is_base=False)


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
    """The last part of a model's name or path, by which people know it; a path may be of Windows."""
    cached = _IN_CACHE.search(path)
    return (cached[1] if cached else re.split(r"[/\\]", path.rstrip("/\\"))[-1]).lower()


def _of_other_use(path: KeyPath, where: Path) -> Iterator[Finding]:
    """An adapter for classification, say, brings a head that generating text does without."""
    use = (read_record(where / ADAPTER_CONFIG) or {}).get("task_type")
    if isinstance(use, str) and use != "CAUSAL_LM":
        message = f"the adapter was trained for {shown(use)}, and is evaluated by the text that its model generates"
        yield Finding(path, message, warning=True)


def _of_random_start(path: KeyPath, where: Path) -> Iterator[Finding]:
    """An adapter that belongs to what a random algorithm leaves of its model: each loading leaves something else."""
    start = str((read_record(where / ADAPTER_CONFIG) or {}).get("init_lora_weights"))
    if start.startswith("pissa_niter"):
        message = f"the adapter began as {start}, which draws random numbers again whenever it is loaded"
        advice = "save it as plain LoRA, with path_initial_model_for_weight_conversion of peft's save_pretrained"
        yield Finding(path, f"{message}, so its results differ; {advice}", warning=True)


def _other_tokenizer(path: KeyPath, where: Path, model: Path) -> Iterator[Finding]:
    """An adapter's folder may bring the tokenizer that it was trained with; its base model's is used."""
    for difference in _differences(where, model):
        message = f"{shown(str(where), 200)} has {difference}; evaluations use the base model's"
        yield Finding(path, message, warning=True)


def _differences(where: Path, model: Path) -> Iterator[str]:
    own, base = _template(where), _template(model)
    if own is not None and own != base:
        yield "a chat template that is not the base model's"
    more = _tokens(where) - _tokens(model)
    if more:
        yield f"tokens that the base model's tokenizer lacks ({shown(sorted(more)[0])})"
    ends, base_ends = _eos(where), _eos(model)
    if ends and base_ends and ends != base_ends:
        yield f"{shown(ends)} as the token that ends an answer, in place of {shown(base_ends)}"


def _template(folder: Path) -> Any:
    """The chat template that a folder's tokenizer uses by default; None if there is none."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        found = _tokenizer_config(folder).get("chat_template")
    if isinstance(found, list):
        named = [one for one in found if isinstance(one, dict)]
        found = next((one.get("template") for one in named if one.get("name") == "default"), None)
    return found.strip() if isinstance(found, str) else found


def _tokens(folder: Path) -> set[str]:
    """Tokens that were added to the vocabulary of a folder's tokenizer."""
    added = (read_record(folder / "tokenizer.json") or {}).get("added_tokens") or []
    tokens = [*added, *mapping(_tokenizer_config(folder).get("added_tokens_decoder")).values()]
    return {str(token.get("content")) for token in tokens if isinstance(token, dict)} | {
        *(read_record(folder / "added_tokens.json") or {})
    }


def _eos(folder: Path) -> str | None:
    """The token that ends an answer, written as text or as an object."""
    token = _tokenizer_config(folder).get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    return read_record(folder / "tokenizer_config.json") or {}
