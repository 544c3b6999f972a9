"""Jobs that a workflow engine runs by itself, with the events of a cluster's jobs; their times are this clock's."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.attempts import history
from run_experiment.attempts.history import Attempt
from run_experiment.common.clock import now
from run_experiment.common.json_files import read_record
from run_experiment.jobs.checks import failure
from run_experiment.machine.process_usage import usage_from
from run_experiment.session.plan import SessionJob
from run_experiment.slurm.accounted_job import AccountedJob
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
        left: Mapping[str, Any] = read_record(self._folder / job.target) or {}
        if not succeeded:
            last = self._last_attempt(job, submission, running.started or end)
            state, message = _why(last, log)
            left = last.begun if last else {}
        seconds = round((end - (running.started or end)).total_seconds())
        known = replace(running, state=state, ended=end, elapsed_seconds=seconds, **_used(left, running.job_id))
        return [Finished(submission, succeeded, state, message, job=known)]

    def looked_at(self) -> Polled:
        """States of the jobs now."""
        return Polled({submission.target: running.state for _, submission, running in self._running.values()})

    def _last_attempt(self, job: SessionJob, submission: Submission, started: datetime) -> Attempt | None:
        """The attempt that a job which failed left, if it left one."""
        last = next(reversed(history.of_job(self._folder, job.target, str(submission.job_id))), None)
        # Sessions use the same ids again.
        return last if last and last.ended and last.ended >= started.replace(microsecond=0) else None


def _why(last: Attempt | None, log: Path | None) -> tuple[str, str]:
    """State of a job that did not succeed, and the reason."""
    if last and last.own_error:
        state = "CANCELLED" if last.was_cancelled else "FAILED"
        return state, f"{state}: {last.own_error}"
    what = "FAILED without an error message"
    return "FAILED", failure(what, log) if log else what


def _used(left: Mapping[str, Any], job_id: str) -> dict[str, Any]:
    """The figures of accounting that a job counted itself; none if it restored what another one made."""
    usage = usage_from(left)
    if usage is None or left.get("job_id") != job_id or left.get("restored_by"):
        return {}
    return {
        "cpus": usage.cpus,
        "cpu_seconds": round(usage.cpu_seconds),
        "peak_memory_mib": usage.peak_memory_mib,
    }
