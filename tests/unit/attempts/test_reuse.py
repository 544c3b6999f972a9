"""Trainings of other experiments: found by their configuration, taken as links."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from run_experiment.attempts.reuse import OtherExperiments, take_training
from run_experiment.attempts.trainings import KeptTraining, Sought, folder_name, kept_training
from run_experiment.common.json_files import read_record, write_record

CONFIG = {"lr": 0.1}


@pytest.fixture
def sought(tmp_path: Path) -> Sought:
    return asked(tmp_path / "mine")


def asked(experiment: Path, output: str = "r4/artifacts") -> Sought:
    (experiment / "r4").mkdir(parents=True, exist_ok=True)
    return Sought(experiment, "r4", CONFIG, output, [f"{output}/epoch_0", f"{output}/epoch_1"])


def trained(experiment: Path, run: str = "r8", epochs: int = 2, place: str = "", **facts: Any) -> Path:
    """A finished training of another experiment."""
    home = experiment / (place or f"{run}/trainings")
    folder = home / folder_name(home, run, CONFIG)
    for epoch in range(epochs):
        (folder / f"epoch_{epoch}").mkdir(parents=True)
        (folder / f"epoch_{epoch}/adapter").write_text(f"{run} {epoch}")
    (experiment / "experiment_summary.yaml").touch()
    ended = {"config": CONFIG, "ended": "2026-01-01T10:00:00+01:00"}
    write_record(folder / "record.json", {"experiment": str(experiment), "run": run, "job_id": "7", **ended, **facts})
    return folder


def sure(found: KeptTraining | None) -> KeptTraining:
    assert found
    return found


def test_a_training_of_the_configuration_is_found_whatever_its_run_is_called(sought: Sought, tmp_path: Path) -> None:
    folder = trained(tmp_path / "other")
    found = OtherExperiments([tmp_path / "empty", tmp_path / "other"]).training(sought)
    assert found
    assert found.folder == folder
    assert kept_training(sought) is None


def test_one_in_a_folder_of_its_own_choice_is_found(sought: Sought, tmp_path: Path) -> None:
    folder = trained(tmp_path / "other", place="checkpoints/r8/trainings")
    found = sure(OtherExperiments([tmp_path / "other"]).training(sought))
    assert found.folder == folder


def test_one_in_a_folder_outside_of_its_experiment_is_found(sought: Sought, tmp_path: Path) -> None:
    folder = trained(tmp_path / "other", place="../scratch/r8/trainings")
    checkpoints = [str(tmp_path / f"scratch/r8/artifacts/epoch_{epoch}") for epoch in range(2)]
    write_record(tmp_path / "other/r8/finetune.json", {"config": CONFIG, "checkpoints": checkpoints})
    found = sure(OtherExperiments([tmp_path / "other"]).training(sought))
    assert found.folder.samefile(folder)


@pytest.mark.parametrize("facts", [{"epochs": 1}, {"config": {"lr": 0.2}}])
def test_one_that_is_not_whole_or_of_something_else_is_not(
    sought: Sought, tmp_path: Path, facts: dict[str, Any]
) -> None:
    trained(tmp_path / "other", **facts)
    assert OtherExperiments([tmp_path / "other"]).training(sought) is None


def test_of_several_the_newest(sought: Sought, tmp_path: Path) -> None:
    trained(tmp_path / "one")
    newest = trained(tmp_path / "two", ended="2026-03-01T10:00:00+01:00")
    trained(tmp_path / "three", ended="2026-02-01T10:00:00+01:00")
    found = sure(OtherExperiments([tmp_path / name for name in ("one", "two", "three")]).training(sought))
    assert found.folder == newest


def test_without_an_output_folder_there_is_no_place_for_it(tmp_path: Path) -> None:
    trained(tmp_path / "other")
    apart = Sought(tmp_path / "mine", "r4", CONFIG, None, ["one/r4"])
    assert OtherExperiments([tmp_path / "other"]).training(apart) is None


def test_what_is_taken_is_this_run_s_and_says_where_it_is_from(sought: Sought, tmp_path: Path) -> None:
    folder = trained(tmp_path / "other", provenance={"python": "3.12"})
    before = (folder / "record.json").read_bytes()
    found = sure(OtherExperiments([tmp_path / "other"]).training(sought))
    taken = take_training(sought, found)
    kept = sure(kept_training(sought))
    assert kept.folder == taken == sought.beside / folder_name(sought.beside, "r4", CONFIG)
    assert (kept.record["experiment"], kept.record["run"]) == (str(tmp_path / "mine"), "r4")
    source = {"experiment": str(tmp_path / "other"), "run": "r8"}
    assert kept.record["provenance"] == {"python": "3.12", "taken_from": source}
    assert (taken / "epoch_1/adapter").samefile(folder / "epoch_1/adapter")
    assert (folder / "record.json").read_bytes() == before
    assert list(taken.parent.iterdir()) == [taken]


def test_what_was_taken_twice_says_where_it_was_trained(sought: Sought, tmp_path: Path) -> None:
    trained(tmp_path / "other")
    found = sure(OtherExperiments([tmp_path / "other"]).training(sought))
    take_training(sought, found)
    (tmp_path / "mine/experiment_summary.yaml").touch()
    third = asked(tmp_path / "third")
    again = sure(OtherExperiments([tmp_path / "mine"]).training(third))
    take_training(third, again)
    kept = sure(kept_training(third))
    assert kept.record["provenance"]["taken_from"] == {"experiment": str(tmp_path / "other"), "run": "r8"}


def test_from_another_file_system_by_path(sought: Sought, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tmp_path / "other")
    found = sure(OtherExperiments([tmp_path / "other"]).training(sought))

    def fail(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    taken = take_training(sought, found)
    assert (taken / "epoch_0/adapter").readlink() == folder / "epoch_0/adapter"
    assert read_record(folder / "record.json") == found.record
    assert kept_training(sought)


def test_a_take_that_fails_leaves_nothing(sought: Sought, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "other")
    found = sure(OtherExperiments([tmp_path / "other"]).training(sought))

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("run_experiment.attempts.reuse.write_record", fail)
    with pytest.raises(OSError, match="No space"):
        take_training(sought, found)
    assert not list((tmp_path / "mine").rglob("adapter"))
    assert kept_training(sought) is None
