"""When an epoch that others wait for counts as trained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from snakemake_executor_plugin_slurm_attached.epochs import Epochs

CONFIG = {"lr": 0.1}
MARK = ".snakemake/run-experiment/epochs/r4/epoch_1.json"


@pytest.fixture
def epoch(tmp_path: Path) -> Any:
    facts = {
        "run": "r4",
        "target": "r4/finetune.json",
        "config": CONFIG,
        "output_dir": "r4/artifacts",
        "checkpoints": [f"r4/artifacts/epoch_{number}" for number in range(3)],
    }
    (tmp_path / "job.json").write_text(json.dumps(facts))
    return SimpleNamespace(params=SimpleNamespace(job="job.json"), output=[MARK])


def training(succeeded: bool) -> tuple[Any, bool]:
    return SimpleNamespace(output=["r4/finetune.json"]), succeeded


def publish(folder: Path, number: int, config: dict[str, float]) -> None:
    write_record(folder / "r4/artifacts" / paths.UNFINISHED, {"experiment": str(folder), "config": config})
    write_record(folder / f"r4/artifacts/epoch_{number}" / paths.TRAINED, {"job_id": "17", "ended": "now"})


def test_it_is_trained_once_it_is_whole(tmp_path: Path, epoch: Any) -> None:
    epochs = Epochs(tmp_path)
    publish(tmp_path, 0, CONFIG)
    assert epochs.is_trained(epoch) is None
    publish(tmp_path, 1, CONFIG)
    assert epochs.is_trained(epoch) is True
    assert json.loads((tmp_path / MARK).read_text())["job_id"] == "17"


def test_an_epoch_of_another_training_is_none(tmp_path: Path, epoch: Any) -> None:
    """Neither of another configuration, nor of one that is over: its record was moved away, or is to be replaced."""
    publish(tmp_path, 1, {"lr": 0.2})
    assert Epochs(tmp_path).is_trained(epoch) is None
    (tmp_path / "r4/artifacts" / paths.UNFINISHED).unlink()
    assert Epochs(tmp_path).is_trained(epoch) is None


@pytest.mark.parametrize("succeeded", [True, False])
def test_at_the_end_of_its_training_it_is_known(tmp_path: Path, epoch: Any, succeeded: bool) -> None:
    """Of a script that publishes nothing while it trains, it is known only then."""
    epochs = Epochs(tmp_path)
    epochs.note_end(*training(succeeded))
    assert epochs.is_trained(epoch) is succeeded
    assert (tmp_path / MARK).exists() is succeeded


def test_an_epoch_that_is_whole_counts_although_its_training_failed(tmp_path: Path, epoch: Any) -> None:
    epochs = Epochs(tmp_path)
    publish(tmp_path, 1, CONFIG)
    epochs.note_end(*training(False))
    assert epochs.is_trained(epoch) is True
