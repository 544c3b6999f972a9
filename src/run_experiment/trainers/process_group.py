"""The processes of a training that several devices share, as torchrun starts them; alone, each function is trivial."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch
from torch import distributed

from run_experiment.machine import processes

# The file that torchrun gives each process for the error that ends it.
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def count() -> int:
    """Processes of the training, one a device."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes files and messages."""
    return rank() == 0


def end_with_parent() -> None:
    """Have this process killed if torchrun is, which starts it in a session of its own."""
    if count() > 1:
        processes.end_with_parent(signal.SIGKILL)


def summed(values: Sequence[float], device: torch.device) -> list[float]:
    """The sums of all processes' values."""
    if count() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return [float(value) for value in total]


def wait_for_all() -> None:
    """Return once all processes are here."""
    if count() > 1:
        distributed.barrier()


@contextmanager
def errors_told() -> Iterator[None]:
    """Tell torchrun of an error that ends this process."""
    try:
        yield
    except Exception as error:
        _tell(f"{type(error).__name__}: {error}")
        raise


def end(message: str) -> NoReturn:
    """End this process with a message, which the first process says itself, and others leave to torchrun."""
    if is_first():
        sys.exit(message)
    _tell(message)
    sys.exit(1)


def failed_at(error_file: Path) -> float | None:
    """When a process told of the error that ended it, in seconds; None if it told of none."""
    try:
        return error_file.stat().st_mtime
    except OSError:
        return None


def _tell(message: str) -> None:
    if path := os.environ.get(_ERROR_FILE):
        Path(path).write_text(json.dumps({"message": message, "timestamp": int(time.time())}), encoding="utf-8")
