"""Why a target was not made, by what its attempts left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment import layout
from run_experiment.attempts import BEGUN, ENDED, SLURM
from run_experiment.records import read_record


@dataclass(frozen=True)
class Failure:
    """The newest attempt at a target that made nothing, and when it ended, or began where it could not say why."""

    job_id: str
    error: str
    ended: datetime

    @property
    def what(self) -> str:
        """That it failed, or was cut off: from here that looks like one that is at work."""
        return f"failed as job {self.job_id}" if self.error else f"cut off, or still at work, as job {self.job_id}"

    @property
    def text(self) -> str:
        """The same with the first line of why."""
        return f"{self.what}: {self.error.partition(chr(10))[0]}" if self.error else self.what


def last_failure(folder: Path, run: str, target: str) -> Failure | None:
    """The newest attempt at a target of a run that made nothing: `finetune` or an evaluation's cell."""
    found = [_failure(path) for path in (folder / layout.attempts(run)).glob("*") if path.is_dir()]
    failed = [failure for name, failure in found if name == target]
    return max(failed, key=lambda failure: failure.ended, default=None)


def _failure(attempt: Path) -> tuple[str | None, Failure]:
    """The target of an attempt, and how it ended; who followed a job that was killed may know why."""
    record = read_record(attempt / ENDED) or read_record(attempt / BEGUN) or {}
    slurm = read_record(attempt / SLURM) or {}
    error = str(record.get("error") or slurm.get("error") or "")
    return record.get("target"), Failure(str(record.get("job_id")), error, ended(record))


def ended(record: Mapping[str, Any]) -> datetime:
    """When a record was written, or what it tells began; one that does not say counts as the oldest."""
    return datetime.fromisoformat(record.get("ended") or record.get("started") or "0001-01-01T00:00:00+00:00")
