"""How long jobs took: read from records, kept for other experiments."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, pass_check, plan_of, train

from run_experiment.common import paths
from run_experiment.common.json_files import read_record, write_record
from run_experiment.estimate.likeness import likeness
from run_experiment.estimate.measurements import Measurement, Store, measured, told_apart
from run_experiment.planning.target import Kind


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def test_records_say_how_long_jobs_took(experiment: ExperimentFolder) -> None:
    assert measured(plan_of(experiment)) == []
    complete(experiment)
    found = measured(plan_of(experiment))
    trainings = [one for one in found if one.kind == Kind.TRAINING]
    assert [(one.seconds, one.epochs, one.gpus, one.seconds_each) for one in trainings] == [(61.5, 2, 0, 30.75)] * 2
    evaluations = [one for one in found if one.kind == Kind.EVALUATION]
    assert {(one.seconds_each, one.epochs) for one in evaluations} == {(9.5, 1)}
    assert len({one.job for one in found}) == len(found) == len(plan_of(experiment).experiment.evaluations) + 2


@pytest.mark.parametrize("facts", [{"attempts": [{"job_id": "1"}]}, {"restored_by": "2"}, {"seconds": None}])
def test_a_part_of_a_job_s_time_says_nothing(experiment: ExperimentFolder, facts: dict[str, object]) -> None:
    train(experiment, "r4", seed=1, **facts)
    assert measured(plan_of(experiment)) == []


def test_gpus_are_those_that_the_job_saw(experiment: ExperimentFolder) -> None:
    train(experiment, "r4", seed=1, provenance={"gpus": [{"name": "A100"}, {"name": "A100"}]})
    assert [one.gpus for one in measured(plan_of(experiment))] == [2]


def test_trainings_are_alike_by_what_decides_their_time() -> None:
    given = {"lora_rank": 4, "lr": 1e-3, "epochs": 2, "max_steps_per_epoch": None}
    config = {"model": {"weights": "m"}, "data": {"train": "d"}, "hyperparameters": given}

    def alike(**changes: object) -> list[bool]:
        changed = {**config, "hyperparameters": {**given, **changes.pop("hyperparameters", {})}, **changes}  # type: ignore[dict-item]
        pairs = zip(likeness(Kind.TRAINING, config), likeness(Kind.TRAINING, changed), strict=True)
        return [one == other for one, other in pairs]

    assert alike(hyperparameters={"lr": 1, "epochs": 9}) == [True, True, True, True]
    assert alike(hyperparameters={"lora_rank": 8}) == [False, False, True, True]
    assert alike(hyperparameters={"max_steps_per_epoch": 5}) == [False, True, False, True]
    assert alike(hyperparameters={"packed": True}) == [False, False, True, True]
    assert alike(trainer="trl") == [False, False, True, True]
    assert alike(data={"train": "e"}) == [False, True, False, True]
    assert alike(model={"weights": "n"}) == [False, False, False, False]


def test_evaluations_are_alike_by_task_and_model_not_checkpoint() -> None:
    task = {"script": {"sha256": "t"}, "arguments": {"limit": 3}}
    config = {"model": "m", "task": task, "data": "d", "generation": {}, "checkpoint": "a"}
    likes = likeness(Kind.EVALUATION, config)
    assert likeness(Kind.EVALUATION, {**config, "checkpoint": "b"}) == likes
    other = likeness(Kind.EVALUATION, {**config, "task": {**task, "arguments": {"limit": 300}}})
    assert [one == two for one, two in zip(likes, other, strict=True)] == [False, True, True]
    assert not set(likeness(Kind.TRAINING, config)) & set(likes)


def one(job: str, seconds: float = 1.0) -> Measurement:
    return Measurement("training", seconds, 1, 0, ("a", "b", "c"), job)


def test_store_keeps_each_job_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "data/measurements.jsonl")
    assert store.read() == []
    store.add([one("1"), one("2")])
    store.add([one("2", 5), one("3")])
    assert [found.job for found in store.read()] == ["1", "2", "3"]
    assert store.read()[1].seconds == 1


def test_store_forgets_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("run_experiment.estimate.measurements._MOST_KEPT", 1)
    store = Store(tmp_path / "measurements.jsonl")
    store.add([one("1"), one("2")])
    store.add([one("3")])
    assert [found.job for found in store.read()] == ["3"]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"kind": "training"}', '{"later": 1}', "\x00"])
def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path, line: str) -> None:
    store = Store(tmp_path / "measurements.jsonl")
    store.add([one("1")])
    with (tmp_path / "measurements.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert [found.job for found in store.read()] == ["1"]


@pytest.mark.parametrize("change", [{"seconds": 0}, {"epochs": 0}, {"likeness": None}, {"gpus": "x"}])
def test_values_that_nothing_took_are_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    file = tmp_path / "measurements.jsonl"
    Store(file).add([one("1")])
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}) + "\n")
    assert Store(file).read() == []


def test_a_store_that_cannot_be_written_loses_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Store(tmp_path / "file/measurements.jsonl").add([one("1")])


def test_store_is_in_the_user_s_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    Store().add([one("1")])
    assert (tmp_path / "run-experiment/measurements.jsonl").is_file()


def test_a_torn_record_is_left_out(experiment: ExperimentFolder) -> None:
    train(experiment, "r4", seed=1)
    path = experiment.path / paths.finetune_record("r4")
    record = read_record(path)
    assert record is not None
    write_record(path, {**record, "provenance": {"gpus": "none"}})
    assert [one.gpus for one in measured(plan_of(experiment))] == [0]
    path.write_text("{")
    assert measured(plan_of(experiment)) == []


def test_a_line_after_one_that_a_full_disk_cut_off_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "measurements.jsonl"
    Store(file).add([one("1")])
    file.write_text(file.read_text()[:-9])
    Store(file).add([one("2")])
    assert [found.job for found in Store(file).read()] == ["2"]


def test_sessions_that_add_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "measurements.jsonl") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: stores[number % 4].add([one(str(number))]), range(40)))
    assert {found.job for found in stores[0].read()} == {str(number) for number in range(40)}


def test_a_measurement_of_this_experiment_that_only_the_store_knows_is_its_own() -> None:
    kept = [one("/a/experiment/r4/finetune.json 1"), one("/a/experiment2/r4/finetune.json 1"), one("old")]
    own = [one("/a/experiment/r8/finetune.json 2"), one("/a/experiment/r4/finetune.json 1", 7)]
    mine, others = told_apart(Path("/a/experiment"), own, kept)
    assert [(found.job[-18:], found.seconds) for found in mine] == [
        ("r8/finetune.json 2", 1),
        ("r4/finetune.json 1", 7),
    ]
    assert [found.job for found in others] == ["/a/experiment2/r4/finetune.json 1", "old"]


def test_speed_counts_prompts(experiment: ExperimentFolder) -> None:
    train(experiment, "r4", seed=1, tokens_per_second=40.0, provenance={"gpus": [{"name": "A100"}]})
    assert [(found.amount, found.tokens_per_second, found.gpu) for found in measured(plan_of(experiment))] == [
        (0, None, "A100")
    ]
    pass_check(experiment, "r4", samples=10, tokens=1000, answer_tokens=400)
    assert [(found.amount, found.tokens_per_second) for found in measured(plan_of(experiment))] == [(1000, 100.0)]
    # Of what was trained before, nothing is known any more.
    experiment.set_parameters("r4", lr=0.5)
    assert [(found.amount, found.tokens_per_second) for found in measured(plan_of(experiment))] == [(0, None)]
