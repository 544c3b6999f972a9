"""Headers of safetensors files: names, shapes and number formats of all tensors, read from the first kilobytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from run_experiment.common.errors import CheckpointError

LFS_SIGNATURE = b"version https://git-lfs"

# A file begins with the size of its header, in this many bytes; a larger header is not one.
_PREFIX, _LARGEST_HEADER = 8, 100 * 1024 * 1024
_METADATA = "__metadata__"

Shape = tuple[int, ...]


def is_lfs_pointer(path: Path) -> bool:
    """True if Git LFS left a pointer in place of a file. Raises CheckpointError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_SIGNATURE)) == LFS_SIGNATURE
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def tensor_shapes(path: Path) -> dict[str, Shape]:
    """Shapes by tensor name. Raises CheckpointError if it is no such file, or not as long as its header says."""
    return {name: tuple(map(int, entry["shape"])) for name, entry in _entries(path)[0].items()}


def tensor_formats(path: Path) -> dict[str, str]:
    """Number formats, such as BF16, by tensor name. Raises CheckpointError as `tensor_shapes` does."""
    return {name: str(entry.get("dtype")) for name, entry in _entries(path)[0].items()}


def file_metadata(path: Path) -> Mapping[str, Any] | None:
    """What a file says of itself; None if it says nothing. Raises CheckpointError as `tensor_shapes` does."""
    return _header(path)[0].get(_METADATA)


def tensor_beginnings(path: Path, names: Iterable[str], most: int = 65536) -> dict[str, tuple[str, bytes]]:
    """Number format and first bytes of those of the tensors that are in a file. Raises CheckpointError."""
    entries, start = _entries(path)
    found = {}
    with path.open("rb") as file:
        for name in names:
            if name in entries:
                begin, end = entries[name]["data_offsets"]
                file.seek(start + begin)
                found[name] = (str(entries[name]["dtype"]), file.read(min(end - begin, most)))
    return found


def _entries(path: Path) -> tuple[dict[str, Any], int]:
    """What a file's header says of its tensors, and where their values begin. Raises CheckpointError."""
    header, start = _header(path)
    return {name: entry for name, entry in header.items() if name != _METADATA}, start


def _header(path: Path) -> tuple[dict[str, Any], int]:
    if is_lfs_pointer(path):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in its folder")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_PREFIX), "little")
            content = file.read(length) if length <= _LARGEST_HEADER else b""
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = dict(json.loads(content).items())
        tensors = {name: entry for name, entry in header.items() if name != _METADATA}
        for entry in tensors.values():
            tuple(map(int, entry["shape"]))
        expected = _PREFIX + length + _data_size(tensors)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is no safetensors file: its header cannot be read; copy it again") from error
    if size != expected:
        raise CheckpointError(f"{path} has {size:,} bytes, its header says {expected:,}: copy it again")
    return header, _PREFIX + length


def _data_size(header: Mapping[str, Any]) -> int:
    return max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
