"""How fast jobs are submitted, and how many may be in the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from run_experiment.slurm import clients
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.errors import PassingError
from run_experiment.slurm.job_ids import submitted_id
from run_experiment.slurm.states import is_waiting

# Seconds after which the queue is asked again whether jobs that ended have left it, if others wait for their places.
_ASK_AGAIN = 5.0


class Pacing:
    """How fast jobs may be submitted, and how many of the user's may be in the queue, whoever submitted them.

    `followed` gives the jobs followed here; the user's others are counted anew every `refresh` seconds. `full` is
    called with their number, once, when none of the jobs that fill the queue is followed here. `allocation` is the job
    that this process itself runs in, as with `salloc`, which does not count.
    """

    def __init__(
        self,
        limit: int,
        refresh: float,
        followed: Callable[[], set[str]],
        full: Callable[[int], None] = lambda number: None,
        allocation: str = "",
    ) -> None:
        self.stopping = threading.Event()
        self._full = full
        self._is_reported = False
        self._allocation = {allocation}
        self._limit = limit
        self._refresh = refresh
        self._followed = followed
        # The jobs that were in the queue when it was last asked, or were submitted since; which of them are ours.
        self._queued: set[str] = set()
        self._own: set[str] = set()
        self._asked_at = -float("inf")
        self._last: dict[str, float] = {}

    def wait(self, kind: str, stagger: float, meanwhile: Callable[[], None]) -> bool:
        """Wait for a job's turn: `stagger` seconds after the last of its kind. False where waiting was cut short.

        Calls `meanwhile` at first, and each second.
        """
        turn = self._last.get(kind, -float("inf")) + stagger
        while not self.stopping.is_set():
            meanwhile()
            rest = turn - time.monotonic()
            if rest <= 0 and self._has_room():
                return True
            self.stopping.wait(min(rest, 1.0) if rest > 0 else 1.0)
        return False

    def _has_room(self) -> bool:
        """Whether another job may be submitted; reports, once, if all that fill the queue are others'."""
        number = self._count()
        if number < self._limit:
            self._is_reported = False
            return True
        if not self._queued & self._own and not self._is_reported:
            self._is_reported = True
            self._full(number)
        return False

    @property
    def room(self) -> int:
        """How many jobs may be submitted at once, as last counted."""
        return max(self._limit - len(self._queued), 0)

    def submitted(self, kind: str, job_ids: set[str]) -> None:
        """Jobs of this kind were submitted now, at once."""
        self._last[kind] = time.monotonic()
        self._own |= job_ids
        self._queued |= job_ids

    def _count(self) -> int:
        """The user's jobs in the queue. One that left its record counts until the queue shows it no more."""
        followed = self._followed()
        self._own |= followed
        self._queued |= followed
        leaving = len(self._queued) >= self._limit and bool(self._queued & self._own - followed)
        now = time.monotonic()
        if now - self._asked_at >= (min(_ASK_AGAIN, self._refresh) if leaving else self._refresh):
            self._asked_at = now
            # The count before serves until SLURM answers.
            with suppress(PassingError):
                self.queue()
        return len(self._queued)

    def queue(self) -> list[QueuedJob]:
        """The user's live jobs, asked for now; from then on they are what is counted. Raises SlurmError."""
        jobs = clients.queue()
        self._asked_at = time.monotonic()
        self._queued = set(map(self._counted, jobs)) - self._allocation | self._followed()
        return jobs

    def _counted(self, job: QueuedJob) -> str:
        """What a job counts as: others' elements of an array that wait are one."""
        waits = is_waiting(job.state) and job.job_id not in self._own
        return submitted_id(job.job_id) if waits else job.job_id
