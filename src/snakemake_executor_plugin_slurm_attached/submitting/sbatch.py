"""Brings a job into the queue, whatever sbatch says: SLURM may have a job that sbatch failed to report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from run_experiment.slurm import clients
from run_experiment.slurm.errors import PassingError, SlurmError, SubmitLimitError, UnansweredError, UnavailableError
from run_experiment.slurm.events import Delayed, Event
from run_experiment.slurm.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached.submissions import (
    LONGEST_PAUSE,
    NOT_SUBMITTED,
    dated,
    find_ended,
    find_submitted,
    is_array,
    note_settled,
    on_its_way,
    with_id,
)

# Seconds after which the queue is asked again for a job that may be on its way.
_ASK_AGAIN = 5.0

Tell = Callable[[Event], None]
T = TypeVar("T")


class Sbatch:
    """Submits one job at a time, and notes in the ledger what became of it; gives up once `stopping` is set."""

    def __init__(self, folder: Path, ledger: Ledger, stopping: threading.Event, tell: Tell) -> None:
        self._folder = folder
        self._ledger = ledger
        self._stopping = stopping
        self._tell = tell
        # Why a target is not submitted yet, as last reported.
        self._delays: dict[str, str] = {}

    def submit(self, submissions: Sequence[Submission], arguments: list[str], script: str) -> str | None:
        """The id that sbatch gives for these submissions once SLURM accepts them; None if the submitter is stopped.

        Raises SlurmError, UnavailableError if other jobs may be accepted before this one, SubmitLimitError if fewer
        elements of an array may be.
        """
        pause = 1.0
        # With its time: for a while from then, sbatch may bring the job even if this process dies.
        while (job_id := self._try(list(map(dated, submissions)), arguments, script, pause)) is None:
            if self._stopping.is_set():
                return None
            pause = min(2 * pause, LONGEST_PAUSE)
        return job_id

    def until_answered(self, call: Callable[[], T]) -> T:
        """What SLURM says, however long that takes. Raises PassingError if the submitter is stopped meanwhile."""
        pause = 1.0
        while True:
            try:
                return call()
            except PassingError:
                if self._stopping.wait(pause):
                    raise
            pause = min(2 * pause, LONGEST_PAUSE)

    def _try(self, submissions: list[Submission], arguments: list[str], script: str, pause: float) -> str | None:
        """The same, tried once: None, after a pause, if SLURM may accept it later."""
        for one in submissions:
            self._ledger.intend(one)
        # All are in one job or array: what is found out of one holds for the others.
        submission = submissions[0]
        try:
            job_id: str | None = clients.submit(arguments, script)
        except UnavailableError as error:
            self._delayed(submission, error)
            self._note_settled(submissions, NOT_SUBMITTED)
            raise
        except SubmitLimitError as error:
            if is_array(submission):
                self._note_settled(submissions, NOT_SUBMITTED)
                raise
            job_id = self._passed(submission, error, pause)
        except PassingError as error:
            job_id = self._passed(submission, error, pause)
        except SlurmError:
            job_id = self._accepted_nevertheless(submission)
            if job_id is None:
                self._note_settled(submissions, "REFUSED")
                raise
        if job_id is None:
            # After a stop nobody looks again: the note makes the next process do so.
            if not self._stopping.is_set():
                self._note_settled(submissions, NOT_SUBMITTED)
            return None
        # Without this note the job is found by its comment.
        with suppress(OSError):
            for one in submissions:
                self._ledger.accepted(one, str(with_id(one, job_id).job_id))
        return job_id

    def _passed(self, submission: Submission, error: PassingError, pause: float) -> str | None:
        """Id of a job that SLURM accepted nevertheless, after a pause; None if it did not."""
        given_up = dated(submission)
        self._delayed(submission, error)
        self._stopping.wait(pause)
        silently = self._accepted_silently(given_up, isinstance(error, UnansweredError))
        return silently or self._ended_unseen(submission)

    def _note_settled(self, submissions: list[Submission], state: str) -> None:
        for one in submissions:
            note_settled(self._ledger, one, state)

    def _delayed(self, submission: Submission, error: PassingError) -> None:
        """Report why a job is not submitted yet, once for each reason."""
        if self._delays.get(submission.target) != str(error):
            self._delays[submission.target] = str(error)
            self._tell(Delayed(submission, str(error)))

    def _accepted_nevertheless(self, submission: Submission) -> str | None:
        """Id of a job that SLURM accepted although sbatch failed, as a wrapper of the site may do after that."""
        try:
            return self.until_answered(lambda: find_submitted(submission))
        except PassingError:
            raise
        # What sbatch said is the reason that counts.
        except SlurmError:
            return None

    def _accepted_silently(self, submission: Submission, unanswered: bool) -> str | None:
        """Id of a job that SLURM accepted although sbatch did not say so: an `unanswered` one perhaps only later."""
        while True:
            job_id = self.until_answered(lambda: find_submitted(submission))
            rest = on_its_way(submission) if unanswered else 0.0
            if job_id or not rest or self._stopping.wait(min(rest, _ASK_AGAIN)):
                return job_id

    def _ended_unseen(self, submission: Submission) -> str | None:
        """Id of a job that SLURM accepted without saying so, and that has left the queue since."""
        try:
            return self.until_answered(lambda: find_ended(self._folder, submission, self._ledger)).job_id
        except PassingError:
            raise
        # Accounts that cannot be asked know nothing.
        except SlurmError:
            return None
