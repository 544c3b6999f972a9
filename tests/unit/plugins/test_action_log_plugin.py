"""The logger plugin as an observer: records become events, and no error of a log ends or hangs the run."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from run_experiment.actionlog.entry import Log
from run_experiment.session.events import RECORD_ATTRIBUTE as SESSION_PLAN
from run_experiment.session.events import RuleFailed, RuleFinished, RuleStarted
from run_experiment.session.plan import ATTACHED, LOCAL, SessionJob, SessionPlan
from run_experiment.slurm.events import RECORD_ATTRIBUTE as JOB_EVENT
from run_experiment.slurm.events import Finished, Submitted
from run_experiment.slurm.ledger import Submission
from snakemake_logger_plugin_action_log import LogHandler, LogHandlerSettings
from snakemake_logger_plugin_action_log.events import event_of

TARGET = "r4/finetune.json"
SUBMITTED = Submitted(Submission(TARGET, "", "tiny.r4", "", 0, "2025-01-31T10:00:00+01:00", "17"))


def plan(folder: Path, executor: str = ATTACHED) -> SessionPlan:
    """One training."""
    return SessionPlan(
        folder=folder,
        executor=executor,
        runs=1,
        jobs={TARGET: SessionJob(TARGET, Log.TORCHTUNE, "r4", "r4", "r4/finetune.slurm", ())},
        checkpoints={},
        caches=[],
        wanted=frozenset({TARGET}),
        needs={},
        why={TARGET: "not done yet"},
        skipped=dict.fromkeys(Log, ()),
        complete=dict.fromkeys(Log, frozenset()),
    )


def record(**extra: Any) -> logging.LogRecord:
    """A record as Snakemake makes it of what is logged with `extra`."""
    made = logging.LogRecord("snakemake", logging.INFO, "workflow.py", 1, None, (), None)
    vars(made).update(extra)
    return made


def begun(folder: Path, executor: str = ATTACHED, seconds: int = 60) -> LogHandler:
    """A handler whose session has begun."""
    made = LogHandler(common_settings=MockOutputSettings(), settings=LogHandlerSettings(status_seconds=seconds))
    made.emit(record(**{SESSION_PLAN: plan(folder, executor)}))
    return made


class TestBegun(TestLogHandlerBase):
    """The interface's own tests of every event, while the logs are written; what they raise is not swallowed here."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _session(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def fail(self: logging.Handler, record: logging.LogRecord) -> None:
            raise AssertionError(record)

        monkeypatch.setattr(LogHandler, "handleError", fail)
        self.folder = tmp_path

    def _create_handler(self) -> LogHandler:
        return begun(self.folder)

    def get_log_handler_cls(self) -> type[LogHandler]:
        return LogHandler

    def get_log_handler_settings(self) -> LogHandlerSettingsBase:
        return LogHandlerSettings()

    def test_every_event_of_the_interface_is_tried(self) -> None:
        untried = {event.value for event in LogEvent if not hasattr(self, f"test_{event.value}_event")}
        assert untried == set()

    def test_it_writes_to_no_stream_and_no_file_of_snakemake(self) -> None:
        handler = self._create_handler()
        assert (handler.writes_to_stream, handler.writes_to_file) == (False, False)


def test_records_as_events(tmp_path: Path) -> None:
    started = {
        "event": LogEvent.JOB_INFO,
        "jobid": 3,
        "output": [TARGET],
        "log": ["a.log"],
        "rule_name": "run_finetune",
    }
    assert event_of(record(**started, resources={"stagger": 5})) == RuleStarted(3, (TARGET,), ("a.log",), 5)
    assert event_of(record(**started, resources={"stagger": "<TBD>"})) == RuleStarted(3, (TARGET,), ("a.log",), 0)
    assert event_of(record(event=LogEvent.JOB_FINISHED, job_id=3)) == RuleFinished(3)
    assert event_of(record(event=LogEvent.JOB_ERROR, jobid=3, rule_msg="why")) == RuleFailed(3, "why")
    assert event_of(record(**{JOB_EVENT: SUBMITTED})) is SUBMITTED
    assert event_of(record(event=LogEvent.PROGRESS, done=1, total=2)) is None
    assert event_of(record()) is None


def test_nothing_is_written_before_the_session_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    handler = LogHandler(common_settings=MockOutputSettings(), settings=None)
    handler.emit(record(event=LogEvent.JOB_INFO, jobid=1, output=[TARGET], log=[]))
    handler.emit(record(**{JOB_EVENT: SUBMITTED}))
    handler.close()
    assert list(tmp_path.iterdir()) == []


def test_entries_are_there_at_once(tmp_path: Path) -> None:
    begun(tmp_path).emit(record(**{JOB_EVENT: SUBMITTED}))
    assert "SUBMIT_JOB: r4\n" in (tmp_path / "run-torchtune.log").read_text()
    assert "IDENTIFY_EVALS" in (tmp_path / "run-inspect.log").read_text()


def test_an_error_in_an_event_ends_neither_the_run_nor_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = begun(tmp_path)
    broken = Submission(TARGET, "", "", "", 0, "no time", "17")
    handler.emit(record(**{JOB_EVENT: Submitted(None)}))  # type: ignore[arg-type]
    handler.emit(record(**{SESSION_PLAN: "no plan"}))
    handler.emit(record(event=LogEvent.JOB_ERROR))
    assert capsys.readouterr().err.count("Logging error") == 3
    handler.emit(record(**{JOB_EVENT: SUBMITTED}))
    handler.emit(record(**{JOB_EVENT: Submitted(broken)}))
    handler.close()
    assert (tmp_path / "run-torchtune.log").read_text().count("SUBMIT_JOB") == 2


def test_an_error_at_the_end_does_not_escape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = begun(tmp_path)
    job = Submission(TARGET, "", "", "", 0, "no time", "17")
    events = [Submitted(job), Finished(job, True, "COMPLETED")]
    for event in events:
        handler.emit(record(**{JOB_EVENT: event}))
    handler.close()
    assert "Invalid isoformat string: 'no time'" in capsys.readouterr().err


def test_what_is_lost_is_said_at_the_end_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run-inspect.log").mkdir()
    handler = begun(tmp_path)
    handler.close()
    handler.close()
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "The action logs are incomplete: run-inspect.log lacks 2 entries: Is a directory (2)"


def test_jobs_of_this_machine_are_looked_at_from_time_to_time(tmp_path: Path) -> None:
    handler = begun(tmp_path, LOCAL, seconds=0)
    handler.emit(record(event=LogEvent.JOB_INFO, jobid=1, output=[TARGET], log=[]))
    log, end = tmp_path / "run-torchtune.log", time.monotonic() + 10
    while "STATUS_CHECK" not in log.read_text():
        assert time.monotonic() < end
    handler.close()
    checks = log.read_text().count("STATUS_CHECK")
    time.sleep(0.2)
    assert log.read_text().count("STATUS_CHECK") == checks
