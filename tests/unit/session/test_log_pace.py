"""A training that is much slower than such trainings were is reported once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from session_logs import R4, R8, Session, plan
from small_experiment import make_small_experiment, pass_check, plan_of, train

from run_experiment.actionlog.entry import Action, Log
from run_experiment.estimate.cost import Source
from run_experiment.estimate.measurements import Store, measured
from run_experiment.estimate.speeds import ExpectedSpeeds, Speed
from run_experiment.finetuning.metrics import COLUMNS
from run_experiment.session.plan import SessionPlan
from run_experiment.slurm.events import Polled

EXPECTED = Speed(100.0, Source.OWN, "A100")


def session_plan(folder: Path) -> SessionPlan:
    """Its trainings are expected to have 100 tokens/s."""
    made = plan(folder, speed=lambda target: EXPECTED if target == R4 else None)
    jobs = {
        target: job.__class__(**{**vars(job), "curve": f"{job.run}/metrics.csv"}) for target, job in made.jobs.items()
    }
    return made.__class__(**{**vars(made), "jobs": jobs})


def write_steps(session: Session, run: str, steps: int, speed: float) -> Path:
    file = session.folder / run / "metrics.csv"
    file.parent.mkdir(exist_ok=True)
    rows = [f"0,{step},2.0,0.001,{speed},1.0,,\n" for step in range(1, steps + 1)]
    file.write_text(",".join(COLUMNS) + "\n" + "".join(rows))
    return file


def poll(session: Session, times: int = 5) -> list[tuple[str, str, str]]:
    for _ in range(times):
        session.tell(Polled({R4: "RUNNING", R8: "RUNNING"}))
    return session.rows(Action.THROUGHPUT_STATUS)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of other tests are not seen."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def slow(tmp_path: Path) -> Session:
    session = Session(session_plan(tmp_path))
    session.start(R4, R8)
    return session


def test_a_slow_training_is_reported_once(slow: Session) -> None:
    for run in ("r4", "r8"):
        write_steps(slow, run, 40, 44.0)
    said = ("r4", "44 tokens/s at step 40", "44% of the 100 tokens/s of jobs of this experiment on A100")
    assert poll(slow, 4) == []
    assert poll(slow, 1) == [said]
    assert poll(slow, 20) == [said]
    assert slow.rows(Action.THROUGHPUT_STATUS, log=Log.TORCHTUNE) == [said]


@pytest.mark.parametrize(("steps", "speed"), [(40, 71.0), (19, 44.0), (3, 44.0)])
def test_neither_one_that_is_fast_enough_nor_one_that_has_just_begun(slow: Session, steps: int, speed: float) -> None:
    write_steps(slow, "r4", steps, speed)
    assert poll(slow) == []


def test_steps_of_an_earlier_job_say_nothing(slow: Session) -> None:
    os.utime(write_steps(slow, "r4", 40, 44.0), (0, 0))
    assert poll(slow) == []


def test_expected_speed_is_that_of_the_most_alike(tmp_path: Path) -> None:
    experiment = make_small_experiment(tmp_path / "experiment")
    assert ExpectedSpeeds(plan_of(experiment))(R4) is None
    speeds = ExpectedSpeeds(plan_of(experiment))
    pass_check(experiment, "r4", samples=10, tokens=1000, answer_tokens=400)
    train(experiment, "r4", seed=1, tokens_per_second=40.0, provenance={"gpus": [{"name": "A100"}]})
    Store().add(measured(plan_of(experiment)))
    # The model was checked, and the store filled, after the session began.
    assert speeds(R4) == Speed(40.0, Source.OWN, "A100")
    # Another rank is another speed.
    assert ExpectedSpeeds(plan_of(experiment))(R8) is None
    other = make_small_experiment(tmp_path / "other" / "experiment")
    pass_check(other, "r4", samples=10, tokens=1000, answer_tokens=200)
    assert ExpectedSpeeds(plan_of(other))(R4) == Speed(20.0, Source.OTHERS, "A100")
