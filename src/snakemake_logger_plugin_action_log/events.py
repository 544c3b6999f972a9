"""Log records of Snakemake and of the executor as events."""

from __future__ import annotations

from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from run_experiment.session.events import RuleFailed, RuleFinished, RuleStarted
from run_experiment.slurm import events


def event_of(record: LogRecord) -> object | None:
    """The event that a log record describes; None if it does not matter here."""
    values = vars(record)
    if job_event := values.get(events.RECORD_ATTRIBUTE):
        return job_event  # type: ignore[no-any-return]
    match values.get("event"):
        case LogEvent.JOB_INFO:
            return _started(values)
        case LogEvent.JOB_FINISHED:
            return RuleFinished(values["job_id"])
        case LogEvent.JOB_ERROR:
            return RuleFailed(values["jobid"], values.get("rule_msg") or "")
    return None


def _started(values: dict[str, Any]) -> RuleStarted:
    resources = values.get("resources") or {}
    stagger = resources.get("stagger", 0)
    return RuleStarted(
        number=values["jobid"],
        outputs=tuple(values.get("output") or ()),
        logs=tuple(values.get("log") or ()),
        # Snakemake has placeholders for what is not known yet.
        stagger=stagger if isinstance(stagger, int | float) else 0,
    )
