"""The action logs read back: whole, torn, and as other tools write them."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from run_experiment.actionlog.entry import CUT_OFF, Action, Entry, Log, render
from run_experiment.actionlog.reader import COLUMNS, read_action_log, read_action_logs

TORCHTUNE = """\
[2025-11-11 11:00:00] DISCOVER_EXPERIMENT
Details: Found experiment at /path/to/experiment
Result: 4 runs configured

[2025-11-11 11:00:05] SUBMIT_JOB: r8_lr1e-5
Details: sbatch finetune.slurm
Result: Job ID 1234567

[2025-11-11 11:00:10] SUBMIT_JOB: r8_lr5e-5
Details: sbatch finetune.slurm (5-second stagger)
Result: Job ID 1234568

[2025-11-11 11:02:00] STATE_CHANGE: r8_lr1e-5
Details: PENDING → RUNNING
Result: Training started

[2025-11-11 11:45:00] ALL_COMPLETE
Details: All 4 jobs reached terminal states
Result: 4 COMPLETED, 0 FAILED
Duration: 45 minutes
"""

INSPECT = """\
[2025-11-11 12:00:01] VERIFY_FINETUNING
Details: Checking torchtune jobs via sacct
Result: All fine-tuning jobs COMPLETED

[2025-11-11 12:00:02] VERIFY_CHECKPOINTS
Details: Checking epoch_0, epoch_1 for 4 runs
Result: All 8 checkpoints exist

[2025-11-11 12:00:05] SUBMIT_EVAL: r8_lr1e-5/capitalization/epoch0
Details: sbatch capitalization_epoch0.slurm
Result: Job ID 2345678

[2025-11-11 12:05:00] STATE_CHANGE: r8_lr1e-5/capitalization/epoch0
Details: RUNNING → COMPLETED
Result: Evaluation finished

[2025-11-11 12:15:00] ALL_COMPLETE
Details: All 16 evaluations reached terminal states
Result: 16 COMPLETED, 0 FAILED
Duration: 15 minutes
"""

WHOLE = Entry(
    Action.SUBMIT_EVAL,
    "sbatch r8→x.slurm\nline two \u2028",
    "Job ID 1234567",
    subject="r8/café/epoch0",
    job_id="1234567",
    recommendation="none",
    duration="45 minutes 3 seconds",
)
NOON = datetime(2025, 1, 31, 12)


def read(folder: Path, text: str | bytes) -> pd.DataFrame:
    path = folder / "some.log"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_action_log(path)


def known(table: pd.DataFrame) -> list[dict[str, object]]:
    """What is known of each entry."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items() if value is not None} for row in rows]


def test_example_of_trainings_is_read_whole(tmp_path: Path) -> None:
    table = read(tmp_path, TORCHTUNE)
    assert tuple(table.columns) == COLUMNS
    assert known(table) == [
        {
            "time": pd.Timestamp("2025-11-11 11:00:00"),
            "action": "DISCOVER_EXPERIMENT",
            "details": "Found experiment at /path/to/experiment",
            "result": "4 runs configured",
            "truncated": False,
        },
        {
            "time": pd.Timestamp("2025-11-11 11:00:05"),
            "action": "SUBMIT_JOB",
            "subject": "r8_lr1e-5",
            "details": "sbatch finetune.slurm",
            "result": "Job ID 1234567",
            "truncated": False,
        },
        {
            "time": pd.Timestamp("2025-11-11 11:00:10"),
            "action": "SUBMIT_JOB",
            "subject": "r8_lr5e-5",
            "details": "sbatch finetune.slurm (5-second stagger)",
            "result": "Job ID 1234568",
            "truncated": False,
        },
        {
            "time": pd.Timestamp("2025-11-11 11:02:00"),
            "action": "STATE_CHANGE",
            "subject": "r8_lr1e-5",
            "details": "PENDING → RUNNING",
            "result": "Training started",
            "truncated": False,
        },
        {
            "time": pd.Timestamp("2025-11-11 11:45:00"),
            "action": "ALL_COMPLETE",
            "details": "All 4 jobs reached terminal states",
            "result": "4 COMPLETED, 0 FAILED",
            "duration": "45 minutes",
            "truncated": False,
        },
    ]


def test_example_of_evaluations_is_read_whole(tmp_path: Path) -> None:
    table = read(tmp_path, INSPECT)
    assert not table["truncated"].any()
    evaluation = "r8_lr1e-5/capitalization/epoch0"
    assert list(table["subject"]) == [None, None, evaluation, evaluation, None]
    assert list(table["result"]) == [
        "All fine-tuning jobs COMPLETED",
        "All 8 checkpoints exist",
        "Job ID 2345678",
        "Evaluation finished",
        "16 COMPLETED, 0 FAILED",
    ]
    assert list(table["duration"]) == [None, None, None, None, "15 minutes"]


@pytest.mark.parametrize("example", [TORCHTUNE, INSPECT])
def test_examples_are_what_is_written(tmp_path: Path, example: str) -> None:
    table = read(tmp_path, example)
    fields = table.drop(columns=["time", "truncated", "action"])
    entries = [
        Entry(Action(action), **{str(name): value for name, value in row.items()})
        for action, row in zip(table["action"], fields.to_dict("records"), strict=True)
    ]
    text = "".join(render(entry, time, {}) for entry, time in zip(entries, table["time"], strict=True))
    assert text == example + "\n"


def test_other_line_ends_unknown_actions_and_lines_are_tolerated(tmp_path: Path) -> None:
    foreign = "# a log\n\n" + TORCHTUNE.replace("STATE_CHANGE", "PONDER").replace("Result: T", "Mood: good\nResult: T")
    table = read(tmp_path, foreign.replace("\n", "\r\n"))
    expected = read(tmp_path, TORCHTUNE)
    expected.loc[3, "action"] = "PONDER"
    pd.testing.assert_frame_equal(table, expected)


def test_entry_without_its_end_is_truncated_also_in_the_middle(tmp_path: Path) -> None:
    table = read(tmp_path, TORCHTUNE.replace("1234567\n\n", "1234567\n"))
    assert list(table["truncated"]) == [False, True, False, False, False]
    assert table["result"][1] == "Job ID 1234567"


def test_log_cut_at_any_byte_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    first, last = (render(WHOLE, NOON, {}).encode() for _ in range(2))
    whole = known(read(tmp_path, first + last))
    marker = f"\n{CUT_OFF}\n\n".encode()
    for length in range(1, len(last)):
        torn = last[:length]
        for text in (first + torn, first + torn + (marker if not torn.endswith(b"\n") else marker[1:]) + first):
            table = read(tmp_path, text)
            rows = known(table)
            assert rows[0] == whole[0]
            rest = rows[1]
            # Only the empty line is missing where the last field is whole.
            assert rest.pop("truncated") is (length < len(last) - 1 or len(rows) == 3)
            for name, value in rest.items():
                expected = str(whole[0][name])
                # What is left of a character, of an escape is seen as such.
                assert expected.startswith(str(value).rstrip("\ufffd").split("\\")[0])
            assert rows[2:] == whole[:1] * (len(rows) - 2)


@pytest.mark.parametrize("text", ["", "\n", "nothing of ours", "Result: x\n", f"{CUT_OFF}\n", "\0" * 4096])
def test_nothing_is_read_where_nothing_is(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text)
    assert table.empty
    assert tuple(table.columns) == COLUMNS
    assert table["time"].dtype.kind == "M"


def test_zeros_after_a_crash_hide_nothing(tmp_path: Path) -> None:
    table = read(tmp_path, TORCHTUNE + "\n[2025-11-11 12:00:00] SUBMIT_JOB: r9\nDetails: sb" + "\0" * 500)
    assert list(table["details"])[-2:] == ["All 4 jobs reached terminal states", "sb"]
    assert list(table["truncated"])[-2:] == [False, True]


def test_impossible_time_is_unknown(tmp_path: Path) -> None:
    table = read(tmp_path, "[2025-02-31 25:00:00] SUBMIT_JOB: r9\nDetails: d\nResult: r\n\n")
    assert known(table) == [
        {"action": "SUBMIT_JOB", "subject": "r9", "details": "d", "result": "r", "truncated": False}
    ]


def test_missing_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_action_log(tmp_path / "no.log")


def test_both_logs_are_read_in_time_order(tmp_path: Path) -> None:
    (tmp_path / "run-torchtune.log").write_text(TORCHTUNE.replace("11:45:00", "12:05:00") + "\n[2025-11")
    (tmp_path / "run-inspect.log").write_text(INSPECT)
    table = read_action_logs(tmp_path)
    assert tuple(table.columns) == (*COLUMNS, "log")
    assert list(table["log"]) == ["torchtune"] * 4 + ["inspect"] * 3 + ["torchtune"] * 2 + ["inspect"] * 2
    assert table["time"].isna().sum() == 1
    assert set(read_action_logs(tmp_path, [Log.INSPECT])["log"]) == {"inspect"}


def test_the_folder_may_be_text(tmp_path: Path) -> None:
    (tmp_path / Log.INSPECT.file).write_text(INSPECT)
    assert read_action_logs(str(tmp_path)).equals(read_action_logs(tmp_path))
    assert not read_action_logs(str(tmp_path)).empty


def test_logs_that_are_missing_have_no_entries(tmp_path: Path) -> None:
    assert tuple(read_action_logs(tmp_path).columns) == (*COLUMNS, "log")
    (tmp_path / "run-inspect.log").write_text(INSPECT)
    assert len(read_action_logs(tmp_path)) == 5


def test_log_of_a_thousand_jobs_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run-inspect.log"
    path.write_text("".join(render(WHOLE, NOON, {}) for _ in range(10_000)))
    start = time.process_time()
    assert len(read_action_log(path)) == 10_000
    assert time.process_time() - start < 1
