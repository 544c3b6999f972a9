"""Jobs that a workflow engine runs by itself, with the events of a cluster's jobs; their times are this clock's."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from run_experiment.attempts import history
from run_experiment.common.clock import now
from run_experiment.jobs.checks import failure
from run_experiment.session.plan import SessionJob
from run_experiment.slurm.clients import AccountedJob
from run_experiment.slurm.events import Changed, Event, Finished, Polled, Submitted
from run_experiment.slurm.ledger import Submission


class LocalJobs:
    """The jobs of a session by the engine's number; ids are `local-{number}`."""

    def __init__(self, folder: Path, executor: str) -> None:
        self._folder = folder
        self._executor = executor
        self._running: dict[int, tuple[SessionJob, Submission, AccountedJob]] = {}

    def started(self, number: int, job: SessionJob) -> list[Event]:
        """What becomes of a job that is started: it does not wait."""
        begun = now()
        job_id = f"{self._executor}-{number}"
        time = begun.isoformat(timespec="seconds")
        submission = Submission(job.target, "", job.subject, "", os.getuid(), time, job_id)
        running = AccountedJob(
            job_id=job_id,
            name=job.subject,
            uid=os.getuid(),
            comment="",
            state="RUNNING",
            cancelled_by=None,
            exit_code="",
            reason="",
            submitted=begun,
            started=begun,
            ended=None,
            nodes=socket.gethostname() if self._executor == "local" else "",
        )
        self._running[number] = (job, submission, running)
        return [Submitted(submission), Changed(submission, "PENDING", "RUNNING", running)]

    def ended(self, number: int, succeeded: bool, log: Path | None) -> list[Event]:
        """What becomes of a job that ended; of one that failed, what it left says why."""
        if number not in self._running:
            return []
        job, submission, running = self._running.pop(number)
        end, state, message = now(), "COMPLETED", ""
        if not succeeded:
            state, message = self._why(job, submission, running.started or end, log)
        seconds = round((end - (running.started or end)).total_seconds())
        known = replace(running, state=state, ended=end, elapsed_seconds=seconds)
        return [Finished(submission, succeeded, state, message, job=known)]

    def looked_at(self) -> Polled:
        """States of the jobs now."""
        return Polled({submission.target: running.state for _, submission, running in self._running.values()})

    def _why(self, job: SessionJob, submission: Submission, started: datetime, log: Path | None) -> tuple[str, str]:
        """State of a job that did not succeed, and the reason."""
        last = next(reversed(history.read(self._folder, job.run, submission.job_id)), None)
        # Sessions use the same ids again.
        if last and last.own_error and last.ended and last.ended >= started.replace(microsecond=0):
            state = "CANCELLED" if last.was_cancelled else "FAILED"
            return state, f"{state}: {last.own_error}"
        what = "FAILED without an error message"
        return "FAILED", failure(what, log) if log else what
