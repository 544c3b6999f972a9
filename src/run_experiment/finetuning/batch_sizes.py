"""Batch sizes that need less memory and train the same: fewer samples at a time, more of them a step."""

from __future__ import annotations


def smaller_batch(batch_size: int, accumulation: int, below: int) -> tuple[int, int] | None:
    """Batch size and accumulation that take as many samples a step as `batch_size` times `accumulation`.

    The batch size is the largest that is smaller than `batch_size` and than `below`; None where there is none.
    """
    samples = batch_size * accumulation
    for smaller in range(min(batch_size, below) - 1, 0, -1):
        if samples % smaller == 0:
            return smaller, samples // smaller
    return None


def halved_limit(batch_size: int) -> int:
    """What the next batch size has to be below after one ran out of memory, so that it is half of it at the most."""
    return batch_size // 2 + 1
