"""The ledger of submitted jobs: what is open, whatever the names and however the file was torn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_experiment.slurm.ledger import Ledger, Logged, Settled, Submission

# With control characters, line separators, and the bytes that Python keeps of a file name that is not UTF-8.
TEXT = st.text() | st.text(alphabet=st.characters(categories=["Cc", "Zl", "Zp"]) | st.sampled_from('\udc80\udcff"\\'))


def submission(target: str = "rank4/finetune.json", name: str = "finetune") -> Submission:
    return Submission(target, "a1b2", name, "comment", 1000, "2026-01-31T12:00:00+01:00")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".snakemake" / "run-experiment" / "ledger.jsonl"


def test_what_is_logged_of_an_id_is_not_of_another_job_that_gets_it(path: Path) -> None:
    """But of the same job, which may be noted again after it was thought to be over."""
    ledger, one, other = Ledger(path), submission(), submission("rank8/finetune.json")
    ledger.accepted(one, "7")
    ledger.logged("7", "COMPLETED", None)
    ledger.accepted(replace(one, time="2026-01-31T13:00:00+01:00"), "7")
    assert ledger.last_logged() == {"7": Logged("COMPLETED")}
    ledger.accepted(other, "7")
    assert ledger.last_logged() == {}
    ledger.logged("7", "RUNNING", None)
    assert ledger.last_logged() == {"7": Logged("RUNNING")}


def test_a_submission_from_its_intention_to_its_end(path: Path) -> None:
    ledger, one = Ledger(path), submission()
    assert ledger.open() == {}
    ledger.intend(one)
    assert Ledger(path).open() == {one.target: one}
    ledger.accepted(one, "7")
    assert Ledger(path).open() == {one.target: replace(one, job_id="7")}
    ledger.settled(one.target, "8", "COMPLETED")
    assert Ledger(path).open() == {one.target: replace(one, job_id="7")}
    ledger.settled(one.target, "7", "COMPLETED")
    assert Ledger(path).open() == {}
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == [
        "intended",
        "accepted",
        "settled",
        "settled",
    ]


def test_the_last_end_of_each_target(path: Path) -> None:
    ledger, one = Ledger(path), submission()
    assert ledger.read().settled == {}
    ledger.accepted(one, "7")
    ledger.settled(one.target, "7", "FAILED")
    ledger.accepted(replace(one, config_hash="c3d4"), "9")
    assert [(job.job_id, job.state, job.config_hash) for job in ledger.read().settled.values()] == [
        ("7", "FAILED", "a1b2")
    ]
    ledger.settled(one.target, "9", "COMPLETED")
    # Of neither of these it is known what it was, or when it was.
    ledger.settled("another", "11", "LOST")
    ledger.settled("none", "", "LOST")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps({**json.loads(lines[-2]), "target": "x", "time": "soon"}), ""]))
    found = ledger.read().settled
    assert {target: (job.job_id, job.state, job.config_hash) for target, job in found.items()} == {
        one.target: ("9", "COMPLETED", "c3d4"),
        "another": ("11", "LOST", None),
    }
    assert found[one.target] == Settled("9", "COMPLETED", datetime.fromisoformat(json.loads(lines[3])["time"]), "c3d4")


def test_what_was_never_accepted_is_settled_without_an_id(path: Path) -> None:
    ledger = Ledger(path)
    ledger.intend(submission())
    ledger.settled(submission().target, "", "LOST")
    assert ledger.open() == {}


def test_targets_are_apart(path: Path) -> None:
    ledger, one, other = Ledger(path), submission("a"), submission("b")
    for which, job_id in ((one, "1"), (other, "2")):
        ledger.intend(which)
        ledger.accepted(which, job_id)
    ledger.settled("a", "1", "FAILED")
    assert ledger.open() == {"b": replace(other, job_id="2")}
    assert (ledger.read("a").open, ledger.read("a").settled) == ({}, ledger.read().settled)
    assert (ledger.read("b").open, ledger.read("b").settled) == (ledger.open(), {})


def test_the_last_submission_wins(path: Path) -> None:
    ledger, first, second = Ledger(path), submission(name="first"), submission(name="second")
    ledger.intend(first)
    ledger.accepted(first, "1")
    ledger.intend(second)
    assert ledger.open() == {first.target: second}
    ledger.accepted(second, "2")
    ledger.settled(first.target, "1", "CANCELLED")
    assert ledger.open() == {first.target: replace(second, job_id="2")}


def test_of_two_jobs_of_one_submission_the_last_counts(path: Path) -> None:
    ledger, one = Ledger(path), submission()
    ledger.accepted(one, "1")
    ledger.accepted(one, "2")
    assert ledger.open()[one.target].job_id == "2"


@pytest.mark.parametrize("kept", [1, 40, -2, -1])
def test_a_torn_line_is_passed_over_and_swallows_nothing(path: Path, kept: int) -> None:
    ledger, one, other = Ledger(path), submission("a"), submission("b")
    ledger.intend(one)
    whole = path.read_bytes()
    ledger.intend(other)
    torn = path.read_bytes()[len(whole) :][:kept]
    path.write_bytes(whole + torn)
    # Without its line end alone, the line is whole.
    before = {"a", "b"} if kept == -1 else {"a"}
    assert set(ledger.open()) == before
    ledger.intend(submission("c"))
    assert set(ledger.open()) == before | {"c"}


def test_lines_of_another_form_change_nothing(path: Path) -> None:
    ledger, one = Ledger(path), submission()
    ledger.accepted(one, "1")
    good = {"event": "accepted", **asdict(replace(one, job_id="9"))}
    bad = [
        "null",
        "[]",
        "7",
        "{}",
        '{"event": "settled"}',
        '{"event": "settled", "target": [], "job_id": "1"}',
        json.dumps(good | {"event": "unheard of"}),
        json.dumps(good | {"job_id": None}),
        json.dumps(good | {"job_id": 9}),
        json.dumps(good | {"uid": "root"}),
        json.dumps(good | {"target": None}),
        "\udcff",
        "[" * 5000,
    ]
    with path.open("ab") as file:
        file.writelines(line.encode(errors="surrogateescape") + b"\n" for line in bad)
    assert ledger.open() == {one.target: replace(one, job_id="1")}


@settings(max_examples=60, deadline=None)
@given(texts=st.tuples(TEXT, TEXT, TEXT, TEXT), uid=st.integers(0, 2**32))
def test_any_text_survives(texts: tuple[str, str, str, str], uid: int) -> None:
    target, config_hash, name, comment = texts
    one = Submission(target, config_hash, name, comment, uid, "2026-01-31T12:00:00+01:00")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        ledger.intend(one)
        ledger.accepted(one, "1")
        assert ledger.open() == ledger.read(target).open == {target: replace(one, job_id="1")}
        ledger.settled(target, "1", "FAILED")
        assert ledger.open() == {}


def test_two_processes_append_at_once(path: Path) -> None:
    path.parent.mkdir(parents=True)
    # Torn at the start, so that both begin with a line of their own.
    path.write_text('{"event": "inten')
    commands = (
        "import sys; from pathlib import Path; from run_experiment.slurm.ledger import Ledger, Submission\n"
        "for number in range(100):\n"
        "    one = Submission(f'{sys.argv[2]}/{number}', 'h', 'n', 'c' * 5000, 0, 't')\n"
        "    Ledger(Path(sys.argv[1])).intend(one)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", commands, path, name]) for name in ("a", "b")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert set(Ledger(path).open()) == {f"{name}/{number}" for name in ("a", "b") for number in range(100)}
    assert len(path.read_text().splitlines()) == 201


def test_a_long_ledger_is_read_about_as_fast_as_its_lines(path: Path) -> None:
    path.parent.mkdir(parents=True)
    lines = []
    for number in range(3334):
        one = submission(f"rank4/eval/capitalization_epoch{number}.json")
        lines.append({"event": "intended", **asdict(one)})
        lines.append({"event": "accepted", **asdict(replace(one, job_id=str(number)))})
        if number % 2:
            lines.append({"event": "settled", "target": one.target, "job_id": str(number), "state": "FAILED"})
    texts = [json.dumps(line) for line in lines * 2]
    path.write_text("".join(f"{text}\n" for text in texts))
    assert len(Ledger(path).open()) == 1667
    assert seconds(Ledger(path).open) < 10 * seconds(lambda: list(map(json.loads, texts)))


def seconds(call: Callable[[], object]) -> float:
    """The least of the processor's time that a call took."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def test_a_full_disk_is_an_error() -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left"):
        Ledger(Path("/dev/full")).intend(submission())
