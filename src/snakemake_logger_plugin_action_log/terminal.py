"""The lines that the user sees during a run, one per event, made from the entries of the action logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from run_experiment.actionlog.entry import Action, Entry
from run_experiment.session.entries.steps import TRAINING_FAILED

_LOCAL = "local-"


def line(entry: Entry, moment: datetime) -> str | None:
    """Text of an entry for the terminal, several lines for a failure; None if the entry is not shown."""
    text = _TEXTS[entry.action](entry) if entry.action in _TEXTS else None
    return f"[{moment:%H:%M:%S}] {text}" if text else None


def _submitted(entry: Entry) -> str:
    if not entry.job_id:
        return f"{entry.subject}: not submitted: {entry.result.removeprefix('failed: ')}"
    again = f", again: {entry.explanation}" if entry.explanation else ""
    started = "started as" if entry.job_id.startswith(_LOCAL) else "submitted as job"
    return f"{entry.subject}: {started} {entry.job_id}{again}"


def _changed(entry: Entry) -> str | None:
    after = entry.details.rpartition("→")[2].strip()
    if str(entry.job_id).startswith(_LOCAL) and after in ("RUNNING", "FAILED"):
        # It was started a moment ago; a local job says by itself why it failed.
        return None
    if after == "COMPLETED":
        return f"{entry.subject}: {_lower(entry.result)} ({_job(entry)})"
    if after == "RUNNING":
        return f"{entry.subject}: running ({_job(entry)})"
    return f"{entry.subject}: {after} ({_job(entry)}): {_indented(entry.result)}"


def _details_and_result(entry: Entry) -> str:
    subject = f"{entry.subject}: " if entry.subject else ""
    return f"{subject}{_indented(entry.details)}: {_indented(entry.result)}"


def _result(entry: Entry) -> str:
    subject = f"{entry.subject}: " if entry.subject else ""
    return subject + _indented(entry.result)


def _to_do(entry: Entry) -> str | None:
    return None if entry.result.startswith("0 ") else entry.result


def _missing(entry: Entry) -> str | None:
    if entry.explanation and entry.explanation.startswith(TRAINING_FAILED):
        # The training has a line that says so.
        return None
    return f"{_result(entry)}: {_indented(entry.explanation or '')}"


def _complete(entry: Entry) -> str:
    return f"{_details_and_result(entry)} ({entry.duration})"


def _job(entry: Entry) -> str:
    job_id = str(entry.job_id)
    return job_id if job_id.startswith(_LOCAL) else f"job {job_id}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


# What is not here, such as polls and figures, is in the logs.
_TEXTS: Mapping[Action, Callable[[Entry], str | None]] = {
    Action.IDENTIFY_RUNS: _to_do,
    Action.IDENTIFY_EVALS: _to_do,
    Action.SUBMIT_JOB: _submitted,
    Action.SUBMIT_EVAL: _submitted,
    Action.REUSE_EVAL: _details_and_result,
    Action.STATE_CHANGE: _changed,
    Action.JOB_REATTACHED: _details_and_result,
    Action.RESUME_TRAINING: _details_and_result,
    Action.OOM_RETRY: _details_and_result,
    Action.EVAL_RETRY: _details_and_result,
    Action.STALE_CACHE: _details_and_result,
    Action.THROUGHPUT_STATUS: _details_and_result,
    Action.CHECKPOINT_MISSING: _missing,
    Action.VERIFY_CHECKPOINTS: _result,
    Action.CACHE_PREBUILD: _details_and_result,
    Action.CACHE_PREBUILD_COMPLETE: _result,
    Action.ALL_COMPLETE: _complete,
}
