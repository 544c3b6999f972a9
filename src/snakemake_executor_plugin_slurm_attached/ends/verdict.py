"""The end of a job, and what becomes of its target whose job ended, by what SLURM and the job itself have to say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_experiment.attempts.files import note_slurm_end
from run_experiment.experiment.settings import Settings
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ledger import Submission
from snakemake_executor_plugin_slurm_attached.ends.left_behind import read_left
from snakemake_executor_plugin_slurm_attached.ends.retry_policy import Limits, Verdict, judge


@dataclass(frozen=True)
class End:
    """The end of a job; `message` says why it failed, `accounted` is what accounting has of a bad end."""

    submission: Submission
    succeeded: bool
    state: str
    message: str = ""
    accounted: AccountedJob | None = None


def verdict(
    folder: Path, end: End, output: Path, facts: Mapping[str, Any], retried: int, resources: Collection[str] = ()
) -> Verdict:
    """Judge an end, and keep SLURM's word on a bad one for the next job, which may be of another session.

    `output` is the file of what SLURM said, `facts` what the job was told; so many were `retried` in this session;
    `resources` win over what its script requests.
    """
    submission, found = end.submission, Verdict(end.state)
    if end.succeeded:
        return found
    if end.accounted:
        left = read_left(folder, end.accounted, submission, output, facts)
        retries, script = int(facts.get("retries", Settings.retries)), str(facts.get("script"))
        limits = Limits(retries, script, facts.get("keys", {}), resources)
        found = judge(end.accounted, left, retried, limits)
    # The next job takes it for one that was interrupted.
    with suppress(OSError):
        note_slurm_end(folder, submission.target, str(submission.job_id), found.state, end.message)
    return found
