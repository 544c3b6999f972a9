"""What a plan will cost: judged by the jobs most like its own, in words, and against a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import cache, evaluate, make_small_experiment, plan_of, train

from run_experiment.estimate.cost import Estimate, Job, Seconds, estimate
from run_experiment.estimate.measurements import Measurement, epochs_of, likeness, measured
from run_experiment.estimate.text import estimate_text, over_budget
from run_experiment.planning.target import Kind

GPU = {"gpus": [{"name": "A100"}]}


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def of(experiment: ExperimentFolder, others: list[Measurement] | None = None) -> Estimate:
    plan = plan_of(experiment)
    planned = {target.path for target in plan.targets.values() if target.wanted}
    return estimate(plan, planned, measured(plan), others or [])


def by_name(found: Estimate) -> dict[str, Job]:
    return {job.subject: job for job in found.jobs}


def test_nothing_is_known_before_anything_was_measured(experiment: ExperimentFolder) -> None:
    found = of(experiment)
    assert found.jobs
    assert not found.known
    assert found.gpu_seconds == Seconds()
    assert found.longest_path == []
    assert "none yet" in estimate_text(found)
    assert over_budget(found, 0.1) == []


def test_a_training_like_one_that_was_made(experiment: ExperimentFolder) -> None:
    train(experiment, "r8", seed=1, provenance=GPU)
    job = by_name(of(experiment))["r4"]
    # The rank differs, so that the range is the second widest; both train two epochs.
    assert (job.seconds, job.gpus, job.by_own) == (Seconds(61.5, 30.75, 123), 1, True)


def test_time_grows_with_epochs(experiment: ExperimentFolder) -> None:
    train(experiment, "r8", seed=1)
    values = experiment.read()
    values["controls"]["epochs"] = 6
    values["evaluation"]["matrix"][1]["epochs"] = [5]
    experiment.write(values)
    job = by_name(of(experiment))["r8"]
    assert job.seconds is not None
    assert (job.seconds.likely, job.seconds.least, job.seconds.most) == pytest.approx((184.5, 147.6, 230.625))


def test_own_jobs_come_first_if_as_alike(experiment: ExperimentFolder) -> None:
    train(experiment, "r8", seed=1)
    own = measured(plan_of(experiment))[0]
    slow = Measurement(own.kind, 1000, 2, 8, own.likeness)
    assert by_name(of(experiment, [slow]))["r4"].seconds == Seconds(61.5, 30.75, 123)
    # A job of another experiment that is more alike comes before.
    target = plan_of(experiment)["r4/finetune.json"]
    found = by_name(estimate(plan_of(experiment), {target.path}, [own], [alike(experiment, "r4", 100)]))["r4"]
    assert (found.seconds, found.by_own) == (Seconds(100, 80, 125), False)


def alike(experiment: ExperimentFolder, run: str, seconds: float) -> Measurement:
    """A measurement of exactly this training, in another experiment."""
    target = plan_of(experiment)[f"{run}/finetune.json"]
    epochs = epochs_of(target.kind, target.config)
    return Measurement(target.kind, seconds, epochs, 1, likeness(target.kind, target.config))


def test_the_longest_path_is_a_training_and_its_longest_evaluation(experiment: ExperimentFolder) -> None:
    train(experiment, "r8", seed=1, provenance=GPU)
    evaluate_base(experiment)
    found = of(experiment)
    assert [job.subject for job in found.longest_path] == ["r4", "r4/shout/epoch0"]
    assert "not in it" not in estimate_text(found)


def evaluate_base(experiment: ExperimentFolder) -> None:
    """What evaluating the base model leaves."""
    cache(experiment)
    base = [item for item in plan_of(experiment).experiment.evaluations if not item.needs_checkpoint]
    evaluate(experiment, base)


def test_what_is_restored_costs_nothing(experiment: ExperimentFolder) -> None:
    jobs = by_name(of(experiment))
    assert "r4" in jobs
    plan = plan_of(experiment)
    plan.targets["r4/finetune.json"] = replace(plan["r4/finetune.json"], restored=True)
    planned = {target.path for target in plan.targets.values()}
    assert "r4" not in by_name(estimate(plan, planned, [], []))


def job(subject: str, kind: Kind, seconds: float | None, gpus: int = 1, by_own: bool = True) -> Job:
    time = None if seconds is None else Seconds(seconds, seconds / 2, seconds * 2)
    return Job(subject, subject.partition("/")[0], kind, gpus, time, by_own)


PLANNED = Estimate(
    [
        job("r4", Kind.TRAINING, 7200),
        job("r8", Kind.TRAINING, 9000),
        job("r4/shout/epoch0", Kind.EVALUATION, 600),
        job("r8/shout/epoch0", Kind.EVALUATION, 300, by_own=False),
        job("r8/sing/epoch0", Kind.EVALUATION, 900),
        job("base/shout/base", Kind.EVALUATION, None),
    ]
)


def test_words() -> None:
    assert estimate_text(PLANNED) == (
        "\nEstimate: 5.0 GPU-hours (2.5 to 10) for 2 trainings and 3 evaluations\n"
        "    longest path: 2 hours 45 minutes (1 hour 22 minutes to 5 hours 30 minutes): "
        "fine-tune r8 (2 hours 30 minutes), then evaluate r8/sing/epoch0 (15 minutes)\n"
        "    judged by jobs of this experiment and jobs of your other experiments\n"
        "    not in it: 1 job unlike any that was measured"
    )
    assert estimate_text(Estimate([])) == ""


def test_words_without_a_gpu() -> None:
    found = Estimate([job("r4", Kind.TRAINING, 60, gpus=0)])
    assert estimate_text(found).startswith(
        "\nEstimate: 1 minute (30 seconds to 2 minutes) of computing for 1 training\n"
    )


def test_budget() -> None:
    assert over_budget(PLANNED, None) == []
    assert over_budget(PLANNED, 5) == []
    assert over_budget(PLANNED, 4.5) == [
        "gpu_hours=4.5 does not suffice: the estimate is 5.0 GPU-hours (2.5 to 10). Nothing is submitted; choose less "
        "with only=, or allow more."
    ]


@pytest.mark.parametrize(("hours", "text"), [(0.004, "0.00"), (0.06, "0.06"), (2.34, "2.3"), (1234.5, "1,234")])
def test_hours_have_as_many_digits_as_an_estimate(hours: float, text: str) -> None:
    found = Estimate([Job("r4", "r4", Kind.TRAINING, 1, Seconds(hours * 3600, hours * 3600, hours * 3600))])
    assert estimate_text(found).startswith(f"\nEstimate: {text} GPU-hours ({text} to {text}) for 1 training")
