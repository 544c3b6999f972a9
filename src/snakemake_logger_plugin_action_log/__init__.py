"""Snakemake logger plugin: the action logs of a session; under `-n`, a table of what will not run, and why."""

from __future__ import annotations

import sys
import traceback
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from run_experiment.session.events import RECORD_ATTRIBUTE, Tick
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import SessionPlan
from snakemake_logger_plugin_action_log.events import event_of
from snakemake_logger_plugin_action_log.plan_table import PlanTable
from snakemake_logger_plugin_action_log.settings import LogHandlerSettings
from snakemake_logger_plugin_action_log.ticker import Ticker

__all__ = ["LogHandler", "LogHandlerSettings"]


class LogHandler(LogHandlerBase):
    """Observes what Snakemake plans and does; an error here must never end or hang the run."""

    def __post_init__(self) -> None:
        """Begin with nothing seen; the logs begin when the workflow says that a session does."""
        self._table = PlanTable()
        self._log: SessionLog | None = None
        self._ticker: Ticker | None = None

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
        table, self._table = self._table, PlanTable()
        text = table.text() if self.common_settings.dryrun else ""
        if text:
            print(text, file=sys.stdout if self.common_settings.stdout else sys.stderr)

    def _end_log(self) -> None:
        if self._ticker:
            self._ticker.stop()
        log, self._log = self._log, None
        if log and (lost := log.close()):
            print(f"The action logs are incomplete: {lost}", file=sys.stderr)

    def _observe(self, record: LogRecord) -> None:
        if rows := getattr(record, "plan", None):
            self._table.rows = rows
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            self._table.planned.update(record.output)  # type: ignore[attr-defined]
        if plan := getattr(record, RECORD_ATTRIBUTE, None):
            self._begin(plan)
        elif self._log and (event := event_of(record)):
            self._log.observe(event)

    def _begin(self, plan: SessionPlan) -> None:
        self._log = SessionLog(plan)
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
