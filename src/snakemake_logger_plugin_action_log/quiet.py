"""Suppresses Snakemake's messages about its own work, so that the terminal shows one line per event.

Snakemake's option `quiet` in profiles/default suppresses most of them; `--quiet host` shows everything.
"""

from __future__ import annotations

import logging
from typing import Any

from snakemake.logging import logger
from snakemake.settings.enums import Quietness

_BEGINNINGS = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "SLURM run ID:",
    "Using shell:",
    "Select jobs to execute",
    "Execute ",
    "Reasons:",
    "This was a dry-run",
    "Complete log(s):",
    "Elapsed time:",
)
# That a job failed, which has a line of its own by then, with the reason.
_FAILURES = (
    "RuleException:\nCalledProcessError",
    "Exiting because a job execution failed",
    "At least one job did not complete successfully",
    "WorkflowError:\nAt least one job did not complete successfully",
)


def is_quiet(settings: Any) -> bool:
    """Whether Snakemake's output settings suppress rules, so that only this plugin writes about jobs."""
    return Quietness.RULES in (settings.quiet or ())


def hold_back_noise() -> None:
    """Filter Snakemake's logger, once."""
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    text = str(record.msg)
    return not text.startswith(_FAILURES if record.levelno > logging.INFO else _BEGINNINGS)
