"""`reuse=`: what is planned, what is put in place, and that nothing is taken unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.common import paths
from run_experiment.common.json_files import Config, config_hash, read_record, write_record
from run_experiment.experiment.model import Run
from run_experiment.experiment.records import read_training


@pytest.fixture
def other(tmp_path: Path) -> ExperimentFolder:
    """An experiment that is done, its trainings in folders of their own."""
    experiment = make_small_experiment(tmp_path / "other")
    complete(experiment)
    for run in ("r4", "r8"):
        sought = plan_of(experiment).sought(*asked(experiment, run))
        folder = sought.beside / name_of(experiment, run)
        folder.parent.mkdir()
        sought.output.rename(folder)
        sought.output.symlink_to(Path(paths.TRAININGS) / folder.name)
        record = read_record(experiment.path / paths.finetune_record(run)) or {}
        write_record(folder / paths.KEPT_RECORD, {**record, "experiment": str(experiment.path)})
    return experiment


def asked(experiment: ExperimentFolder, run: str) -> tuple[Run, Config]:
    plan = plan_of(experiment)
    return plan.experiment.run_by_name[run], plan[paths.finetune_record(run)].config


def name_of(experiment: ExperimentFolder, run: str) -> str:
    return config_hash(asked(experiment, run)[1])[:12]


@pytest.fixture
def mine(other: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """The same experiment, begun anew, with one more epoch for r8."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in other.path.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    experiment = ExperimentFolder(folder)
    experiment.set_parameters("r8", lr=0.5)
    return experiment


def test_only_what_is_equal_is_offered_and_only_if_asked_for(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    plan = plan_of(mine)
    assert not plan.offered
    assert plan["r4/finetune.json"].why == "not done yet"
    plan = plan_of(mine, reuse=(other.path,))
    assert list(plan.offered) == ["r4/finetune.json"]
    target = plan["r4/finetune.json"]
    assert (target.wanted, target.restored) == (True, True)
    assert target.why == f"trained by job local-0 of {other.path}, from where it is taken"
    assert plan["r8/finetune.json"].why == "not done yet"
    assert not (mine.path / "r4").exists()


def test_what_was_put_in_place_is_planned_as_an_earlier_training(
    mine: ExperimentFolder, other: ExperimentFolder
) -> None:
    plan = plan_of(mine, reuse=(other.path,))
    plan.take_offered({"r8/finetune.json"})
    assert not (mine.path / "r4").exists()
    plan.take_offered({"r4/finetune.json", "r4/eval/shout_epoch0.json"})
    again = plan_of(mine)
    assert again["r4/finetune.json"].why == "already trained by job local-0; its checkpoints will be restored"
    # Still asked for, it is not taken twice.
    assert not plan_of(mine, reuse=(other.path,)).offered
    assert read_training(other.path / "r4/finetune.json")


def test_redo_trains(mine: ExperimentFolder, other: ExperimentFolder) -> None:
    assert not plan_of(mine, reuse=(other.path,), redo=("r4",)).offered
