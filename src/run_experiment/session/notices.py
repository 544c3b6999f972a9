"""What jobs report of themselves.

Jobs do not write to the action logs, so the session does.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from run_experiment.actionlog.entry import OF_JOBS, Entry
from run_experiment.attempts.notices import Notice, notices
from run_experiment.common.clock import CLOCK_SKEW, NODE_CLOCK_SKEW, moment_of
from run_experiment.session.jobs import FollowedJob
from run_experiment.session.written import Written

# Time of a notice that has no sound one.
_NEVER = datetime.min.replace(tzinfo=UTC)


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
        logged = self._logged.setdefault(followed.job_id, set(found[: self._logged_before(followed, found)]))
        new = [notice for notice in dict.fromkeys(found) if notice not in logged]
        logged.update(new)
        return [
            Entry(notice.action, notice.details, notice.result, followed.job.subject, job_id=followed.job_id)
            for notice in new
        ]

    def _found(self, followed: FollowedJob) -> list[Notice]:
        """What a job left; ids come again on one machine, and what an earlier job of its id left is none of it."""
        since = followed.submitted_at - _skew(followed)
        return [
            notice
            for notice in notices(self._folder, followed.submission.target, followed.job_id)
            if notice.action in OF_JOBS and followed.job.log in notice.action.logs and _moment(notice) >= since
        ]

    def _logged_before(self, followed: FollowedJob, found: list[Notice]) -> int:
        """How many of them earlier sessions logged: what they logged last, they logged of this start of the job.

        Entries that are older than the first notice are of a start before SLURM's last one.
        """
        if followed.is_new:
            return 0
        since = _moment(found[0]) - _skew(followed)
        logged = self._written.notices(followed.job.subject, followed.job_id, since)
        texts = [(notice.action.value, notice.details, notice.result) for notice in found]
        lengths = range(min(len(logged), len(texts)), 0, -1)
        return next((length for length in lengths if logged[-length:] == texts[:length]), 0)


def _skew(followed: FollowedJob) -> timedelta:
    """How far this clock and that of a job may be apart."""
    return CLOCK_SKEW if followed.job_id.startswith("local-") else NODE_CLOCK_SKEW


def _moment(notice: Notice) -> datetime:
    return moment_of(notice.time) or _NEVER
