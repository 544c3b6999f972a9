"""On a real cluster: epochs are evaluated while their training goes on, whatever becomes of that."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from cluster_runs import AT_ONCE, Run, names, run, until
from epoch_trainings import EpochTrainings

from run_experiment.common.paths import EPOCHS

EPOCH0, EPOCH1 = "r4/eval/shout_epoch0.json", "r4/eval/shout_epoch1.json"
ALL = Counter(
    ["tiny.base.shout", *[f"tiny.{run}{rest}" for run in ("r4", "r8") for rest in ("", ".shout.e0", ".shout.e1")]]
)


def begin(trainings: EpochTrainings) -> Run:
    """A session that evaluates the first epoch of r4, whose second one is still to come."""
    started = Run(trainings.experiment.path, *AT_ONCE)
    trainings.let("r4", 0)
    until(lambda: (trainings.experiment.path / EPOCH0).exists())
    assert not (trainings.experiment.path / "r4/finetune.json").exists()
    return started


def finish(trainings: EpochTrainings, session: Run) -> None:
    """End the session with all that is left, and then there is nothing to do."""
    trainings.let_all()
    assert session.wait() == 0, session.output
    assert not (trainings.experiment.path / EPOCHS).exists()
    again = run(trainings.experiment.path)
    assert "Nothing to be done" in again.output, again.output


def test_an_epoch_is_evaluated_while_the_next_one_is_trained(tmp_path: Path) -> None:
    trainings = EpochTrainings(tmp_path)
    session = begin(trainings)
    made = trainings.experiment.record(EPOCH0)
    finish(trainings, session)
    assert trainings.experiment.record(EPOCH0) == made
    assert names(trainings.experiment.path) == ALL


@pytest.mark.parametrize("end", ["killed", "interrupted"])
def test_the_same_command_goes_on_where_the_last_one_ended(tmp_path: Path, end: str) -> None:
    trainings = EpochTrainings(tmp_path)
    session = begin(trainings)
    if end == "killed":
        session.kill()
    else:
        session.interrupt(signal.SIGINT)
        assert session.wait() == 130, session.output
    made = trainings.experiment.record(EPOCH0)
    second = Run(trainings.experiment.path, *AT_ONCE)
    second.until("tiny.r4: following SLURM job")
    finish(trainings, second)
    assert trainings.experiment.record(EPOCH0) == made
    assert names(trainings.experiment.path) == ALL


def test_a_training_that_fails_later_leaves_what_was_evaluated(tmp_path: Path) -> None:
    trainings = EpochTrainings(tmp_path)
    session = begin(trainings)
    made = trainings.experiment.record(EPOCH0)
    trainings.let("r8", 0, 1)
    trainings.let("r4", 1, fail="ValueError: unlucky epoch")
    assert session.wait() == 1, session.output
    assert "ValueError: unlucky epoch" in session.output
    assert (trainings.experiment.path / "results/evals.csv").read_text().count("\nr4,") == 1
    finish(trainings, Run(trainings.experiment.path, *AT_ONCE))
    assert trainings.experiment.record(EPOCH0) == made
    assert names(trainings.experiment.path) == ALL + Counter(["tiny.r4"])
