"""A chat template that shows the date has the same one on every day, and other experiments know of none."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.inputs import template_dates

R4, BASE = "r4/finetune.json", "base/eval/shout_base.json"


class FirstDay(date):
    @classmethod
    def today(cls) -> FirstDay:
        return cls(2026, 1, 5)


class NextDay(date):
    @classmethod
    def today(cls) -> NextDay:
        return cls(2026, 1, 6)


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentFolder:
    """A new experiment, on the first day, with a model whose template shows the date."""
    experiment = make_small_experiment(tmp_path / "experiment")
    monkeypatch.setattr(template_dates, "date", FirstDay)
    (tmp_path / "model/chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}")
    return experiment


def written(experiment: ExperimentFolder) -> dict[str, str]:
    """Scripts, configs and templates in an experiment's folder."""
    files = [path for path in experiment.path.rglob("*") if path.suffix in (".yaml", ".slurm", ".jinja")]
    return {str(path): path.read_text() for path in files}


def test_one_date_for_trainings_and_evaluations_on_all_days(
    new: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_of(new).write_scripts()
    complete(new)
    first = written(new)
    assert "05 Jan 2026" not in str(first)
    assert '["%d", "05"]' in first[f"{new.path}/r4/tokenizer/chat_template.jinja"]
    assert "path: r4/tokenizer" in first[f"{new.path}/r4/finetune.yaml"]
    assert "tokenizer_path=r4/tokenizer" in first[f"{new.path}/r4/eval/shout_epoch0.slurm"]
    assert "tokenizer_path=base/tokenizer" in first[f"{new.path}/base/eval/shout_base.slurm"]
    assert "tokenizer_path=given/tokenizer" in first[f"{new.path}/given/eval/shout_base.slurm"]

    monkeypatch.setattr(template_dates, "date", NextDay)
    plan = plan_of(new)
    assert not [target for target in plan.targets.values() if target.wanted]
    assert {plan[path].config["template_date"] for path in (R4, BASE)} == {"2026-01-05"}
    plan.write_scripts()
    assert written(new) == first


def test_another_date_makes_everything_again(new: ExperimentFolder) -> None:
    plan_of(new).write_scripts()
    complete(new)
    (new.path / "template_date.txt").write_text("2026-01-07")
    plan = plan_of(new)
    assert plan[R4].why == plan[BASE].why == 'template_date: "2026-01-05" → "2026-01-07"'


def test_results_of_earlier_versions_stay(new: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr("run_experiment.inputs.template_dates._asks_for_date", lambda _: False)
        complete(new)
    plan = plan_of(new)
    assert not [target for target in plan.targets.values() if target.wanted]
    new.set_parameters("r4", lr=0.5)
    assert plan_of(new)[R4].why == "lr: 0.01 → 0.5"


def test_template_without_a_date_changes_nothing(tmp_path: Path) -> None:
    experiment = make_small_experiment(tmp_path / "experiment")
    plan = plan_of(experiment)
    plan.write_scripts()
    assert not [path for path in experiment.path.rglob("*") if path.name in ("tokenizer", "template_date.txt")]
    assert not [target for target in plan.targets.values() if "template_date" in target.config]
