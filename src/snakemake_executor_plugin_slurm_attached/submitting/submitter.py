"""Submits waiting jobs one after the other: the most urgent first, not too fast, not too many."""

from __future__ import annotations

import itertools
import queue
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from run_experiment.slurm import clients
from run_experiment.slurm.errors import PassingError, SlurmError, SubmitLimitError, UnavailableError
from run_experiment.slurm.events import Cancelled, Event, Reattached, Submitted
from run_experiment.slurm.job_ids import slurm_id
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier
from snakemake_executor_plugin_slurm_attached.submissions import (
    LONGEST_PAUSE,
    LOST,
    cancel_for,
    find,
    fits_comment,
    note_settled,
    together,
    with_id,
)
from snakemake_executor_plugin_slurm_attached.submitting.pacing import Pacing
from snakemake_executor_plugin_slurm_attached.submitting.sbatch import Sbatch
from snakemake_executor_plugin_slurm_attached.submitting.sharing import (
    Share,
    in_jobs,
    one_submission,
    sbatch_arguments,
    sbatch_script,
)

# More than a comment can name.
_MOST_ELEMENTS = 100

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Request:
    """A job that waits for its turn: what sbatch is given, `stagger` seconds after the last job of its `kind`.

    `former` is a job of another configuration for the same target, which is ended first. `again`: its last job ended.
    `pause` is how many seconds later it is tried again if its partition, nodes or reservation are not available.
    `share` lets it be submitted with others; `last` is the submission that ended, if it is another one.
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
    share: Share | None = None
    last: Submission | None = None


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
        self._sbatch = Sbatch(folder, ledger, pacing.stopping, tell)
        self._waiting: queue.PriorityQueue[tuple[float, int, Request | None]] = queue.PriorityQueue()
        # Those whose former jobs (with the state they end in) may not be gone yet: others do not wait for them.
        self._held: list[tuple[Request, Submission, str]] = []
        # When it is to be asked whether they are, and how much later again.
        self._ask_at, self._pause = 0.0, 1.0
        # Those that are tried again at some time, while others are submitted.
        self._postponed: list[tuple[float, Request]] = []
        self._number = itertools.count()
        # A target's place among those of the same priority.
        self._places: dict[str, int] = {}
        self._starting = threading.Lock()
        # Most elements of an array: fewer after SLURM had no place for so many.
        self._elements = _MOST_ELEMENTS
        # Held while requests are put that may be submitted together.
        self.gathering = threading.Lock()
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
        if request.again and (
            requeued := self._sbatch.until_answered(lambda: find(request.last or request.submission))
        ):
            # Meanwhile, by somebody's hand: its last job starts anew.
            submission = with_id(request.last or request.submission, requeued)
            with suppress(OSError):
                self._ledger.accepted(submission, requeued)
            self._tell(Reattached(submission, "PENDING"))
            self._accepted(submission)
            return
        others = self._others(request)
        if others and request.share:
            self._submit_together([request, *others], request.share.most)
        elif job_id := self._sbatch.submit([request.submission], request.arguments, request.script):
            self._note_accepted([request.submission], job_id, request.kind)

    def _note_accepted(self, submissions: Sequence[Submission], job_id: str, kind: str) -> None:
        accepted = [with_id(one, job_id) for one in submissions]
        self._pacing.submitted(kind, {slurm_id(one.job_id) for one in accepted})
        # All before the first is followed: with its end, all that is known of would be complete.
        for submission in accepted:
            self._tell(Submitted(submission))
        for submission in accepted:
            self._accepted(submission)

    def _others(self, first: Request) -> list[Request]:
        """Requests that wait, too, and can be submitted with this one: they do not wait any more."""
        share = first.share
        if share is None:
            return []
        jobs = min(share.elements, self._elements, self._pacing.room)
        with self.gathering, self._waiting.mutex:
            waiting = sorted(self._waiting.queue)
            fitting = [entry for entry in waiting if _fits(share, entry[2])][: max(jobs, 1) * share.most - 1]
            others = [entry[2] for entry in fitting if entry[2]]
            while others and not fits_comment([one.submission for one in (first, *others)]):
                others.pop()
            self._waiting.queue[:] = [entry for entry in waiting if entry not in fitting[: len(others)]]
        return others

    def _submit_together(self, requests: list[Request], most: int) -> None:
        """Submit requests as one job or array; each by itself if SLURM refuses that, for instance for its time."""
        jobs = in_jobs(requests, most)
        submissions = together(self._folder, [[one.submission for one in job] for job in jobs])
        call, command = one_submission(self._folder, [[one.share for one in job if one.share] for job in jobs])
        arguments = sbatch_arguments(self._folder, submissions[0], call)
        try:
            job_id = self._sbatch.submit(submissions, arguments, sbatch_script(call, command))
        except SubmitLimitError:
            # As many as there is place for.
            self._elements = max(1, len(jobs) // 2)
            for one in requests:
                self.put(one)
            return
        except Exception as error:
            # What becomes of the first is decided by its caller, unless it is tried alone.
            is_refused = isinstance(error, SlurmError) and not isinstance(error, PassingError | UnavailableError)
            for one in requests if is_refused else requests[1:]:
                self.put(replace(one, share=None if is_refused else one.share))
            if is_refused:
                return
            raise
        if job_id:
            self._elements = min(2 * self._elements, _MOST_ELEMENTS)
            self._note_accepted(submissions, job_id, requests[0].kind)

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
        if self._sbatch.until_answered(lambda: find(former)):
            state = "CANCELLED"
            goes_on = not self._sbatch.until_answered(lambda: cancel_for(self._folder, former))
            self._tell(Cancelled(former, "it is of another configuration, or from before a redo", goes_on))
            if goes_on:
                note_settled(self._ledger, former, state)
                self.put(replace(request, former=None))
                return
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
            there = {(job.job_id, job.comment) for job in self._sbatch.until_answered(clients.queue)}
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
                note_settled(self._ledger, former, state)
                self.put(replace(request, former=None))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._ask_at = time.monotonic() + self._pause


def _fits(share: Share, other: Request | None) -> bool:
    """Whether a request can be submitted with others; not if something has to be found out of an earlier job first."""
    is_new = other is not None and other.former is None and not other.again
    return is_new and other is not None and other.share is not None and other.share.key == share.key
