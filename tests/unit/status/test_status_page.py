"""The text of `run-experiment status`: many runs, ages, names of logs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from snakemake_cli import SOURCE
from status_cases import NOW

from run_experiment.common import paths
from run_experiment.status.items import EVALUATION, TRAINING, VERIFICATION, Item, RunStatus, State, Status
from run_experiment.status.page import age, status_text


def many_runs() -> Status:
    """20 runs, 3 tasks, 5 epochs, with long names."""
    runs = []
    for number in range(20):
        name = f"rank{number}_learning_rate_1e-5_all_layers_seed_{number}"
        training = Item(
            TRAINING, name, name, None, None, State.CANCELLED, "why", f"123456{number}", since=NOW - timedelta(3)
        )
        verified = tuple(Item(VERIFICATION, name, name, None, epoch, State.FAILED, "") for epoch in range(5))
        evaluations = tuple(
            Item(
                EVALUATION,
                f"{name}/{task}/epoch{epoch}",
                name,
                task,
                epoch,
                list(State)[(number + epoch) % 7],
                "x " * 200,
            )
            for task in ("capitalization_of_words", "reversal_of_letters", "grammar_of_sentences")
            for epoch in range(5)
        )
        runs.append(RunStatus(name, "fine-tuned", training, verified, evaluations))
    return Status("many", Path("/data/many"), NOW, None, False, None, (), tuple(runs))


def test_many_runs_fit_a_terminal() -> None:
    for width in (80, 100, 160):
        lines = status_text(many_runs(), width).splitlines()
        assert max(map(len, lines)) <= width
        rows = [line for line in lines if line.startswith("rank")]
        # At 100 columns all tasks are in one table, at 80 one is, and two in a table below.
        assert len(rows) == (20 if width >= 100 else 40)
        assert all(mark in "".join(rows) for mark in "+RPFCS.")


def test_trainings_and_evaluations_are_counted_by_kind() -> None:
    """As `-n` counts them; verifications are not among them."""
    few = many_runs()
    head = status_text(replace(few, runs=few.runs[:1]), 160).splitlines()[2]
    bar, _, said = head.partition("] ")
    assert bar == f"[{'#' * 5:.<30}"
    assert said == "0 of 1 training and 3 of 15 evaluations done: 3 running, 3 pending, 3 failed, 4 cancelled"


def test_tasks_without_room_have_a_table_below() -> None:
    few = many_runs()
    run = few.runs[0]
    evaluations = tuple(
        Item(EVALUATION, run.name, run.name, f"task_{number}", epoch, State.DONE, "")
        for number in range(30)
        for epoch in range(12)
    )
    page = status_text(replace(few, runs=(replace(run, evaluations=evaluations),)), 100)
    assert page.count("+" * 12) == 30
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3600 * 3 + 300, "3h05m"), (86400 * 2 + 3600 * 4, "2d04h")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_logs_are_named_as_the_rules_name_them() -> None:
    rules = "".join(path.read_text() for path in (SOURCE / "rules").glob("*.smk"))
    names = [
        paths.training_log("{run}"),
        paths.evaluation_log("{run}", "{cell}"),
        paths.verification_log("{run}", "{epoch}"),
        paths.cache_log("{data_set}"),
    ]
    assert all(f'log:\n        "{name}"' in rules for name in names)
