"""What the jobs of a session have to tell of themselves: they do not write to the action logs, so it is told here."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from run_experiment.actionlog.entry import OF_JOBS, Entry
from run_experiment.attempts.notices import Notice, notices
from run_experiment.common.clock import CLOCK_SKEW
from run_experiment.session.jobs import FollowedJob, Told

# Time of a notice that has no sound one.
_NEVER = datetime.min.replace(tzinfo=UTC)


class Notices:
    """The notices that were told, by job: each is told once, also where an earlier session told it."""

    def __init__(self, folder: Path, told: Told) -> None:
        self._folder = folder
        self._before = told
        self._told: dict[str, set[Notice]] = {}

    def untold(self, followed: FollowedJob) -> list[Entry]:
        """Entries of what a job did since it was asked last, in order; they count as told from now on."""
        found = self._found(followed)
        if not found:
            return []
        told = self._told.setdefault(followed.job_id, set(found[: self._told_before(followed, found[0])]))
        new = [notice for notice in dict.fromkeys(found) if notice not in told]
        told.update(new)
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

    def _told_before(self, followed: FollowedJob, first: Notice) -> int:
        """How many earlier sessions told: what is older than the first one is of a start before SLURM's last one."""
        return 0 if followed.is_new else self._before.notices(followed.job_id, _moment(first) - CLOCK_SKEW)


def _moment(notice: Notice) -> datetime:
    try:
        return datetime.fromisoformat(notice.time).astimezone()
    except (ValueError, OverflowError):
        return _NEVER
