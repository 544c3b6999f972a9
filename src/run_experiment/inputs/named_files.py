"""Files and folders that a task is told to read, by its arguments or in its source: their content counts."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from run_experiment.common.json_files import config_hash
from run_experiment.inputs.data_files import file_hash
from run_experiment.inputs.model_fingerprint import model_fingerprint
from run_experiment.inputs.task_signature import TaskScriptError, parse_script

_LONGEST = 1024
# Of a folder with more files, sizes and times count in place of contents.
_MOST_FILES = 10_000


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


def content_hash(path: Path, hash_file: Callable[[Path], str] = file_hash) -> str:
    """SHA-256 of a file's bytes, or of what is in a folder. Raises DataError or OSError if it cannot be read."""
    if not path.is_dir():
        return hash_file(path)
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return model_fingerprint(path)
    files = sorted(_visible(path))
    if len(files) > _MOST_FILES:
        stats = {str(file.relative_to(path)): file.stat() for file in files}
        return config_hash({name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()})
    return config_hash({str(file.relative_to(path)): hash_file(file) for file in files})


def _visible(folder: Path) -> Iterator[Path]:
    """Files in a folder and those below it, without hidden ones and caches of Python."""
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _visible(path)
        elif path.is_file():
            yield path


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
