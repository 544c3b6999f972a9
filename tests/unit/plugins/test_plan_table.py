"""The logger plugin: every event of Snakemake's interface, the table under `-n`, and errors that stay inside."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from run_experiment.planning.plan import Row
from run_experiment.session.events import RECORD_ATTRIBUTE as SESSION_PLAN
from snakemake_logger_plugin_action_log import LogHandler
from snakemake_logger_plugin_action_log.plan_table import plan_table

ROWS = [
    Row("r4", "r4/finetune.json", True, "not done yet"),
    Row("r8", "r8/finetune.json", False, "done"),
    Row("base", None, False, "control: nothing to train"),
    Row("r4/shout/epoch10", "r4/eval/shout_epoch10.json", True, "its run is not trained yet"),
]
PLANNED = {"r4/finetune.json"}
COST = "\nEstimate: 2 GPU-hours"
TABLE = """
Will run:
    r4                not done yet

Will not run:
    r8                done
    base              control: nothing to train
    r4/shout/epoch10  not asked for (its run is not trained yet)"""


def record(**extra: Any) -> logging.LogRecord:
    """A record as Snakemake makes it of what is logged with `extra`."""
    made = logging.LogRecord("snakemake", logging.INFO, "workflow.py", 1, None, (), None)
    vars(made).update(extra)
    return made


def handler(*, dryrun: bool = True, stdout: bool = False, rows: Sequence[Row] = ROWS) -> LogHandler:
    settings = MockOutputSettings()
    settings.dryrun, settings.stdout = dryrun, stdout
    made = LogHandler(common_settings=settings, settings=None)
    made.emit(record(plan=(rows, lambda: PLANNED, lambda: COST)))
    return made


class TestActionLog(TestLogHandlerBase):
    """The interface's own tests of every event; what they raise is not swallowed here."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _errors_escape(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: logging.Handler, record: logging.LogRecord) -> None:
            raise AssertionError(record)

        monkeypatch.setattr(LogHandler, "handleError", fail)

    def get_log_handler_cls(self) -> type[LogHandler]:
        return LogHandler

    def get_log_handler_settings(self) -> LogHandlerSettingsBase:
        return LogHandlerSettingsBase()

    def test_every_event_of_the_interface_is_tried(self) -> None:
        untried = {event.value for event in LogEvent if not hasattr(self, f"test_{event.value}_event")}
        assert untried == set()


def test_table() -> None:
    assert plan_table(ROWS, PLANNED) == TABLE
    everything = {row.path for row in ROWS if row.path}
    assert "Will not run" not in plan_table([row for row in ROWS if row.path], everything)
    assert "Will run" not in plan_table(ROWS, set())
    assert plan_table([], set()) == ""


def test_steps_are_in_the_table_if_they_run() -> None:
    check = Row("check tiny", "cache/checks/tiny-1.json", True, "tokenizer, prompts", is_step=True)
    assert plan_table([check, *ROWS], PLANNED) == TABLE
    lines = plan_table([check, *ROWS], {*PLANNED, str(check.path)}).splitlines()
    assert lines[2:4] == ["    check tiny        tokenizer, prompts", "    r4                not done yet"]


def test_table_is_printed_once_at_the_end_of_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    made = handler()
    assert capsys.readouterr() == ("", "")
    made.close()
    made.close()
    assert capsys.readouterr() == ("", f"{TABLE}\n{COST}\n")


def test_table_is_where_snakemake_s_own_output_is(capsys: pytest.CaptureFixture[str]) -> None:
    handler(stdout=True).close()
    assert capsys.readouterr() == (f"{TABLE}\n{COST}\n", "")


def test_nothing_is_printed_when_jobs_run(capsys: pytest.CaptureFixture[str]) -> None:
    handler(dryrun=False).close()
    assert capsys.readouterr() == ("", "")


def test_error_in_an_event_does_not_escape(capsys: pytest.CaptureFixture[str]) -> None:
    made = handler()
    made.emit(record(**{SESSION_PLAN: 5}))
    assert "AttributeError" in capsys.readouterr().err
    made.close()
    assert capsys.readouterr().err == f"{TABLE}\n{COST}\n"


def test_error_at_the_end_does_not_escape(capsys: pytest.CaptureFixture[str]) -> None:
    made = handler(rows=[SimpleNamespace(path=None)])  # type: ignore[list-item]
    made.close()
    assert "AttributeError" in capsys.readouterr().err
