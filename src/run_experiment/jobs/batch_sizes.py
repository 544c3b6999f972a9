"""Batch sizes that need less memory and train the same: fewer samples at a time, more of them a step.

Those that did not fit into memory are stored by kind of training and GPU, for all runs of an experiment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from run_experiment.common import paths
from run_experiment.common.json_files import Config, canonical, read_record, write_record


@dataclass(frozen=True)
class TooBig:
    """A batch size that ran out of memory, and the job and run in which it did."""

    batch_size: int
    run: str
    job_id: str


class LearnedBatches:
    """The smallest batch size that ran out of memory, stored in the experiment's folder.

    `kind` determines how much memory a training takes; `gpus` gives the names of its GPUs, which may take seconds.
    """

    def __init__(self, kind: Config, gpus: Callable[[], list[str]]) -> None:
        self._kind = kind
        self._gpus = gpus
        self._folder = Path(paths.MEMORY) / "batch_sizes"

    @cached_property
    def _file(self) -> Path:
        key = hashlib.sha256(canonical([self._kind, self._gpus()]).encode()).hexdigest()[:16]
        return self._folder / f"{key}.json"

    def too_big(self) -> TooBig | None:
        """The smallest batch size known to be too large, if any."""
        # Where none was, a job starts without knowing its GPUs.
        if not any(self._folder.glob("*.json")):
            return None
        known: dict[str, Any] = read_record(self._file) or {}
        size = known.get("batch_size")
        return TooBig(size, str(known.get("run")), str(known.get("job_id"))) if isinstance(size, int) else None

    def learn(self, found: TooBig) -> None:
        """Store a batch size if it is smaller than the known one."""
        known = self.too_big()
        if known is None or found.batch_size < known.batch_size:
            write_record(self._file, vars(found))

    def forget(self) -> None:
        """Forget it: if no batch size fits, the cause is elsewhere and may be fixed."""
        self._file.unlink(missing_ok=True)


def smaller_batch(batch_size: int, accumulation: int, below: int) -> tuple[int, int] | None:
    """Batch size and accumulation that take as many samples a step as `batch_size` times `accumulation`.

    The batch size is the largest that is smaller than `batch_size` and than `below`; None if there is none.
    """
    samples = batch_size * accumulation
    for smaller in range(min(batch_size, below) - 1, 0, -1):
        if samples % smaller == 0:
            return smaller, samples // smaller
    return None


def halved_limit(batch_size: int) -> int:
    """What the next batch size has to be below after one ran out of memory, so that it is half of it at the most."""
    return batch_size // 2 + 1
