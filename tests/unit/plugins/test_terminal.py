"""Lines on the terminal: one for each thing that happened, none for polls and figures."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.settings.enums import Quietness

from run_experiment.actionlog.entry import Action, Entry
from run_experiment.session.entries.steps import checkpoint_of_failed
from snakemake_logger_plugin_action_log import quiet
from snakemake_logger_plugin_action_log.terminal import line

NOW = datetime(2026, 1, 31, 10, 0, 5)
FAILED = Entry(
    Action.STATE_CHANGE,
    "RUNNING → FAILED",
    "Training ended at 10:00: exit code 1:0; its log is logs/r8.log\nRuntimeError: no",
    "r8",
    job_id="17",
)

LINES = {
    "r8: submitted as job 17": Entry(Action.SUBMIT_JOB, "sbatch finetune.slurm", "Job ID 17", "r8", job_id="17"),
    "r8: submitted as job 17, again: lr: 0.1 → 0.2": Entry(
        Action.SUBMIT_JOB, "sbatch finetune.slurm", "Job ID 17", "r8", job_id="17", explanation="lr: 0.1 → 0.2"
    ),
    "r8: started as local-3": Entry(Action.SUBMIT_JOB, "local execution", "Job ID local-3", "r8", job_id="local-3"),
    "r8: not submitted: no such partition": Entry(Action.SUBMIT_JOB, "sbatch", "failed: no such partition", "r8"),
    "r8: running (job 17)": Entry(Action.STATE_CHANGE, "PENDING → RUNNING", "Training started", "r8", job_id="17"),
    "r8/shout/epoch0: evaluation finished: match/accuracy 0.880 (job 17)": Entry(
        Action.STATE_CHANGE,
        "RUNNING → COMPLETED",
        "Evaluation finished: match/accuracy 0.880",
        "r8/shout/epoch0",
        job_id="17",
    ),
    "r8: FAILED (job 17): Training ended at 10:00: exit code 1:0; its log is logs/r8.log\n    RuntimeError: no": FAILED,
    "3 runs to submit": Entry(Action.IDENTIFY_RUNS, "4 fine-tuning runs", "3 runs to submit"),
    "All 2 jobs reached terminal states: 2 COMPLETED, 0 FAILED (26 seconds)": Entry(
        Action.ALL_COMPLETE, "All 2 jobs reached terminal states", "2 COMPLETED, 0 FAILED", duration="26 seconds"
    ),
}


@pytest.mark.parametrize(("text", "entry"), LINES.items(), ids=LINES)
def test_lines(text: str, entry: Entry) -> None:
    assert line(entry, NOW) == f"[10:00:05] {text}"


QUIET = [
    Entry(Action.IDENTIFY_EVALS, "4 evaluations in the matrix", "0 evaluations to submit (4 already completed)"),
    Entry(Action.STATUS_CHECK, "Polling SLURM (sacct)", "1 job: 1 RUNNING"),
    Entry(Action.COMPUTE_METRICS, "wall time 00:01:00", "COMPLETED", "r8", job_id="17"),
    Entry(Action.STATE_CHANGE, "PENDING → RUNNING", "Training started", "r8", job_id="local-3"),
    Entry(Action.STATE_CHANGE, "RUNNING → FAILED", "Training ended", "r8", job_id="local-3"),
    checkpoint_of_failed("r8", "epoch_0", Path("r8/artifacts/epoch_0"), "exit status 1"),
]


@pytest.mark.parametrize("entry", QUIET, ids=lambda entry: entry.action)
def test_no_lines(entry: Entry) -> None:
    assert line(entry, NOW) is None


@pytest.mark.parametrize(
    ("settings", "held_back"), [({Quietness.RULES}, True), ({Quietness.HOST}, False), (None, False)]
)
def test_noise_of_snakemake(monkeypatch: pytest.MonkeyPatch, settings: set[Quietness] | None, held_back: bool) -> None:
    logger = logging.Logger("a test")
    monkeypatch.setattr(quiet, "logger", logger)
    for _ in range(2):
        if quiet.is_quiet(SimpleNamespace(quiet=settings)):
            quiet.hold_back_noise()
    assert len(logger.filters) == held_back
    shown = {
        text: bool(logger.filter(logging.LogRecord("", level, "", 1, text, (), None)))
        for text, level in {
            "Select jobs to execute...": logging.INFO,
            "Building DAG of jobs...": logging.INFO,
            "Execute a fault": logging.WARNING,
            "Nothing to be done": logging.INFO,
            "RuleException:\nCalledProcessError in file": logging.ERROR,
            "RuleException:\nMissingInputException": logging.ERROR,
        }.items()
    }
    assert list(shown.values()) == [not held_back, not held_back, True, True, not held_back, True]
