"""What the action logs held of jobs when a session began."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pandas as pd

from run_experiment.actionlog.entry import OF_JOBS, Action, Log
from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.clock import moment_of

# In the result of a transition: when a job started.
_STARTED = re.compile(r" started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


class Written:
    """Entries of earlier sessions on jobs, by the subject and the id of each: SLURM may give an id again.

    The ledger says which state of a job is logged, and its line is written after the entry: if the main process was
    killed between the two, the logs are one entry ahead. If the logs were tidied away, only the ledger has it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def state(self, subject: str, job_id: str) -> str | None:
        """The state of a job's last transition; None if there is none."""
        details, _ = self._last_transitions.get((subject, job_id), ("", ""))
        return details.rpartition(" → ")[2] or None

    def started(self, subject: str, job_id: str) -> datetime | None:
        """When a job's last start was, if that is its last transition and says so."""
        details, result = self._last_transitions.get((subject, job_id), ("", ""))
        found = _STARTED.search(result) if details.endswith("→ RUNNING") else None
        return moment_of(found[1]) if found else None

    def has_submission(self, subject: str, job_id: str) -> bool:
        """Whether there is an entry of a job's submission."""
        return self._has(subject, job_id, Action.SUBMIT_JOB, Action.SUBMIT_EVAL)

    def is_complete(self, subject: str, job_id: str, log: Log) -> bool:
        """Whether an entry that all jobs of a log are complete follows the one of what a job used."""
        entries = self._entries[self._entries["log"] == log.value]
        ends = entries[entries["action"] == Action.ALL_COMPLETE.value]
        used = entries[_of(entries, subject, job_id) & (entries["action"] == Action.COMPUTE_METRICS.value)]
        return bool(len(ends) and len(used) and used.index[-1] < ends.index[-1])

    def notices(self, subject: str, job_id: str, since: datetime) -> list[tuple[str, str, str]]:
        """Action, details and result of the entries, not before a moment, of what a job itself had to report."""
        known, moment = self._entries, since.astimezone().replace(tzinfo=None)
        of_jobs = known["action"].isin([action.value for action in OF_JOBS])
        found = known[of_jobs & _of(known, subject, job_id) & (known["time"] >= moment)]
        return list(zip(found["action"], found["details"], found["result"], strict=True))

    def has_throughput(self, subject: str, job_id: str) -> bool:
        """Whether there is an entry of how slow a training was."""
        return self._has(subject, job_id, Action.THROUGHPUT_STATUS)

    def has_metrics(self, subject: str, job_id: str) -> bool:
        """Whether there is an entry of what a job used."""
        return self._has(subject, job_id, Action.COMPUTE_METRICS)

    def _has(self, subject: str, job_id: str, *actions: Action) -> bool:
        table = self._entries
        return bool((_of(table, subject, job_id) & table["action"].isin([action.value for action in actions])).any())

    @cached_property
    def _last_transitions(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Details and result of each job's last transition."""
        changes = self._entries[self._entries["action"] == Action.STATE_CHANGE.value]
        texts = zip(changes["details"], changes["result"], strict=True)
        return dict(zip(zip(changes["subject"], changes["job_id"], strict=True), texts, strict=True))

    @cached_property
    def _entries(self) -> pd.DataFrame:
        try:
            return read_action_logs(self._folder)
        # What cannot be read holds nothing.
        except OSError:
            return read_action_logs(self._folder, [])


def _of(entries: pd.DataFrame, subject: str, job_id: str) -> pd.Series[bool]:
    return (entries["subject"] == subject) & (entries["job_id"] == job_id)
