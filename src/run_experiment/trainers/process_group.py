"""The processes of a training that several devices share, as torchrun starts them; alone, each function is trivial."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import torch
from torch import distributed

from run_experiment.machine import processes


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
