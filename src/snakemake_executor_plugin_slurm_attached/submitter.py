"""Submits waiting jobs one after the other: the most urgent first, not too fast, not too many."""

from __future__ import annotations

import itertools
import os
import queue
import shlex
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from run_experiment.slurm import clients
from run_experiment.slurm.clients import PassingError, SlurmError, UnansweredError, UnavailableError
from run_experiment.slurm.events import Cancelled, Delayed, Event, Reattached, Submitted
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.earlier_jobs import (
    NOT_SUBMITTED,
    Earlier,
    cancel,
    dated,
    find,
    find_ended,
    on_its_way,
)
from snakemake_executor_plugin_slurm_attached.follower import LOST, with_id

# Longest pause, in seconds, between two tries of what SLURM did not answer.
LONGEST_PAUSE = 60.0
# Seconds after which the queue is asked again whether jobs that ended have left it, where others wait for their places.
_ASK_AGAIN = 5.0

Tell = Callable[[Event], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A job that waits for its turn: what sbatch is given, `stagger` seconds after the last job of its `kind`.

    `former` is a job of another configuration for the same target, which is ended first. `again`: its last job ended.
    `pause` is how many seconds later it is tried again if its partition, nodes or reservation are not available.
    """

    submission: Submission
    arguments: list[str]
    script: str
    kind: str
    stagger: float
    priority: float
    former: Earlier | None = None
    again: bool = False
    pause: float = 1.0


class Submitter:
    """A thread that submits what waits; it calls `accepted` with the job, or `refused` with what sbatch said.

    It calls `ended` with a job that was to be cancelled and had ended by itself.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        pacing: Pacing,
        accepted: Callable[[Submission], None],
        refused: Callable[[Submission, str], None],
        ended: Callable[[Submission], None],
        tell: Tell,
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._pacing = pacing
        self._accepted = accepted
        self._refused = refused
        self._ended = ended
        self._tell = tell
        self._waiting: queue.PriorityQueue[tuple[float, int, Request | None]] = queue.PriorityQueue()
        # Those whose former jobs (with the state they end in) may not be gone yet: others do not wait for them.
        self._held: list[tuple[Request, Submission, str]] = []
        # When it is to be asked whether they are, and how much later again.
        self._ask_at, self._pause = 0.0, 1.0
        # Those that are tried again at some time, while others are submitted.
        self._postponed: list[tuple[float, Request]] = []
        # Why a target is not submitted yet, as last reported.
        self._delays: dict[str, str] = {}
        self._number = itertools.count()
        # A target's place among those of the same priority.
        self._places: dict[str, int] = {}
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="submitter", daemon=True)

    def put(self, request: Request) -> None:
        """Let a job wait for its turn; those of higher priority go first, and what was there before keeps its place.

        Former jobs are cancelled before all: they hold what others wait for.
        """
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
            place = self._places.setdefault(request.submission.target, next(self._number))
        self._waiting.put((-float("inf") if request.former else -request.priority, place, request))

    def stop(self) -> None:
        """Submit nothing more; returns when a submission under way has its answer."""
        self._pacing.stopping.set()
        self._waiting.put((-float("inf"), next(self._number), None))
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            request = self._next()
            if self._pacing.stopping.is_set():
                return
            try:
                if request:
                    self._begin(request)
                self._let_go()
                self._resume()
            except PassingError:
                # Stopped before SLURM answered; the ledger says that there may be a job.
                return

    def _next(self) -> Request | None:
        """The most urgent request; None once it is time to look at those that are held or postponed, or at a stop."""
        due = [*([self._ask_at] if self._held else []), *(at for at, _ in self._postponed)]
        try:
            return self._waiting.get(timeout=max(0.0, min(due) - time.monotonic()) if due else None)[2]
        except queue.Empty:
            return None

    def _resume(self) -> None:
        """Let postponed requests wait for their turn again whose time has come."""
        now = time.monotonic()
        due = [request for at, request in self._postponed if at <= now]
        self._postponed = [(at, request) for at, request in self._postponed if at > now]
        for request in due:
            self.put(request)

    def _begin(self, request: Request) -> None:
        """Submit a job, or cancel a former one first. Raises PassingError where the submitter was stopped meanwhile."""
        try:
            if request.former:
                self._cancel(request, request.former.submission)
            else:
                self._submit(request)
        except UnavailableError:
            longer = replace(request, pause=min(2 * request.pause, LONGEST_PAUSE))
            self._postponed.append((time.monotonic() + request.pause, longer))
        except PassingError:
            raise
        # An error ends this job only.
        except Exception as error:
            self._refuse(request, error)

    def _refuse(self, request: Request, error: Exception) -> None:
        self._refused(request.submission, f"{error}\n    {shlex.join(['sbatch', *request.arguments])}")

    def _submit(self, request: Request) -> None:
        if not self._pacing.wait(request.kind, request.stagger, self._cancel_former):
            return
        if request.again and (requeued := self._until_answered(lambda: find(request.submission))):
            # Meanwhile, by somebody's hand: its last job starts anew.
            with suppress(OSError):
                self._ledger.accepted(request.submission, requeued)
            submission = with_id(request.submission, requeued)
            self._tell(Reattached(submission, "PENDING"))
            self._accepted(submission)
            return
        pause = 1.0
        while (job_id := self._try(request, pause)) is None:
            if self._pacing.stopping.is_set():
                return
            pause = min(2 * pause, LONGEST_PAUSE)
        self._pacing.submitted(request.kind, job_id)
        submission = with_id(request.submission, job_id)
        self._tell(Submitted(submission))
        self._accepted(submission)

    def _try(self, request: Request, pause: float) -> str | None:
        """The id of the job if SLURM accepted it; None, after a pause, if it may do so later.

        Raises SlurmError, UnavailableError if other jobs may be accepted before this one.
        """
        # With its time: for a while from now, sbatch may bring the job even if this process dies.
        submission = dated(request.submission)
        self._ledger.intend(submission)
        try:
            job_id: str | None = clients.submit(request.arguments, request.script)
        except UnavailableError as error:
            self._delayed(submission, error)
            self._settle(submission, "", NOT_SUBMITTED)
            raise
        except PassingError as error:
            unanswered, given_up = isinstance(error, UnansweredError), dated(submission)
            self._delayed(submission, error)
            self._pacing.stopping.wait(pause)
            job_id = self._accepted_silently(given_up, unanswered) or self._ended_unseen(submission)
        except SlurmError:
            job_id = self._accepted_nevertheless(submission)
            if job_id is None:
                self._settle(submission, "", "REFUSED")
                raise
        if job_id is None:
            # After a stop nobody looks again: the note makes the next process do so.
            if not self._pacing.stopping.is_set():
                self._settle(submission, "", NOT_SUBMITTED)
            return None
        # Without this note the job is found by its comment.
        with suppress(OSError):
            self._ledger.accepted(submission, job_id)
        return job_id

    def _delayed(self, submission: Submission, error: PassingError) -> None:
        """Report why a job is not submitted yet, once for each reason."""
        if self._delays.get(submission.target) != str(error):
            self._delays[submission.target] = str(error)
            self._tell(Delayed(submission, str(error)))

    def _accepted_nevertheless(self, submission: Submission) -> str | None:
        """Id of a job that SLURM accepted although sbatch failed, as a wrapper of the site may do after that."""
        try:
            return self._until_answered(lambda: find(submission))
        except PassingError:
            raise
        # What sbatch said is the reason that counts.
        except SlurmError:
            return None

    def _accepted_silently(self, submission: Submission, unanswered: bool) -> str | None:
        """Id of a job that SLURM accepted although sbatch did not say so: an `unanswered` one perhaps only later."""
        while True:
            job_id = self._until_answered(lambda: find(submission))
            rest = on_its_way(submission) if unanswered else 0.0
            if job_id or not rest or self._pacing.stopping.wait(min(rest, _ASK_AGAIN)):
                return job_id

    def _ended_unseen(self, submission: Submission) -> str | None:
        """Id of a job that SLURM accepted without saying so, and that has left the queue since."""
        try:
            return self._until_answered(lambda: find_ended(self._folder, submission)).job_id
        except PassingError:
            raise
        # Accounts that cannot be asked know nothing.
        except SlurmError:
            return None

    def _cancel_former(self) -> None:
        """Cancel former jobs that are to be, while another request waits for its turn."""
        while (request := self._first()) and request.former:
            self._begin(self._waiting.get()[2] or request)

    def _first(self) -> Request | None:
        """What waits and comes first; only this thread takes it."""
        with self._waiting.mutex:
            return self._waiting.queue[0][2] if self._waiting.queue else None

    def _cancel(self, request: Request, former: Submission) -> None:
        """Cancel a job of another configuration, and hold the request until it is gone."""
        # Asked for itself: what scancel did although it gave no answer is not there any more.
        if self._until_answered(lambda: find(former)):
            state = "CANCELLED"
            self._until_answered(lambda: cancel([former]))
            self._tell(Cancelled(former, "it is of another configuration, or from before a redo"))
        else:
            state = LOST
            self._ended(former)
        self._held.append((request, former, state))
        self._pause = 1.0
        self._ask_at = time.monotonic() + self._pause

    def _let_go(self) -> None:
        """Let those wait for their turn whose former jobs are gone: there are never two for a target."""
        if not self._held or time.monotonic() < self._ask_at:
            return
        held, self._held = self._held, []
        try:
            there = {(job.job_id, job.comment) for job in self._until_answered(clients.queue)}
        except PassingError:
            raise
        except SlurmError as error:
            for request, *_ in held:
                self._refuse(request, error)
            return
        for request, former, state in held:
            if (former.job_id, former.comment) in there:
                self._held.append((request, former, state))
            else:
                self._settle(former, str(former.job_id), state)
                self.put(replace(request, former=None))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._ask_at = time.monotonic() + self._pause

    def _settle(self, submission: Submission, job_id: str, state: str) -> None:
        # Who starts again finds out anew what could not be noted.
        with suppress(OSError):
            self._ledger.settled(submission.target, job_id, state)

    def _until_answered(self, call: Callable[[], T]) -> T:
        """What SLURM says, however long that takes. Raises PassingError where the submitter was stopped meanwhile."""
        pause = 1.0
        while True:
            try:
                return call()
            except PassingError:
                if self._pacing.stopping.wait(pause):
                    raise
            pause = min(2 * pause, LONGEST_PAUSE)


class Pacing:
    """How fast jobs may be submitted, and how many of the user's may be in the queue, whoever submitted them.

    `followed` gives the jobs followed here; the user's others are counted anew every `refresh` seconds. `full` is
    called with their number, once, when none of the jobs that fill the queue is followed here.
    """

    def __init__(
        self,
        limit: int,
        refresh: float,
        followed: Callable[[], set[str]],
        full: Callable[[int], None] = lambda number: None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.stopping = threading.Event()
        self._full = full
        self._is_reported = False
        # The allocation that this process itself runs in, as with `salloc`.
        self._allocation = {environment.get("SLURM_JOB_ID", "")}
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

    def submitted(self, kind: str, job_id: str) -> None:
        """A job of this kind was submitted now."""
        self._last[kind] = time.monotonic()
        self._own.add(job_id)
        self._queued.add(job_id)

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
                self._queued = {job.job_id for job in clients.queue()} - self._allocation | self._followed()
        return len(self._queued)
