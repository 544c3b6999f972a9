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
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parameters_to_vector, vector_to_parameters

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


def shard_frozen(model: torch.nn.Module, device: torch.device) -> None:
    """Divide a model's frozen weights among the processes' devices (FSDP), those of each layer by themselves.

    Each layer's are gathered while it computes. Trained weights stay whole on every device.
    """
    trained = {weights for weights in model.parameters() if weights.requires_grad}
    for weights in trained:
        weights.data = weights.data.to(device)
    mesh = init_device_mesh(device.type, (count(),))
    # The first list in a model is that of its layers; the whole takes what is outside of them.
    layers = next((part for part in model.modules() if isinstance(part, torch.nn.ModuleList)), ())
    for part in (*layers, model):
        # Also the whole, or what one process alone saves would leave it sharded there and gathered elsewhere.
        fully_shard(part, mesh=mesh, ignored_params=trained, reshard_after_forward=True)


def average_gradients(model: torch.nn.Module) -> None:
    """Give each trained weight the mean of all processes' gradients, as DDP does."""
    gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
    together = parameters_to_vector(gradients)
    distributed.all_reduce(together)
    vector_to_parameters(together / count(), gradients)


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


def _tell(message: str) -> None:
    if path := os.environ.get(_ERROR_FILE):
        Path(path).write_text(json.dumps({"message": message, "timestamp": int(time.time())}), encoding="utf-8")
