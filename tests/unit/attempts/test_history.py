"""What attempts leave, and how the next one reads it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.attempts.files import Failure, note_not_submitted, note_slurm_end
from run_experiment.attempts.history import Attempt, History
from run_experiment.attempts.notices import notices
from run_experiment.attempts.starts import started_again
from run_experiment.common.json_files import write_record

TARGET = "r4/finetune.json"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment folder, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attempt(name: str, file: str, **facts: Any) -> None:
    """What an attempt at the training of r4 left."""
    record = {"target": "finetune", "job_id": name.partition(".")[0], "config": {"lr": 1}}
    write_record(Path("r4/attempts") / name / file, record | {"started": "2026-01-01T10:00"} | facts)


def attempts() -> list[Attempt]:
    """Attempts at the training of r4, oldest first."""
    return History(Path()).at(TARGET)


def test_oldest_first_and_only_of_the_target() -> None:
    attempt("17", "attempt.json", started="2026-01-01T10:00", failure="error", error="no data")
    attempt("17.2", "attempt.json", started="2026-01-01T10:00", failure="out of memory", error="no room")
    attempt("9", "attempt.json", started="2026-01-02T10:00", failure="interrupted", error="killed")
    attempt("18", "attempt.json", target="cap_epoch0", failure="error", error="another's")
    (Path("r4/attempts") / "17.artifacts").mkdir()

    found = attempts()

    assert [one.folder.name for one in found] == ["17", "17.2", "9"]
    assert [one.failure for one in found] == [Failure.ERROR, Failure.OUT_OF_MEMORY, Failure.INTERRUPTED]
    assert found[-1].error == "killed"


def test_oldest_first_when_clocks_go_back() -> None:
    attempt("17", "attempt.json", started="2026-10-25T02:50:00+02:00", clock=1792889400.0)
    attempt("18", "attempt.json", started="2026-10-25T02:10:00+01:00", clock=1792890600.0)
    attempt("16", "attempt.json", started="2026-10-25T02:40:00+02:00")
    attempt("2", "attempt.json", started=None)

    assert [one.job_id for one in attempts()] == ["2", "16", "17", "18"]


def test_attempts_of_a_job_are_in_their_order_whatever_the_clocks_of_its_nodes() -> None:
    """SLURM started it again on a node whose clock is four minutes behind."""
    attempt("17", "attempt.json", started="2026-01-01T10:10", clock=1767261600.0, failure="interrupted", error="killed")
    attempt("17.2", "attempt.json", started="2026-01-01T10:06", clock=1767261360.0, failure="error", error="no data")
    attempt("18", "begun.json", started="2026-01-01T10:20", clock=1767262200.0)

    assert [one.folder.name for one in attempts()] == ["17", "17.2", "18"]


def test_jobs_are_in_the_order_in_which_slurm_accepted_them_whatever_the_clocks_of_their_nodes() -> None:
    """The clock of the first one's node is ten minutes ahead; a job of this machine is where its time is."""
    attempt("17", "attempt.json", started="2026-01-01T10:10", clock=1767261600.0, failure="error", error="no")
    attempt("9", "attempt.json", started="2026-01-01T10:05", clock=1767261300.0, failure="error", error="no")
    attempt("local-1", "attempt.json", started="2026-01-01T10:30", clock=1767262800.0, failure="error", error="no")
    order = {"17": 3, "9": 8}
    assert [one.job_id for one in History(Path(), lambda: order).at(TARGET)] == ["17", "9", "local-1"]
    assert [one.job_id for one in attempts()] == ["9", "17", "local-1"]


@pytest.mark.parametrize("minutes", [-4, 4], ids=["behind", "ahead"])
def test_starts_of_a_job_are_told_apart_whatever_the_clock_of_its_node(minutes: int) -> None:
    """Its first start failed at 10:00, its second one left a record without SLURM's time."""
    start = datetime(2026, 1, 1, 10).astimezone()
    own = (start + timedelta(minutes=minutes)).isoformat()
    allocation = {"restarts": 0, "started": start.isoformat(), "start_known_to_slurm": True}
    attempt("17", "attempt.json", started=own, error="killed", allocation=allocation, restarts=0)
    write_record(Path(TARGET), {"job_id": "17", "allocation": {"restarts": 1, "started": own}})
    assert started_again(Path(), TARGET, "17", start) is True
    assert started_again(Path(), TARGET, "17", start + timedelta(minutes=2)) is False


def test_what_sbatch_says_is_kept_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site's filter may repeat what a job exports."""
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    note_not_submitted(Path(), TARGET, "", "sbatch: error: HF_TOKEN=hf_verysecret is not allowed")
    (found,) = attempts()
    assert found.error == "sbatch: error: HF_TOKEN=*** is not allowed"


def test_one_that_was_killed_says_only_how_it_began() -> None:
    attempt("17", "begun.json", batch_size=8)

    (found,) = attempts()

    assert (found.failure, found.begun["batch_size"]) == (Failure.INTERRUPTED, 8)


@pytest.mark.parametrize(
    ("state", "failure"),
    [
        ("OUT_OF_MEMORY", Failure.OUT_OF_MEMORY),
        ("TIMEOUT", Failure.INTERRUPTED),
        ("NODE_FAIL", Failure.INTERRUPTED),
        ("FAILED", Failure.ERROR),
    ],
)
def test_slurm_knows_better(folder: Path, state: str, failure: Failure) -> None:
    attempt("17", "begun.json")
    attempt("17", "attempt.json", failure="error", error="exit status 1")

    note_slurm_end(folder, TARGET, "17", state, "as SLURM says")

    (found,) = attempts()
    assert (found.failure, found.error) == (failure, "exit status 1")


def test_slurms_word_on_memory_is_of_the_try_that_says_so_itself(folder: Path) -> None:
    attempt("17", "attempt.json", failure="out of memory", error="CUDA out of memory", clock=1.0)
    attempt("17.2", "attempt.json", failure="error", error="KeyError: input", clock=2.0)

    note_slurm_end(folder, TARGET, "17", "OUT_OF_MEMORY", "as SLURM says")

    failures = [(one.folder.name, one.failure) for one in attempts()]
    assert failures == [("17", Failure.OUT_OF_MEMORY), ("17.2", Failure.ERROR)]


def test_a_job_has_nothing_of_one_for_another_target_that_had_its_id(folder: Path) -> None:
    """A controller that lost its state gives ids again."""
    event = {"time": "2026-01-01T10:01", "action": "OOM_RETRY", "details": "4 → 2", "result": ""}
    attempt("17", "attempt.json", target="cap_epoch0", failure="error", error="another's", events=[event])
    assert history.of_job(folder, TARGET, "17") == []
    assert notices(folder, TARGET, "17") == []

    note_slurm_end(folder, TARGET, "17", "NODE_FAIL", "its node died")

    assert [one.why for one in attempts()] == ["failed as job 17: its node died"]
    (other,) = History(folder).at("r4/eval/cap_epoch0.json")
    assert (other.why, other.slurm_state) == ("failed as job 17: another's", None)
    note_slurm_end(folder, TARGET, "17", "TIMEOUT", "it took too long")
    assert [one.why for one in history.of_job(folder, TARGET, "17")] == ["failed as job 17: it took too long"]


def test_memory_that_a_job_of_the_same_id_lacked_is_not_another_targets(folder: Path) -> None:
    attempt("17", "attempt.json", target="cap_epoch0", failure="out of memory", error="CUDA out of memory")
    attempt("17.2", "attempt.json", failure="error", error="Killed")
    note_slurm_end(folder, TARGET, "17", "OUT_OF_MEMORY", "as SLURM says")
    assert [one.failure for one in attempts()] == [Failure.OUT_OF_MEMORY]


def test_slurms_verdict_on_a_job_that_never_began(folder: Path) -> None:
    note_slurm_end(folder, TARGET, "17", "NODE_FAIL", "its node died")

    (found,) = attempts()
    assert found.config is None
    assert (found.failure, found.why) == (Failure.INTERRUPTED, "failed as job 17: its node died")


def test_what_cannot_be_read_is_no_attempt() -> None:
    for name, text in {"1": "", "2": "[]", "3": '{"target": "finetune"}'}.items():
        path = Path("r4/attempts") / name / "attempt.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)

    assert [one.config for one in attempts()] == [None]


def test_notices_of_all_attempts_of_a_job_and_of_its_record(folder: Path) -> None:
    first, second, third = (
        {"time": f"2026-01-01T1{hour}:00", "action": action, "details": "d", "result": "r"}
        for hour, action in enumerate(("OOM_RETRY", "RESUME_TRAINING", "RESUME_TRAINING"))
    )
    attempt("17", "attempt.json", events=[first])
    attempt("17.2", "begun.json", events=[first, second, {"action": "NO_SUCH"}, None])
    attempt("170", "begun.json", events=[third, third])
    told = [Action.OOM_RETRY, Action.RESUME_TRAINING]
    assert [notice.action for notice in notices(folder, TARGET, "17")] == told

    write_record(folder / TARGET, {"job_id": "17", "events": [second, third]})
    assert [notice.time[11:13] for notice in notices(folder, TARGET, "17")] == ["10", "11", "12"]
    assert notices(folder, TARGET, "18") == []
