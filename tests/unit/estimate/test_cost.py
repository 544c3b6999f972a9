"""What a plan will cost: judged by the jobs most like its own, in words, and against a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experiments import ExperimentFolder
from safetensors.numpy import save_file
from small_experiment import cache, evaluate, make_small_experiment, pass_check, plan_of, train

from run_experiment.estimate.cost import Estimate, Job, Source, estimate
from run_experiment.estimate.likeness import epochs_of, likeness
from run_experiment.estimate.measurements import Measurement, measured
from run_experiment.estimate.model_size import guess
from run_experiment.estimate.seconds import Seconds
from run_experiment.estimate.text import beyond_budget, estimate_text, over_budget
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
    assert (job.seconds, job.gpus, job.source) == (Seconds(61.5, 30.75, 123), 1, Source.OWN)


def test_gpus_that_share_a_training_take_as_many_gpu_seconds(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["controls"]["batch_size"] = 4
    for run in values["runs"][:2]:
        run["trainer"] = "trl"
    values["runs"][0]["compute"] = {"gpus": 2, "nodes": 2}
    experiment.write(values)
    train(experiment, "r8", seed=1, provenance=GPU)
    found = of(experiment)
    job = by_name(found)["r4"]
    assert (job.seconds, job.gpus, job.source) == (Seconds(61.5 / 4, 30.75 / 4, 123 / 4), 4, Source.OWN)
    # The record of a job knows the GPUs of its first node.
    train(experiment, "r4", seed=1, provenance={"gpus": 2 * GPU["gpus"]})
    assert {one.gpus for one in measured(plan_of(experiment))} == {1, 4}


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
    assert (found.seconds, found.source) == (Seconds(100, 80, 125), Source.OTHERS)


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


def job(subject: str, kind: Kind, seconds: float | None, gpus: int = 1, source: Source = Source.OWN) -> Job:
    time = None if seconds is None else Seconds(seconds, seconds / 2, seconds * 2)
    return Job(subject, subject.partition("/")[0], kind, gpus, time, source)


PLANNED = Estimate(
    [
        job("r4", Kind.TRAINING, 7200),
        job("r8", Kind.TRAINING, 9000),
        job("r4/shout/epoch0", Kind.EVALUATION, 600),
        job("r8/shout/epoch0", Kind.EVALUATION, 300, source=Source.OTHERS),
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


def test_what_a_budget_does_not_limit_is_said() -> None:
    assert beyond_budget(PLANNED, None) == []
    assert beyond_budget(PLANNED, 5) == ["gpu_hours=5 does not count 1 job unlike any that was measured"]
    on_cpus = Estimate([job("r4", Kind.TRAINING, 60, gpus=0), job("r8", Kind.TRAINING, 60)])
    assert beyond_budget(on_cpus, 0.5) == ["gpu_hours=0.5 does not count 1 job like some that had no GPU"]


@pytest.mark.parametrize(("hours", "text"), [(0.004, "0.00"), (0.06, "0.06"), (2.34, "2.3"), (1234.5, "1,234")])
def test_hours_have_as_many_digits_as_an_estimate(hours: float, text: str) -> None:
    found = Estimate([Job("r4", "r4", Kind.TRAINING, 1, Seconds(hours * 3600, hours * 3600, hours * 3600))])
    assert estimate_text(found).startswith(f"\nEstimate: {text} GPU-hours ({text} to {text}) for 1 training")


def test_time_grows_with_tokens_if_the_data_differ(experiment: ExperimentFolder) -> None:
    target = plan_of(experiment)["r4/finetune.json"]
    _, speed, _, _ = likeness(target.kind, target.config)

    def found(amount: int) -> tuple[Source, Seconds | None]:
        other = Measurement(target.kind, 100, 2, 1, (speed,), amount=amount)
        job = by_name(estimate(plan_of(experiment), {target.path}, [], [other]))["r4"]
        return job.source, job.seconds

    pass_check(experiment, "r4", samples=10, tokens=1000, answer_tokens=400)
    assert found(500) == (Source.OTHERS, Seconds(200, pytest.approx(200 / 1.5), 300))
    # If it is not known of how much it was, the time of an epoch says nothing.
    assert found(0)[0] is Source.SIZE


def test_a_training_unlike_any_is_judged_by_its_size(experiment: ExperimentFolder) -> None:
    pass_check(experiment, "r4", samples=10, tokens=1000, answer_tokens=400)
    found = of(experiment)
    job = by_name(found)["r4"]
    assert (job.source, job.gpus) == (Source.SIZE, 1)
    assert job.seconds == guess(experiment.path.parent / "model", 2000, "")
    assert job.seconds is not None
    assert job.seconds.most > 10 * job.seconds.least
    assert "judged by the size of the model and its data alone" in estimate_text(found)


def test_a_guess_by_size(tmp_path: Path) -> None:
    """A million tokens of a model of 7,000 parameters in a shard, by hand."""
    save_file({"a": np.zeros((70, 100), np.float16)}, tmp_path / "model.safetensors")
    work = 6 * 7000 * 1e6 / 1e12
    assert guess(tmp_path, 10**6, "NVIDIA A100-SXM4-80GB") == Seconds(
        60 + work / (312 * 0.3), 15 + work / (312 * 0.6), 600 + work / (312 * 0.05)
    )
    assert guess(tmp_path, 10**6, "Voodoo") == Seconds(
        60 + work / (312 * 0.3), 15 + work / (990 * 0.6), 600 + work / (65 * 0.05)
    )
    assert guess(tmp_path, 0, "") is None
    assert guess(tmp_path / "nothing", 5, "") is None
