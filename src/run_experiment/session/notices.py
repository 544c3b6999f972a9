"""What the action logs held of jobs when a session began, and what jobs report of themselves since.

Jobs do not write to the action logs, so the session does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pandas as pd

from run_experiment.actionlog.entry import OF_JOBS, Action, Entry
from run_experiment.actionlog.reader import read_action_logs
from run_experiment.attempts.notices import Notice, notices
from run_experiment.common.clock import CLOCK_SKEW, moment_of
from run_experiment.session.jobs import FollowedJob

# Time of a notice that has no sound one.
_NEVER = datetime.min.replace(tzinfo=UTC)


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


class Notices:
    """The notices that are logged, by job: each is logged once, by this session or an earlier one."""

    def __init__(self, folder: Path, written: Written) -> None:
        self._folder = folder
        self._written = written
        self._logged: dict[str, set[Notice]] = {}

    def new(self, followed: FollowedJob) -> list[Entry]:
        """Entries of what a job did since the last call, in order; they count as logged from now on."""
        found = self._found(followed)
        if not found:
            return []
        logged = self._logged.setdefault(followed.job_id, set(found[: self._logged_before(followed, found[0])]))
        new = [notice for notice in dict.fromkeys(found) if notice not in logged]
        logged.update(new)
        return [
            Entry(notice.action, notice.details, notice.result, followed.job.subject, job_id=followed.job_id)
            for notice in new
        ]

    def _found(self, followed: FollowedJob) -> list[Notice]:
        """What a job left; ids come again on one machine, and what an earlier job of its id left is none of it."""
        since = followed.submitted_at - CLOCK_SKEW
        return [
            notice
            for notice in notices(self._folder, followed.submission.target, followed.job_id)
            if notice.action in OF_JOBS and followed.job.log in notice.action.logs and _moment(notice) >= since
        ]

    def _logged_before(self, followed: FollowedJob, first: Notice) -> int:
        """How many earlier sessions logged: what is older than the first one is of a start before SLURM's last one."""
        return 0 if followed.is_new else self._written.notices(followed.job_id, _moment(first) - CLOCK_SKEW)


def _moment(notice: Notice) -> datetime:
    return moment_of(notice.time) or _NEVER
