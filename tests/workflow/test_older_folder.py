"""A folder of version 3851a5d, which moved a training away for another one: what is in it is used as it is.

`older_folder` holds what that version left of a tiny model: r4 is done (lr 0.01), its training with lr 0.02 is in
`attempts`, and r8 was killed after its first epoch.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from snakemake_cli import planned, ran, snakemake
from tiny_model import make_tiny_model

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.inputs.fingerprints import model_fingerprint

# Those trainings were torchtune's.
pytestmark = pytest.mark.torchtune

OLDER = Path(__file__).with_name("older_folder")
R4 = ("--config", "only=r4,r4/*/*")


@pytest.fixture
def older(tmp_path: Path) -> ExperimentFolder:
    """A copy of the folder, with its model, as if it had been made here."""
    experiment = ExperimentFolder(shutil.copytree(OLDER, tmp_path / "experiment", symlinks=True))
    fingerprint = model_fingerprint(make_tiny_model(experiment.path / "model"))
    for path in experiment.path.rglob("*.json"):
        text = path.read_text()
        if path.name != "adapter_config.json" and "model" not in path.parts[-2:]:
            path.write_text(text.replace("FOLDER", str(experiment.path)).replace("MODEL_SHA256", fingerprint))
    return experiment


def epochs(folder: Path) -> list[tuple[int, bytes]]:
    """Inodes and contents of the adapters in a training's folder."""
    files = sorted(folder.glob("epoch_*/adapter_model.safetensors"))
    return [(path.stat().st_ino, path.read_bytes()) for path in files]


def test_nothing_is_planned_for_what_is_done(older: ExperimentFolder) -> None:
    assert planned(older.path, *R4) == Counter(collect_results=1), "there are no results in it"


def test_training_that_was_moved_away_is_restored_and_an_unfinished_one_resumed(older: ExperimentFolder) -> None:
    done, moved = (epochs(older.path / "r4" / name) for name in ("artifacts", "attempts/local-1.artifacts"))
    (first,) = epochs(older.path / "r8/artifacts")
    older.set_parameters("r4", lr=0.02)
    expected = Counter(check_model=1, run_finetune=2, verify_checkpoint=4, collect_results=1)
    assert planned(older.path, "--config", "only=r4,r8") == expected
    result = snakemake(older.path, "--config", "only=r4,r8")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == expected

    record = older.record("r4/finetune.json")
    assert (record["config"]["hyperparameters"]["lr"], "restored_by" in record) == (0.02, True)
    assert epochs(older.path / "r4/artifacts") == moved
    told = read_action_logs(older.path)
    (resumed,) = told[told["action"] == "RESUME_TRAINING"].to_dict("records")
    assert resumed["result"] == "1 of 2 epochs are trained, 1 to do"
    assert epochs(older.path / "r8/artifacts")[0] == first
    assert len(epochs(older.path / "r8/artifacts")) == 2

    older.set_parameters("r4", lr=0.01)
    result = snakemake(older.path, "--config", "only=r4")
    assert result.returncode == 0, result.stdout
    assert epochs(older.path / "r4/artifacts") == done
    assert list((older.path / "r4/attempts").iterdir()) == []
    assert {path.name for path in (older.path / "r4").glob("*artifacts*")} == {"artifacts"}
