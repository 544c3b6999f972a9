"""What the action logs held of jobs when this session began, read when it is first asked for."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path

import pandas as pd

from run_experiment.actionlog.entry import OF_JOBS, Action, Entry
from run_experiment.actionlog.reader import read_action_logs


class Written:
    """Entries of earlier sessions, by job id.

    The ledger says which state of a job is logged, and its line is written after the entry: if the main process was
    killed between the two, the logs are one entry ahead.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_ahead(self, transition: Entry) -> bool:
        """True, once for a job, if its last transition is this one: what follows is of this session."""
        return self._last_transitions.pop(transition.job_id, None) == transition.details

    def notices(self, job_id: str, since: datetime) -> int:
        """Number of entries, not before a moment, of what a job itself had to report."""
        known, moment = self._entries, since.astimezone().replace(tzinfo=None)
        of_jobs = known["action"].isin([action.value for action in OF_JOBS])
        return int((of_jobs & (known["job_id"] == job_id) & (known["time"] >= moment)).sum())

    def has_metrics(self, job_id: str) -> bool:
        """Whether there is an entry of what a job used."""
        table = self._entries
        return bool(((table["job_id"] == job_id) & (table["action"] == Action.COMPUTE_METRICS.value)).any())

    @cached_property
    def _last_transitions(self) -> dict[str | None, str]:
        changes = self._entries[self._entries["action"] == Action.STATE_CHANGE.value]
        return dict(zip(changes["job_id"], changes["details"], strict=True))

    @cached_property
    def _entries(self) -> pd.DataFrame:
        try:
            return read_action_logs(self._folder)
        # What cannot be read holds nothing.
        except OSError:
            return read_action_logs(self._folder, [])
