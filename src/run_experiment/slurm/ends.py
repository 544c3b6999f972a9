"""How a job ended, in words: what SLURM's states and exit codes stand for."""

from __future__ import annotations

import signal

from run_experiment.machine.exit_status import signal_meaning, status_meaning
from run_experiment.slurm.accounted_job import AccountedJob

_STATES = {
    "BOOT_FAIL": "its node did not start",
    "LOST": "SLURM no longer knew it, nor how it ended",
    "DEADLINE": "it could not end before its --deadline: request less time, or no deadline",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it used more memory than it requested",
    "PREEMPTED": "a job of higher priority took its place",
    "REVOKED": "another cluster of the federation took it",
    "TIMEOUT": "its time limit passed",
}
# SLURM's own, in the place of a signal.
_CODES = {
    53: "SLURM could not open its output or change into its folder on the node",
    125: "it used more memory than it requested",
}
# sacct takes 128 off an exit status of at least that, which shells give to what a signal ended. Programs seldom have
# these as a status of their own.
_LESS_128 = {
    f"{number}:0": f"{128 + number}:0"
    for number in (
        *(signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2),
        signal.SIGTERM,
    )
}


def shell_status(exit_code: str) -> str:
    """An exit code (`status:signal`) of sacct with the status that the job's shell ended with."""
    return _LESS_128.get(exit_code, exit_code)


def describe(job: AccountedJob) -> str:
    """A job's state, who cancelled it, its exit code, its reason, and what these mean."""
    by = f" by {job.cancelled_by}" if job.cancelled_by else ""
    code = f", exit code {job.exit_code}" if job.exit_code not in ("", "0:0") else ""
    reason = f", reason {job.reason}" if job.reason else ""
    means = meaning(job.state, job.exit_code)
    return f"{job.state}{by}{code}{reason}{f' ({means})' if means else ''}"


def meaning(state: str, exit_code: str) -> str:
    """What a state and an exit code (`status:signal`) mean; empty if their words are enough, or nothing is known."""
    if known := _STATES.get(state):
        return known
    # Who cancels a job knows why.
    if state == "CANCELLED":
        return ""
    status, _, number = shell_status(exit_code).partition(":")
    if number.isdecimal() and int(number):
        return _CODES.get(int(number)) or signal_meaning(int(number))
    return status_meaning(int(status)) if status.isdecimal() else ""
