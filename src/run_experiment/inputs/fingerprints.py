"""Hashes of what a result depends on: a file, a folder, a base model.

Those of models are made in a second, by reading a sample of every tensor instead of gigabytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from run_experiment.common.errors import CheckpointError
from run_experiment.common.json_files import config_hash
from run_experiment.inputs.file_hashes import file_hash

# Of a folder with more files, sizes and times count in place of contents.
_MOST_FILES = 10_000
_SMALL = (".json", ".model", ".txt", ".jinja")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_BLOCK = 64 * 1024
_BLOCKS = 64
# Bytes read at the beginning, in the middle and at the end of each tensor.
_OF_TENSOR = 4096
# A safetensors file begins with the size of its header, in this many bytes; a larger header is not one.
_PREFIX, _LARGEST_HEADER = 8, 100 * 1024 * 1024


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


def model_fingerprint(folder: Path) -> str:
    """SHA-256 that changes with a model folder's weights, configuration or tokenizer; file times do not count.

    Small files (`*.json`, `*.model`, `*.txt`, `*.jinja`) are hashed whole. Of weight files larger than 4 MiB it is the
    size, 65 evenly spaced blocks of 64 KiB, and of safetensors the header and three blocks of 4 KiB of each tensor:
    training changes all of a tensor; an edit of a few of its values may not be seen. Subfolders do not count.
    Raises CheckpointError where there is no folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no model folder {folder}")
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _SMALL + _WEIGHTS:
            digest.update(f"{path.name}\0{_sampled_hash(path)}\0".encode())
    return digest.hexdigest()


def _sampled_hash(path: Path) -> str:
    size = path.stat().st_size
    if path.suffix in _SMALL or size <= _BLOCK * (_BLOCKS + 1):
        return file_hash(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        blocks = [((size - _BLOCK) * number // _BLOCKS, _BLOCK) for number in range(_BLOCKS + 1)]
        for start, length in [*blocks, *(_of_tensors(file) if path.suffix == ".safetensors" else ())]:
            file.seek(start)
            digest.update(file.read(length))
    return digest.hexdigest()


def _of_tensors(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Offsets and lengths of what to read of a safetensors file: its header, and parts of each tensor."""
    file.seek(0)
    length = int.from_bytes(file.read(_PREFIX), "little")
    if length > _LARGEST_HEADER:
        return
    try:
        header = json.loads(file.read(length))
        places = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
        data = _PREFIX + length
        yield 0, data
        for begin, end in places:
            if not 0 <= begin <= end:
                return
            last = max(begin, end - _OF_TENSOR)
            for start in (begin, (begin + last) // 2, last):
                yield data + start, min(_OF_TENSOR, end - start)
    # Of other files only the evenly spaced blocks are read.
    except (ValueError, TypeError, KeyError, AttributeError):
        return
