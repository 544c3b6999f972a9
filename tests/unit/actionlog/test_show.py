"""`run-experiment log`: which entries are shown, and how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from run_experiment.actionlog.entry import Action, Entry, Log, render
from run_experiment.actionlog.show import parse_since
from run_experiment.cli import main
from run_experiment.common.errors import CommandError

NOW = datetime.now().replace(microsecond=0)
EVALUATION = "r8_lr1e-5/capitalization/epoch0"
OOM = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.6 GiB, all in use"


def hours_ago(hours: float, entry: Entry) -> str:
    return render(entry, NOW - timedelta(hours=hours), {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / Log.TORCHTUNE.file).write_text(
        hours_ago(30, Entry(Action.DISCOVER_EXPERIMENT, "Found experiment at /path", "1 run configured"))
        + hours_ago(29, Entry(Action.SUBMIT_JOB, "sbatch finetune.slurm", "Job ID 7", subject="r8_lr1e-5", job_id="7"))
        + hours_ago(5, Entry(Action.STATE_CHANGE, "PENDING → RUNNING", "Training started", subject="r8_lr1e-5"))
        + hours_ago(
            4,
            Entry(
                Action.STATE_CHANGE,
                "RUNNING → FAILED",
                f"exit code 1; see r8_lr1e-5/attempts/7/job.log\nTraceback:\n{OOM}",
                subject="r8_lr1e-5",
            ),
        )
        + hours_ago(3, Entry(Action.ALL_COMPLETE, "All 1 jobs ended", "0 COMPLETED, 1 FAILED", duration="1 hour"))
    )
    (tmp_path / Log.INSPECT.file).write_text(
        hours_ago(4.5, Entry(Action.CACHE_PREBUILD_COMPLETE, "x" * 90, "y" * 90))
        + hours_ago(2, Entry(Action.SUBMIT_EVAL, "sbatch\x1b[2J", "Job ID 9", subject=EVALUATION))
        + hours_ago(1, Entry(Action.STATE_CHANGE, "RUNNING → COMPLETED", "Done", subject=EVALUATION))[:-1]
    )
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main(["log", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def actions(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    return [entry["action"] for entry in json.loads("\n".join(shown(capsys, *arguments, "--json")))]


def test_table_is_in_time_order_and_fits(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    times = {hours: f"{NOW - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}" for hours in (30, 29, 5, 4.5, 4, 3, 2, 1)}
    stage, run, evaluation = f"{'(torchtune)':<31}", f"{'r8_lr1e-5':<31}", EVALUATION
    assert shown(capsys, folder) == [
        f"{times[30]}  DISCOVER_EXPERIMENT      {stage}  Found experiment at /… | 1 run configured",
        f"{times[29]}  SUBMIT_JOB               {run}  sbatch finetune.slurm | Job ID 7",
        f"{times[5]}  STATE_CHANGE             {run}  PENDING → RUNNING | Training started",
        f"{times[4.5]}  CACHE_PREBUILD_COMPLETE  {'(inspect)':<31}  {'x' * 12}… | {'y' * 24}…",
        f"{times[4]}  STATE_CHANGE             {run}  RUNNING → FAILED",
        "    exit code 1; see r8_lr1e-5/attempts/7/job.log",
        "    Traceback:",
        f"    {OOM}",
        f"{times[3]}  ALL_COMPLETE             {stage}  All 1 jobs e… | 0 COMPLETED, 1 FAILED (1…",
        f"{times[2]}  SUBMIT_EVAL              {evaluation}  sbatch\\x1b[2J | Job ID 9",
        f"{times[1]}  STATE_CHANGE             {evaluation}  RUNNING → COMPLETED | Done (cut off)",
    ]


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_table_is_never_wider_than_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(capsys, folder)
    assert max(map(len, lines)) <= columns
    # A failure is whole, over as many lines as it needs.
    assert OOM in " ".join(line.strip() for line in lines)
    # The epochs of an evaluation can be told apart.
    assert sum("epoch0 " in line for line in lines) == 2


def test_output_to_another_program_is_not_cut(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_terminal(*_: object) -> os.terminal_size:
        raise OSError

    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", no_terminal)
    assert f"{'x' * 90} | {'y' * 90}" in "\n".join(shown(capsys, folder))


def test_missing_checkpoint_and_refused_submission_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / Log.INSPECT.file).write_text(
        hours_ago(
            2,
            Entry(
                Action.CHECKPOINT_MISSING,
                f"Expected path: {'/on-off' * 12}/epoch_1",
                "Checkpoint not found - skipping evaluations",
                subject="r8",
                recommendation="Look at r8/attempts/7/job.log, then start the same command again",
            ),
        )
        + hours_ago(1, Entry(Action.SUBMIT_EVAL, "sbatch", f"failed: sbatch: error: {'why ' * 20}.", subject="r8"))
    )
    lines = shown(capsys, tmp_path)
    assert lines[1:5] == [
        "    Expected path:",
        f"    {'/on-off' * 12}/epoch_1",
        "    Checkpoint not found - skipping evaluations",
        "    Look at r8/attempts/7/job.log, then start the same command again",
    ]
    assert f"failed: sbatch: error: {'why ' * 20}." in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--action", "SUBMIT_JOB", "SUBMIT_EVAL"], ["SUBMIT_JOB", "SUBMIT_EVAL"]),
        (["--action", "submit_job", "--action", "ALL_COMPLETE"], ["SUBMIT_JOB", "ALL_COMPLETE"]),
        (["--subject", "r8_lr1e-5"], ["SUBMIT_JOB", "STATE_CHANGE", "STATE_CHANGE"]),
        (["--subject", "r8*/epoch?"], ["SUBMIT_EVAL", "STATE_CHANGE"]),
        (["--subject", "R8*"], []),
        (["--since", "150m"], ["SUBMIT_EVAL", "STATE_CHANGE"]),
        (["--since", f"{NOW - timedelta(hours=3)}"], ["ALL_COMPLETE", "SUBMIT_EVAL", "STATE_CHANGE"]),
        (["--log", "inspect"], ["CACHE_PREBUILD_COMPLETE", "SUBMIT_EVAL", "STATE_CHANGE"]),
        (["--log", "torchtune", "--action", "STATE_CHANGE", "--since", "4.5h"], None),
        (["--log", "torchtune", "--action", "STATE_CHANGE", "--since", "1d", "--subject", "r8*"], ["STATE_CHANGE"] * 2),
    ],
)
def test_filters_combine(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: list[str] | None
) -> None:
    if expected is None:
        assert main(["log", str(folder), *arguments]) == 2
    else:
        assert actions(capsys, folder, *arguments) == expected


def test_json_holds_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads("\n".join(shown(capsys, folder, "--json", "--action", "SUBMIT_JOB")))
    assert found == [
        {
            "time": (NOW - timedelta(hours=29)).isoformat(),
            "action": "SUBMIT_JOB",
            "subject": "r8_lr1e-5",
            "details": "sbatch finetune.slurm",
            "result": "Job ID 7",
            "job_id": "7",
            "duration": None,
            "command": None,
            "input": None,
            "calculation": None,
            "explanation": None,
            "recommendation": None,
            "truncated": False,
            "log": "torchtune",
        }
    ]


def test_torn_header_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / Log.INSPECT.file).write_text("[2025-01")
    assert shown(capsys, tmp_path)[0].split() == ["?", "?", "(inspect)", "(cut", "off)"]
    assert json.loads("\n".join(shown(capsys, tmp_path, "--json")))[0]["time"] is None


def test_no_entries_are_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", str(folder), "--since", "0s"]) == 0
    assert capsys.readouterr() == ("", "No such entries.\n")
    assert shown(capsys, folder, "--since", "0s", "--json") == ["[]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--action", "SUBMIT_JOBS"], "--action SUBMIT_JOBS: no such action; did you mean SUBMIT_JOB?"),
        (["--log", "inspekt"], "--log inspekt: no such log; did you mean inspect?"),
        *(
            (
                ["--since", text],
                f"--since {text}: not a time; write 10m, 2h, 3d, 2025-01-31 or '2025-01-31 10:00'",
            )
            for text in ("yesterday", "10", "5 m", "2025-02-30", "99999999999999d", "99999999d", "")
        ),
    ],
)
def test_bad_filter_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["log", str(folder), *arguments]) == 2
    assert capsys.readouterr() == ("", f"{message}\n")


def test_folder_without_logs_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "has an experiment been run in this folder?"
    missing = folder / "missing"
    assert main(["log", str(missing)]) == 2
    assert capsys.readouterr().err == f"{missing}: no run-torchtune.log or run-inspect.log; {asked}\n"
    (folder / "run-inspect.log").unlink()
    assert main(["log", str(folder), "--log", "inspect"]) == 2
    assert capsys.readouterr().err == f"{folder}: no run-inspect.log; {asked}\n"
    (folder / "run-inspect.log").mkdir()
    assert main(["log", str(folder)]) == 2
    assert capsys.readouterr().err == f"{folder}/run-inspect.log: cannot be read: Is a directory\n"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", datetime(2025, 1, 31, 11, 50)),
        ("2h", datetime(2025, 1, 31, 10)),
        ("3d", datetime(2025, 1, 28, 12)),
        ("45s", datetime(2025, 1, 31, 11, 59, 15)),
        ("2025-01-31", datetime(2025, 1, 31)),
        ("2025-01-31 10:00", datetime(2025, 1, 31, 10)),
        (" 2025-01-31T10:00:30 ", datetime(2025, 1, 31, 10, 0, 30)),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert parse_since(text, datetime(2025, 1, 31, 12)) == moment


def test_time_with_an_offset_is_the_local_one() -> None:
    noon = datetime(2025, 1, 31, 12)
    assert parse_since(noon.astimezone().isoformat(), noon) == noon
    with pytest.raises(CommandError):
        parse_since("0001-01-01T00:00+14:00", noon)


def test_reader_that_has_seen_enough_and_poor_terminals_are_no_error(folder: Path) -> None:
    (folder / Log.TORCHTUNE.file).write_text(hours_ago(1, Entry(Action.STATUS_CHECK, "PENDING → RUNNING", "x")) * 5000)
    start = "import sys; from run_experiment.cli import main; sys.exit(main())"
    program = f"{sys.executable} -c '{start}' log {folder} --action STATUS_CHECK"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"PYTHONIOENCODING=ascii {program} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "PENDING \\u2192 RUNNING" in result.stdout
