"""Entries for the action log that jobs leave in their records, since they do not write to the log themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.common.json_files import read_record


@dataclass(frozen=True)
class Notice:
    """An entry of a job for the action log. `time` is ISO, with offset."""

    time: str
    action: Action
    details: str
    result: str


def notices(folder: Path, submission_target: str, job_id: str) -> list[Notice]:
    """Entries of a running or finished job so far, in order and without repeats.

    A job that SLURM restarted, or that retried by itself, has several attempts.
    """
    facts = [attempt.begun for attempt in history.of_job(folder, submission_target, job_id)]
    record = read_record(folder / submission_target) or {}
    if job_id in (record.get("job_id"), record.get("restored_by")):
        facts.append(record)
    events = [event for one in facts for event in one.get("events") or []]
    return list(dict.fromkeys(notice for event in events if (notice := _notice(event))))


def _notice(event: Any) -> Notice | None:
    try:
        return Notice(str(event["time"]), Action(event["action"]), str(event["details"]), str(event["result"]))
    # Written by another version, or edited.
    except (KeyError, TypeError, ValueError):
        return None
