"""What came out of a job that succeeded, from its record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from run_experiment.actionlog.entry import Log
from run_experiment.common.text import counted
from run_experiment.experiment.records import (
    ERROR_SUFFIXES,
    EvaluationRecord,
    TrainingRecord,
    read_evaluation,
    read_training,
)


@dataclass(frozen=True)
class Outcome:
    """`text` is `train loss 0.0413, validation loss 0.0686`, or `match/accuracy 0.880`; empty if nothing is known.

    It ends with `5 of 6 samples` if not all were completed. `started` and `ended` are the job's own times, also if it
    only restored a record.
    """

    text: str = ""
    started: datetime | None = None
    ended: datetime | None = None


def outcome(log: Log, record: Path, job_id: str) -> Outcome:
    """Read what came out of a job; an empty outcome if the record is another job's."""
    found = _made(log, record, job_id)
    if found is None:
        return Outcome()
    text = _losses(found) if isinstance(found, TrainingRecord) else _score(found)
    return Outcome(text, found.allocation.started, found.allocation.ended)


def is_made(log: Log, record: Path, job_id: str) -> bool:
    """Whether a job left this record."""
    return _made(log, record, job_id) is not None


def _made(log: Log, record: Path, job_id: str) -> TrainingRecord | EvaluationRecord | None:
    found = read_training(record) if log is Log.TORCHTUNE else read_evaluation(record)
    return found if found and job_id in (found.job_id, found.restored_by) else None


def _losses(record: TrainingRecord) -> str:
    losses = {name.replace("_", " "): value for name, value in record.losses.items() if value is not None}
    return ", ".join(f"{name} {value:.4f}" for name, value in losses.items())


def _score(record: EvaluationRecord) -> str:
    scores = {name: value for name, value in record.metrics.items() if not name.endswith(ERROR_SUFFIXES)}
    name, value = next(((name, value) for name, value in scores.items() if value is not None), ("", None))
    found = [] if value is None else [f"{name} {value:.3f}"]
    # A task may tolerate errors of samples.
    if record.samples is not None and record.samples != record.total:
        found.append(counted(record.samples, "sample", of=record.total))
    return ", ".join(found)
