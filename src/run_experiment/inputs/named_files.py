"""Files and folders that a job is told to read, by arguments, configs or a task's source: their content counts."""

from __future__ import annotations

import ast
import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from run_experiment.common import paths
from run_experiment.common.files import regular
from run_experiment.inputs.fingerprints import content_hash
from run_experiment.inputs.task_signature import TaskScriptError, parse_script

_LONGEST = 1024
# As torchtune and OmegaConf fill a text in.
_INTERPOLATED = re.compile(r"\$\{(\w+)\}")
# The one that is written in C is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def named_files(script: Path, values: Any) -> dict[str, Path]:
    """Files and folders that texts in nested values name, by the text; relative ones lie beside the task's script.

    inspect-ai calls a task in its script's folder. Folders that hold the script are not among them.
    """
    script = script.absolute()
    around = (script.resolve(), *script.parents, *script.resolve().parents)
    found = {text: place for text in _texts(values) if (place := _place(script.parent, text)) is not None}
    return {text: place for text, place in found.items() if place.resolve() not in around}


def files_in_source(scripts: Iterable[Path], script: Path) -> dict[str, Path]:
    """Files that texts in the source of a task's `script` and of its imports name."""
    texts = [text for path in scripts for text in _constants(path) if "." in text or "/" in text]
    return {text: place for text, place in named_files(script, texts).items() if place.is_file()}


def files_in_config(config: Path) -> dict[str, Path]:
    """Files that another tool's YAML config names by their whole path, by that; none if the config cannot be read.

    `${key}` in a text stands for the value of a key at the top of the file.
    """
    try:
        values = yaml.load(regular(config).read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    top = values if isinstance(values, dict) else {}
    texts = {_INTERPOLATED.sub(lambda match: str(top.get(match[1], match[0])), text) for text in _texts(values)}
    places = {text: _place(config.parent, text) for text in texts if os.path.isabs(text)}
    return {text: place for text, place in places.items() if place and place.is_file()}


def hashes_of(
    named: Mapping[str, Path], known: Iterable[Path], experiment: Path, hash_file: Callable[[Path], str]
) -> dict[str, Any]:
    """Hashes of named files by the text, but for those that are `known` as something else or that runs make."""
    others, here = {path.resolve() for path in known}, experiment.resolve()
    counted = {
        text: path
        for text, path in sorted(named.items())
        if path.resolve() not in others and not _is_made_here(path.resolve(), here)
    }
    return {text: {"sha256": content_hash(path, hash_file)} for text, path in counted.items()}


def _is_made_here(path: Path, experiment: Path) -> bool:
    """Whether a path is the summary or something that runs make, by its place in the experiment's folder."""
    if not path.is_relative_to(experiment):
        return False
    first = (*path.relative_to(experiment).parts, "")[0]
    return first in {paths.SUMMARY, ".snakemake", *paths.RESERVED_RUN_NAMES} or first.endswith(".log")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _place(folder: Path, text: str) -> Path | None:
    """The file or folder that a text names, absolute; None if it names none."""
    if not 0 < len(text) <= _LONGEST or not text.isprintable():
        return None
    try:
        path = Path(folder, Path(text).expanduser())
        return path if path.is_file() or path.is_dir() else None
    # Names that are too long, and users that do not exist.
    except (OSError, RuntimeError, ValueError):
        return None


def _constants(script: Path) -> Iterator[str]:
    try:
        nodes = ast.walk(parse_script(script))
    except TaskScriptError:
        return
    yield from (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
