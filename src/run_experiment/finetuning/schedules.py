"""Learning-rate schedules, linear warm-up and then a curve (train side)."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchtune.training.lr_schedulers import get_cosine_schedule_with_warmup


def cosine(optimizer: Optimizer, *, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1) -> LambdaLR:
    """Warm-up from 0 to the optimizer's rate, then half a cosine down to 0 at `num_training_steps`."""
    schedule: LambdaLR = get_cosine_schedule_with_warmup(
        optimizer, num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps, last_epoch=last_epoch
    )
    return schedule


def linear(optimizer: Optimizer, *, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1) -> LambdaLR:
    """Warm-up from 0 to the optimizer's rate, then a line down to 0 at `num_training_steps`."""

    def scale(step: int) -> float:
        if step < num_warmup_steps:
            return step / num_warmup_steps
        return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))

    return LambdaLR(optimizer, scale, last_epoch)


def constant(optimizer: Optimizer, *, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1) -> LambdaLR:
    """Warm-up from 0 to the optimizer's rate, then that rate."""

    def scale(step: int) -> float:
        return step / num_warmup_steps if step < num_warmup_steps else 1.0

    return LambdaLR(optimizer, scale, last_epoch)
