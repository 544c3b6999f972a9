"""Trainings on disk: of each configuration in a folder of its own, or as older versions left them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from run_experiment.attempts.trainings import Sought, folder_name, kept_training, unfinished_training
from run_experiment.common.json_files import write_record

CONFIG = {"lr": 0.1}
CHECKPOINTS = ["r4/artifacts/epoch_0", "r4/artifacts/epoch_1"]


@pytest.fixture
def sought(tmp_path: Path) -> Sought:
    return Sought(tmp_path, "r4", CONFIG, "r4/artifacts", CHECKPOINTS)


def leave(folder: Path, name: str = "record.json", epochs: int = 2, **facts: Any) -> None:
    """A training in a folder, with its record or what it said when it began."""
    for epoch in range(epochs):
        (folder / f"epoch_{epoch}").mkdir(parents=True)
        (folder / f"epoch_{epoch}/adapter").touch()
    write_record(folder / name, {"config": CONFIG, "run": "r4", "ended": "2026-01-01T10:00:00+01:00", **facts})


def test_the_one_in_its_place_comes_first(sought: Sought, tmp_path: Path) -> None:
    leave(tmp_path / "r4/attempts/17.artifacts", ended="2026-01-02T10:00:00+01:00")
    leave(tmp_path / "r4/artifacts")
    kept = kept_training(sought)
    assert kept
    assert kept.folder == tmp_path / "r4/artifacts"
    assert kept.place(tmp_path / CHECKPOINTS[1]) == tmp_path / CHECKPOINTS[1]


def test_of_those_moved_away_by_older_versions_the_newest_also_beside_the_place(sought: Sought, tmp_path: Path) -> None:
    leave(tmp_path / "r4/attempts/17.artifacts")
    leave(tmp_path / "r4/artifacts.18", ended="2026-01-02T10:00:00+01:00")
    leave(tmp_path / "r4/attempts/19.artifacts", ended="2026-01-03T10:00:00+01:00", config={"lr": 0.2})
    leave(tmp_path / "r4/artifacts.20", ended="2026-01-04T10:00:00+01:00", run="r8")
    kept = kept_training(sought)
    assert kept
    assert kept.place(tmp_path / CHECKPOINTS[1]) == tmp_path / "r4/artifacts.18/epoch_1"


@pytest.mark.parametrize("facts", [{"epochs": 1}, {"config": {"lr": 0.2}}, {"name": "unfinished.json"}])
def test_what_is_not_whole_or_of_something_else_is_none(sought: Sought, tmp_path: Path, facts: dict[str, Any]) -> None:
    leave(tmp_path / "r4/artifacts", **facts)
    assert kept_training(sought) is None


def test_checkpoints_without_a_folder_of_their_own(sought: Sought, tmp_path: Path) -> None:
    """As another tool's script writes them: the record lies beside the last."""
    apart = replace(sought, output_dir=None, checkpoints=["one/r4", "two/r4"])
    for folder in ("one/r4", "two/r4"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "adapter").touch()
    write_record(tmp_path / "two/r4/record.json", {"config": CONFIG})
    kept = kept_training(apart)
    assert kept
    assert [kept.place(tmp_path / folder) for folder in apart.checkpoints] == [tmp_path / "one/r4", tmp_path / "two/r4"]
    assert unfinished_training(apart) is None


def test_unfinished_ones_are_found_in_the_folder_of_their_configuration(sought: Sought, tmp_path: Path) -> None:
    home = tmp_path / "r4/trainings"
    leave(home / folder_name(home, "r4", {"lr": 0.2}), "unfinished.json", epochs=1, config={"lr": 0.2})
    assert unfinished_training(sought) is None
    folder = home / folder_name(home, "r4", CONFIG)
    leave(folder, "unfinished.json", epochs=1)
    assert unfinished_training(sought) == folder


def test_unfinished_ones_that_an_older_version_moved_away_are_found(sought: Sought, tmp_path: Path) -> None:
    leave(tmp_path / "r4/attempts/17.artifacts", "unfinished.json", epochs=1)
    leave(tmp_path / "r4/attempts/18.artifacts", "unfinished.json", epochs=1, config={"lr": 0.2})
    assert unfinished_training(sought) == tmp_path / "r4/attempts/17.artifacts"


def test_the_linked_one_comes_first_then_the_newest(sought: Sought, tmp_path: Path) -> None:
    home = tmp_path / "r4/trainings"
    name = folder_name(home, "r4", CONFIG)
    for number, day in (("", 2), (".2", 3), (".3", 1)):
        leave(home / f"{name}{number}", ended=f"2026-01-0{day}T10:00:00+01:00")
    leave(home / f"{name}0", ended="2027")
    kept = kept_training(sought)
    assert kept
    assert kept.folder == home / f"{name}.2"
    (tmp_path / "r4/artifacts").symlink_to(f"trainings/{name}.3")
    kept = kept_training(sought)
    assert kept
    assert kept.place(tmp_path / CHECKPOINTS[0]) == home / f"{name}.3/epoch_0"


def test_folders_that_runs_share_have_the_runs_in_their_names(sought: Sought, tmp_path: Path) -> None:
    shared = replace(sought, output_dir="out/r4", checkpoints=["out/r4/epoch_0", "out/r4/epoch_1"])
    own = folder_name(tmp_path / "r4/trainings", "r4", CONFIG)
    leave(tmp_path / f"out/trainings/r8.{own}", run="r8")
    assert kept_training(shared) is None
    leave(tmp_path / f"out/trainings/r4.{own}")
    assert kept_training(shared)
    assert not kept_training(sought), "that output folder may not be the experiment's own"
