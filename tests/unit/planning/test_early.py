"""What waits for an epoch in place of the whole training, and what stays valid of a training that is unfinished."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import cache, evaluate, make_small_experiment, plan_of, train, write_adapter

from run_experiment.checkpoints.manifest import verify
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.planning.early import early_targets, remove_marks, trainings_behind
from run_experiment.planning.job_files import PlannedJobs

R4, MARK = "r4/finetune.json", ".snakemake/run-experiment/epochs/r4/epoch_0.json"
MANIFEST, EVALUATION = "r4/checkpoints/epoch_0.json", "r4/eval/shout_epoch0.json"
FIRST = {"job_id": "17", "ended": "2025-01-31T10:00:00+01:00"}


@pytest.fixture
def new(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def begin(experiment: ExperimentFolder, seed: int = 1, trained: dict[str, str] = FIRST) -> None:
    """Leave the unfinished training of r4 with a whole first epoch."""
    plan = plan_of(experiment)
    folder = experiment.path / "r4/artifacts"
    write_record(folder / paths.UNFINISHED, {"experiment": str(experiment.path), "config": plan[R4].config})
    write_adapter(folder / "epoch_0", seed)
    write_record(folder / "epoch_0" / paths.TRAINED, trained)


def verify_first(experiment: ExperimentFolder) -> None:
    with chdir(experiment.path):
        verify(**PlannedJobs(plan_of(experiment)).verification("r4", "epoch_0"))


def evaluate_first(experiment: ExperimentFolder) -> None:
    items = plan_of(experiment).experiment.evaluations
    evaluate(experiment, [item for item in items if paths.eval_record(item.run.name, item.cell) == EVALUATION])


def states(experiment: ExperimentFolder) -> dict[str, bool]:
    plan = plan_of(experiment)
    return {path: plan[path].wanted for path in (R4, MANIFEST, EVALUATION)}


def test_all_epochs_but_the_last_are_waited_for(new: ExperimentFolder) -> None:
    plan = plan_of(new)
    found = early_targets(plan)
    assert found.keys() == {MARK, MARK.replace("r4", "r8"), MANIFEST, MANIFEST.replace("r4", "r8")}
    assert found[MANIFEST].needs == (MARK,)
    assert found[MARK].needs == plan[R4].needs
    # They do not need it as such, and only one of them is asked for.
    assert set(trainings_behind(plan_of(new, only=("r4/*/epoch0",)), found)) == {R4}


def test_a_training_that_publishes_nothing_whole_is_waited_for(new: ExperimentFolder) -> None:
    script = new.path / "r4/finetune.slurm"
    script.parent.mkdir()
    script.write_text("#!/bin/bash\npython train.py\n")
    assert MARK not in early_targets(plan_of(new))
    script.write_text("#!/bin/bash\npython -m run_experiment.finetuning.recipe --config r4/finetune.yaml\n")
    assert MARK in early_targets(plan_of(new))


def test_nothing_is_waited_for_twice(new: ExperimentFolder) -> None:
    train(new, "r4", seed=1)
    assert MARK not in early_targets(plan_of(new))


def test_what_was_evaluated_early_stays_valid(new: ExperimentFolder) -> None:
    """While the training goes on or if it fails, and once it ended, even if a later job ended it."""
    cache(new)
    begin(new)
    assert states(new) == {R4: True, MANIFEST: True, EVALUATION: True}
    verify_first(new)
    plan = plan_of(new)
    assert (plan[MANIFEST].wanted, plan[EVALUATION].wanted, plan[EVALUATION].needs) == (False, True, ())
    evaluate_first(new)
    assert states(new) == {R4: True, MANIFEST: False, EVALUATION: False}
    assert early_targets(plan_of(new)).keys() == {MARK.replace("r4", "r8"), MANIFEST.replace("r4", "r8")}
    second = {"job_id": "18", "ended": "2025-01-31T11:00:00+01:00"}
    train(new, "r4", seed=1, job_id="18", ended=second["ended"], epochs=[FIRST, second])
    (new.path / "r4/artifacts" / paths.UNFINISHED).unlink()
    assert states(new) == {R4: False, MANIFEST: False, EVALUATION: False}
    verify_first(new)
    assert states(new) == {R4: False, MANIFEST: False, EVALUATION: False}


def test_an_evaluation_gets_the_checkpoint_of_an_unfinished_training(new: ExperimentFolder) -> None:
    begin(new)
    verify_first(new)
    plan = plan_of(new)
    job = new.record(PlannedJobs(plan).evaluation("r4", "shout_epoch0"))
    assert job["config"]["checkpoint"].keys() == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("change", ["epoch", "configuration", "redo"])
def test_what_is_trained_anew_makes_it_stale(new: ExperimentFolder, change: str) -> None:
    cache(new)
    begin(new)
    verify_first(new)
    evaluate_first(new)
    if change == "epoch":
        begin(new, seed=2, trained=FIRST | {"job_id": "18"})
    if change == "configuration":
        new.set_parameters("r4", lr=0.02)
    plan = plan_of(new, redo=("r4",) if change == "redo" else ())
    assert plan[MANIFEST].wanted
    assert plan[EVALUATION].wanted
    assert plan[EVALUATION].needs == (MANIFEST,)
    assert early_targets(plan)[MANIFEST].needs == (MARK,)


def test_the_marks_of_a_session_go_and_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / paths.JOBS / "r4.json"
    for path in (tmp_path / MARK, other):
        write_record(path, {})
    remove_marks(tmp_path)
    remove_marks(tmp_path)
    assert [*(tmp_path / paths.MEMORY).rglob("*.json")] == [other]
