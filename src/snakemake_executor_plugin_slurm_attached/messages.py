"""What the terminal says about jobs while they are followed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from run_experiment.common.text import counted, shortened
from run_experiment.slurm.events import (
    Cancelled,
    Changed,
    Delayed,
    Detached,
    Event,
    Finished,
    Held,
    Polled,
    PollFailed,
    QueueFull,
    Reattached,
    Submitted,
)
from run_experiment.slurm.job_ids import slurm_id
from run_experiment.slurm.ledger import Submission


def level(event: Event) -> int:
    """How much a message matters, as `logging` counts it."""
    submitted_again = isinstance(event, Finished) and event.again
    is_warning = submitted_again or isinstance(event, Delayed | QueueFull | PollFailed | Cancelled | Detached)
    return logging.WARNING if is_warning else logging.INFO


def message(event: Event) -> str | None:
    """A line or more for the terminal; None if Snakemake says it, or nobody wants to know."""
    match event:
        case Submitted(submission):
            return f"{submission.name}: submitted as SLURM job {submission.job_id}"
        case Reattached(submission, state):
            return f"{submission.name}: following SLURM job {submission.job_id} again ({state or 'ended'})"
        case Cancelled(submission, reason):
            return f"{submission.name}: SLURM job {submission.job_id} was cancelled, {reason}"
        case Delayed(submission, reason):
            return f"{submission.name}: not submitted yet, trying again until SLURM accepts it: {reason}"
        case QueueFull():
            return event.text
        case Changed(submission, before, after, _):
            return f"{submission.name}: SLURM job {submission.job_id} {before} → {after}"
        case Held(submissions, reason, remedy, again=False):
            return f"{_waits(submissions)} ({reason}): {remedy}"
        case PollFailed(_, reason):
            return f"SLURM does not say how the jobs are, asking on: {reason}"
        case Polled(_, restored=True):
            return "SLURM says again how the jobs are"
        case Finished(submission, message=why, again=again) if again:
            return f"{submission.name}: {why.splitlines()[0]}; it is submitted again: {again}"
        case Detached(submissions, cancelled):
            job_ids = dict.fromkeys(slurm_id(submission.job_id) for submission in submissions)
            return _goodbye(list(job_ids), cancelled)
    return None


def _waits(submissions: Sequence[Submission]) -> str:
    if len(submissions) == 1:
        return f"{submissions[0].name}: SLURM job {submissions[0].job_id} waits"
    return f"{len(submissions)} jobs wait ({shortened([submission.name for submission in submissions])})"


def _goodbye(job_ids: list[str], cancelled: bool) -> str:
    if not job_ids:
        return "Stopped; no job of this experiment is in the queue."
    jobs, one = counted(len(job_ids), "SLURM job"), len(job_ids) == 1
    if cancelled:
        return f"Stopped; {jobs} {'was' if one else 'were'} cancelled."
    it = "it" if one else "them"
    return (
        f"Stopped; {jobs} {'keeps' if one else 'keep'} running; nothing more is submitted.\n"
        f"To follow {it} again, run the same command.\n"
        f"To cancel {it}: scancel {' '.join(job_ids)}"
    )
