"""Snakemake logger plugin: under `-n`, a table of the runs and evaluations that will not run, and why."""

from __future__ import annotations

import sys
import traceback
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_action_log.plan_table import PlanTable


class LogHandler(LogHandlerBase):
    """Observes what Snakemake plans; an error here must never end or hang the run."""

    def __post_init__(self) -> None:
        """Begin with nothing seen."""
        self._table = PlanTable()

    def emit(self, record: LogRecord) -> None:
        """Take what is of interest from an event."""
        try:
            self._observe(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Print the table at the end of a dry run, after all of Snakemake's own output."""
        try:
            self._print_table()
        except Exception:
            traceback.print_exc()
        super().close()

    def _print_table(self) -> None:
        # Snakemake closes its handlers twice.
        table, self._table = self._table, PlanTable()
        text = table.text() if self.common_settings.dryrun else ""
        if text:
            print(text, file=sys.stdout if self.common_settings.stdout else sys.stderr)

    def _observe(self, record: LogRecord) -> None:
        if rows := getattr(record, "plan", None):
            self._table.rows = rows
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            self._table.planned.update(record.output)  # type: ignore[attr-defined]

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
