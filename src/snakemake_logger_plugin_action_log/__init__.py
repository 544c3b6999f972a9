"""Snakemake logger plugin: the action logs of a session, its lines on the terminal; under `-n`, a table of the plan.

It imports session, planning, actionlog and the floors below; only Snakemake imports it.
Begin with `LogHandler`, then `events` and `terminal`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from datetime import datetime
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase

from run_experiment.actionlog.entry import Entry
from run_experiment.planning.plan import Row
from run_experiment.session.events import RECORD_ATTRIBUTE, Tick
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import SessionPlan
from snakemake_logger_plugin_action_log.events import event_of
from snakemake_logger_plugin_action_log.places import why_no_start
from snakemake_logger_plugin_action_log.plan_table import plan_table
from snakemake_logger_plugin_action_log.quiet import hold_back_noise, is_quiet
from snakemake_logger_plugin_action_log.settings import LogHandlerSettings
from snakemake_logger_plugin_action_log.terminal import line
from snakemake_logger_plugin_action_log.ticker import Ticker

__all__ = ["LogHandler", "LogHandlerSettings"]


class LogHandler(LogHandlerBase):
    """Observes Snakemake's events; an error here must never end or block the run."""

    def __post_init__(self) -> None:
        """Begin with nothing seen; the logs begin when the workflow says that a session does."""
        # Of all that is ours this comes first: without these Snakemake ends in a traceback before it reads a rule.
        if why := why_no_start():
            print(why, file=sys.stderr)
            sys.exit(2)
        # The plan's rows, and functions that say which outputs Snakemake will make, and what that costs.
        self._plan: tuple[Sequence[Row], Callable[[], Collection[str]], Callable[[], str]] | None = None
        self._log: SessionLog | None = None
        self._ticker: Ticker | None = None
        self._is_quiet = is_quiet(self.common_settings)
        if self._is_quiet:
            hold_back_noise()

    def emit(self, record: LogRecord) -> None:
        """Take what is of interest from an event."""
        try:
            self._observe(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """End the logs; print the table of a dry run, after all of Snakemake's own output."""
        try:
            self._print_table()
            self._end_log()
        except Exception:
            traceback.print_exc()
        super().close()

    def _print_table(self) -> None:
        # Snakemake closes its handlers twice.
        plan, self._plan = self._plan, None
        if plan and self.common_settings.dryrun:
            rows, planned, cost = plan
            self._print("\n".join(part for part in (plan_table(rows, planned()), cost()) if part))

    def _show(self, entry: Entry) -> None:
        text = line(entry, datetime.now()) if self._is_quiet else None
        if text:
            self._print(text)

    def _print(self, text: str) -> None:
        print(text, file=sys.stdout if self.common_settings.stdout else sys.stderr, flush=True)

    def _end_log(self) -> None:
        if self._ticker:
            self._ticker.stop()
        # A tick that is under way comes to its end first.
        with self.lock or nullcontext():
            log, self._log = self._log, None
        if log and (lost := log.close()):
            print(f"The action logs are incomplete: {lost}", file=sys.stderr)

    def _observe(self, record: LogRecord) -> None:
        if plan_and_dag := getattr(record, "plan", None):
            self._plan = plan_and_dag
        if plan := getattr(record, RECORD_ATTRIBUTE, None):
            self._begin(plan)
        elif self._log and (event := event_of(record)):
            self._log.observe(event)

    def _begin(self, plan: SessionPlan) -> None:
        self._log = SessionLog(plan, self._show)
        if not plan.is_attached:
            seconds = getattr(self.settings, "status_seconds", LogHandlerSettings.status_seconds)
            self._ticker = Ticker(seconds, self._tick)

    def _tick(self) -> None:
        self.acquire()
        try:
            if self._log:
                self._log.observe(Tick())
        finally:
            self.release()

    @property
    def writes_to_stream(self) -> bool:
        """False: Snakemake's own output to the terminal stays."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """False: it keeps no log file of Snakemake's."""
        return False

    @property
    def has_filter(self) -> bool:
        """True: it sees every event, also those that `--quiet` hides."""
        return True

    @property
    def has_formatter(self) -> bool:
        """True: it formats what it prints itself."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """False: events of jobs suffice."""
        return False
