"""What a training takes, judged by the size of its model and data alone: a guess, with a range as wide as that."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from run_experiment.common.errors import CheckpointError
from run_experiment.estimate.seconds import Seconds
from run_experiment.inputs.safetensors_header import tensor_shapes

# FLOP of a parameter and a token, forward and backward.
_FLOP = 6
# Peak of dense bf16 (fp16 before it existed) in TFLOP/s, by what the names of GPUs have in them.
_PEAKS = {
    "B200": 2250,
    "H200": 990,
    "H100": 990,
    "A100": 312,
    "L40": 362,
    "A40": 150,
    "A6000": 155,
    "A10": 125,
    "V100": 125,
    "L4": 121,
    "T4": 65,
}
# If the GPU is not known: likely, best, worst; and without one.
_ANY_GPU, _CPU = (312, 990, 65), (0.3, 3.0, 0.05)
# Shares of the peak that trainings reach: likely, most, least.
_SHARES = (0.3, 0.6, 0.05)
# Seconds to load everything: likely, least, most.
_STARTUP = (60, 15, 600)


def guess(model: Path, tokens: int, gpu: str | None) -> Seconds | None:
    """Time of a training of so many tokens, all epochs; None if the weights cannot be read.

    `gpu` is the name of a GPU, empty if it has none or an unknown one, None to train on a CPU.
    """
    parameters = _parameters(model)
    if not parameters or not tokens:
        return None
    work = _FLOP * parameters * tokens / 1e12
    return Seconds(
        *(startup + work / (peak * share) for startup, peak, share in zip(_STARTUP, _peaks(gpu), _SHARES, strict=True))
    )


def _peaks(gpu: str | None) -> tuple[float, ...]:
    if gpu is None:
        return _CPU
    return next(((peak, peak, peak) for name, peak in _PEAKS.items() if name in gpu), _ANY_GPU)


@cache
def _parameters(model: Path) -> int:
    try:
        return sum(math.prod(shape) for file in model.glob("*.safetensors") for shape in tensor_shapes(file).values())
    except (CheckpointError, OSError):
        return 0
