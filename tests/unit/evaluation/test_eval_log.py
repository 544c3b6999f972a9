"""What an evaluation came to, as its log says: errors in words that may be recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from inspect_ai.log import EvalConfig, EvalDataset, EvalError, EvalLog, EvalSpec, write_eval_log

from run_experiment.evaluation.eval_log import read_outcome


def write(path: Path, *, error: str = "", traceback: str = "") -> Path:
    """A log of an evaluation that failed."""
    spec = EvalSpec(
        created="2025-01-31T10:00:00+00:00",
        task="cap",
        model="none/none",
        dataset=EvalDataset(samples=3, sample_ids=[1, 2, 3]),
        config=EvalConfig(),
    )
    failed = EvalError(message=error, traceback=traceback, traceback_ansi="")
    write_eval_log(EvalLog(status="error", eval=spec, error=failed), str(path))
    return path


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("[bold]ERROR[/bold]: ([bold]pip install openai[/bold])", "ERROR: (pip install openai)"),
        ("[bold red]no[/] task['a'] in list[int]", "no task['a'] in list[int]"),
        ("the key canary-8471 is wrong", "the key *** is wrong"),
    ],
)
def test_an_error_is_told_without_markup_and_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, said: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-8471")
    path = write(tmp_path / "one.eval", error=error, traceback=f"Traceback\nPrerequisiteError: {error}")
    assert read_outcome(path).error == f"{said} (PrerequisiteError: {said})"
