"""Time limits of rendered job scripts, from how long such jobs took."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, pass_check, plan_of, train
from status_cases import submit

from run_experiment.common import paths
from run_experiment.estimate.cost import judge_of
from run_experiment.estimate.time_limits import TimeLimits
from run_experiment.planning.plan import Plan
from run_experiment.slurm.ledger import PATH, Ledger

HOURS = (0.5, 24.0)
R4, R8 = "r4/finetune.json", "r8/finetune.json"


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of other tests are not seen."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def limited(experiment: ExperimentFolder, *hours: float | None) -> Plan:
    plan = plan_of(experiment)
    plan.scripts.time_limit = TimeLimits(plan, lambda: judge_of(plan), hours or HOURS)
    return plan


def limit(experiment: ExperimentFolder, path: str = R4, *hours: float | None) -> str:
    return limited(experiment, *hours).scripts.time_limit(path, "04:00:00")


def test_without_a_measurement_it_is_the_usual_one(experiment: ExperimentFolder) -> None:
    assert limit(experiment) == "04:00:00"
    # A guess by the size is worth no limit.
    pass_check(experiment, "r4", samples=10, tokens=1000, answer_tokens=400)
    assert limit(experiment) == "04:00:00"


@pytest.mark.parametrize(
    ("seconds", "text"), [(61.5, "00:30:00"), (3000, "01:30:00"), (40_000, "17:00:00"), (400_000, "24:00:00")]
)
def test_margin_startup_and_rounding(experiment: ExperimentFolder, seconds: float, text: str) -> None:
    """1.5 times and 10 minutes, rounded up to a quarter of an hour, within half an hour and a day."""
    train(experiment, "r4", seed=1, seconds=seconds)
    assert limit(experiment) == text


def test_the_whole_range_if_it_is_more(experiment: ExperimentFolder) -> None:
    train(experiment, "r8", seed=1, seconds=3000)
    # Another rank, so that it may take double.
    assert limit(experiment) == "02:00:00"


@pytest.mark.parametrize(
    ("hours", "text"), [((2.0, None), "02:00:00"), ((None, 0.25), "00:15:00"), ((None, None), "01:30:00")]
)
def test_floor_and_ceiling(experiment: ExperimentFolder, hours: tuple[float | None, ...], text: str) -> None:
    train(experiment, "r4", seed=1, seconds=3000)
    assert limit(experiment, R4, *hours) == text


def test_after_a_job_hit_its_limit_it_is_not_below_the_usual_one(experiment: ExperimentFolder) -> None:
    train(experiment, "r8", seed=1, seconds=60)
    assert limit(experiment) == "00:30:00"
    submit(experiment, R4, "tiny.r4", "17")
    Ledger(experiment.path / PATH).settled(R4, "17", "TIMEOUT")
    assert limit(experiment) == "04:00:00"


def to_be_made(plan: Plan) -> list[str]:
    return [path for path, target in plan.targets.items() if target.wanted and path != paths.SUMMARY_PAGE]


def test_scripts_ask_for_it_and_nothing_is_made_again(experiment: ExperimentFolder) -> None:
    plan_of(experiment).write_scripts()
    complete(experiment)
    planned = {path: target.config for path, target in plan_of(experiment).targets.items()}
    plan = limited(experiment)
    assert to_be_made(plan) == []
    assert {path: target.config for path, target in plan.targets.items()} == planned
    assert plan.write_scripts() == []
    for script in ("r4/finetune.slurm", "r4/eval/shout_epoch0.slurm"):
        text = (experiment.path / script).read_text()
        assert re.findall(r"^#SBATCH --time=(.*)$", text, re.MULTILINE) == ["00:30:00"]
    assert not [
        path for path, target in plan_of(experiment).targets.items() if target.wanted and path != paths.SUMMARY_PAGE
    ]


def test_what_the_summary_or_an_edited_script_asks_for_stays(experiment: ExperimentFolder) -> None:
    complete(experiment)
    values = experiment.read()
    values["runs"][0]["compute"] = {"time": "00:05:00"}
    experiment.write(values)
    plan = limited(experiment)
    plan.write_scripts()
    assert "--time=00:05:00\n" in (experiment.path / "r4/finetune.slurm").read_text()
    script = experiment.path / "r8/finetune.slurm"
    script.write_text(script.read_text().replace("--time=00:30:00", "--time=07:00:00"))
    limited(experiment).write_scripts()
    assert "--time=07:00:00\n" in script.read_text()
