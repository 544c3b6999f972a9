"""How far a training got, read from what it left."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from run_experiment.finetuning.resume_state import drop_state, last_whole_epoch, resume_changes, what_is_missing


def save(path: Path) -> None:
    """A file of the form that torch saves."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", b"tensors" * 100)


def save_epoch(output: Path, epoch: int, *, state: bool = False) -> Path:
    folder = output / f"epoch_{epoch}"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text(name)
    save(folder / "adapter_model.pt")
    if state:
        save(folder / "recipe_state.pt")
    return folder


def test_nothing_trained(tmp_path: Path) -> None:
    assert last_whole_epoch(tmp_path / "artifacts") is None


def test_the_newest_epoch_with_a_state(tmp_path: Path) -> None:
    save_epoch(tmp_path, 0)
    assert last_whole_epoch(tmp_path) is None
    # As a kill leaves it between the rename of the new epoch and the removal of the older state.
    save_epoch(tmp_path, 1, state=True)
    newest = save_epoch(tmp_path, 2, state=True)
    assert last_whole_epoch(tmp_path) == 2
    (newest / "recipe_state.pt").unlink()
    assert last_whole_epoch(tmp_path) == 1


def test_many_epochs(tmp_path: Path) -> None:
    for epoch in range(12):
        save_epoch(tmp_path, epoch, state=epoch == 11)
    assert last_whole_epoch(tmp_path) == 11


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.pt"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_missing_file(tmp_path: Path, name: str, epoch: int) -> None:
    folders = [save_epoch(tmp_path, 0), save_epoch(tmp_path, 1, state=True)]
    (folders[epoch] / name).unlink()
    assert last_whole_epoch(tmp_path) is None


def test_epochs_after_a_gap_do_not_count(tmp_path: Path) -> None:
    save_epoch(tmp_path, 0, state=True)
    save_epoch(tmp_path, 2, state=True)
    assert last_whole_epoch(tmp_path) == 0


@pytest.mark.parametrize("name", ["recipe_state.pt", "adapter_model.pt"])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "zeros within", "text"])
def test_a_torn_file_counts_as_absent(tmp_path: Path, name: str, damage: str) -> None:
    path = save_epoch(tmp_path, 0, state=True) / name
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-30],
            "zeros": b"\0" * len(whole),
            "zeros within": whole[:200] + b"\0" * 100 + whole[300:],
            "text": b"PK\x03\x04 and no more",
        }[damage]
    )
    assert last_whole_epoch(tmp_path) is None


def test_what_is_missing(tmp_path: Path) -> None:
    assert what_is_missing(tmp_path) is None
    folders = [save_epoch(tmp_path, epoch, state=epoch == 2) for epoch in range(3)]
    (folders[2] / "recipe_state.pt").write_bytes(b"")
    assert what_is_missing(tmp_path) == "epoch_2/recipe_state.pt is damaged"
    (folders[2] / "recipe_state.pt").unlink()
    assert what_is_missing(tmp_path) == "epoch_2/recipe_state.pt is missing"
    (folders[0] / "adapter_config.json").unlink()
    assert what_is_missing(tmp_path) == "epoch_0/adapter_config.json is missing"
    shutil.rmtree(folders[0])
    assert what_is_missing(tmp_path) == "epoch_0 is missing"


def test_a_partial_folder_is_no_epoch(tmp_path: Path) -> None:
    save_epoch(tmp_path, 0, state=True)
    save_epoch(tmp_path, 1, state=True).rename(tmp_path / ".epoch_1.partial")
    assert last_whole_epoch(tmp_path) == 0


def test_drop_state(tmp_path: Path) -> None:
    for epoch in range(3):
        save_epoch(tmp_path, epoch, state=True)
    save_epoch(tmp_path, 3, state=True).rename(tmp_path / ".epoch_3.partial")
    kept = sorted(path for path in tmp_path.glob("epoch_*/*") if path.name != "recipe_state.pt")
    drop_state(tmp_path, keep=1)
    assert [path.parent.name for path in tmp_path.glob("*/recipe_state.pt")] == ["epoch_1"]
    drop_state(tmp_path)
    assert sorted(tmp_path.glob("*/*")) == kept
    drop_state(tmp_path / "missing")


def test_changes_name_files_in_the_output_folder() -> None:
    assert resume_changes(7) == {
        "resume_from_checkpoint": True,
        "checkpointer": {
            "adapter_checkpoint": "epoch_7/adapter_model.pt",
            "recipe_checkpoint": "epoch_7/recipe_state.pt",
        },
    }


def test_planning_does_not_import_torch() -> None:
    modules = ("finetuning.resume_state", "finetuning.metrics", "jobs.batch_sizes")
    imports = ", ".join(f"run_experiment.{module}" for module in modules)
    code = f"import sys, {imports}; sys.exit(bool({{'torch', 'torchtune', 'pandas'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
