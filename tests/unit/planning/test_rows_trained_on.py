"""Keys that choose the rows of a training decide its result; left out, they change nothing that is made."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of

from run_experiment.jobs.checks import JobError, require_inputs
from run_experiment.jobs.specs import FinetuneJob
from run_experiment.planning.job_files import PlannedJobs

R4, R8 = "r4/finetune.json", "r8/finetune.json"
# All that records had before there were more.
BEFORE = {
    *("epochs", "batch_size", "gradient_accumulation_steps", "seed", "lr", "weight_decay", "lr_scheduler"),
    *("num_warmup_steps", "lora_rank", "lora_alpha", "lora_dropout", "lora_attn_modules", "apply_lora_to_mlp"),
    *("max_seq_len", "max_steps_per_epoch", "clip_grad_norm", "shuffle", "train_on_input"),
    *("validation_during_training", "compile", "enable_activation_checkpointing", "enable_activation_offloading"),
    *("device", "dtype"),
}


@pytest.fixture
def done(tmp_path: Path) -> ExperimentFolder:
    experiment = make_small_experiment(tmp_path / "experiment")
    complete(experiment)
    return experiment


def wanted(experiment: ExperimentFolder) -> list[str]:
    """Trainings that are to be made."""
    plan = plan_of(experiment)
    return [path for path in (R4, R8) if plan[path].wanted]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"packed": False},
        {"mask_history": True},
        {"mask_history": False},
        {"input_key": "input", "output_key": "output"},
    ],
)
def test_what_means_nothing_makes_nothing_again(done: ExperimentFolder, values: dict[str, Any]) -> None:
    done.set_parameters("r4", **values)
    assert set(plan_of(done)[R4].config["hyperparameters"]) == BEFORE
    assert wanted(done) == []


@pytest.mark.parametrize(
    "values",
    [
        {"packed": True, "max_seq_len": 64},
        {"training_samples": 4},
        {"input_key": "text"},
        {"output_key": "text"},
    ],
)
def test_what_means_something_trains_again(done: ExperimentFolder, values: dict[str, Any]) -> None:
    splits = done.data()
    done.write_data({name: [{**row, "text": row["output"]} for row in rows] for name, rows in splits.items()})
    complete(done)
    done.set_parameters("r4", **values)
    assert wanted(done) == [R4]
    assert next(iter(values)) in plan_of(done)[R4].why


def with_conversations(experiment: ExperimentFolder, *splits: str) -> None:
    """Have the last row of some splits be a conversation."""
    turns = [{"role": role, "content": role} for role in ("user", "assistant")]
    data = experiment.data()
    values = experiment.read()
    values["controls"]["prompt"] = "{input}"
    experiment.write(values)
    experiment.write_data(data | {name: [*data[name], {"messages": turns}] for name in splits})


@pytest.mark.parametrize(
    ("splits", "values", "trained"),
    [
        (["train"], {}, [R4]),
        (["validation"], {"validation_during_training": True}, [R4]),
        (["validation", "test"], {}, []),
    ],
)
def test_mask_history_means_something_to_conversations_alone(
    done: ExperimentFolder, splits: list[str], values: dict[str, Any], trained: list[str]
) -> None:
    done.set_parameters("r4", **values)
    with_conversations(done, *splits)
    complete(done)
    for mask_history in (False, True):
        done.set_parameters("r4", mask_history=mask_history)
        assert wanted(done) == trained
        complete(done)


def test_a_record_that_has_mask_history_without_conversations(done: ExperimentFolder) -> None:
    """Earlier versions wrote it into every record."""
    record = done.record(R4)
    record["config"]["hyperparameters"]["mask_history"] = False
    (done.path / R4).write_text(json.dumps(record))
    for mask_history in (False, True):
        done.set_parameters("r4", mask_history=mask_history)
        assert wanted(done) == []
    done.set_parameters("r4", lr=0.5)
    assert plan_of(done)[R4].why.startswith("lr: "), "and no other key"


def test_rows_after_the_first_ones_do_not_count(done: ExperimentFolder) -> None:
    done.set_parameters("r4", training_samples=4)
    complete(done)
    splits = done.data()
    rows = splits["train"]
    done.write_data({**splits, "train": [*rows[:5], {"input": "another", "output": "ROW"}, *rows[6:]]})
    assert wanted(done) == [R8]
    done.write_data({**splits, "train": [rows[1], rows[0], *rows[2:]]})
    assert wanted(done) == [R4, R8]


@pytest.mark.parametrize("values", [{}, {"training_samples": 4, "validation_during_training": True}])
def test_a_job_takes_the_rows_that_were_planned_and_no_others(done: ExperimentFolder, values: dict[str, Any]) -> None:
    done.set_parameters("r4", **values)
    planned = FinetuneJob.read(str(done.path / PlannedJobs(plan_of(done)).finetune("r4")))
    require_inputs(planned)
    splits = done.data()
    for split, counts in (("train", True), ("validation", bool(values)), ("test", False)):
        done.write_data({**splits, split: [*splits[split][1:], splits[split][0]]})
        with pytest.raises(JobError, match=f"split {split} of ") if counts else nullcontext():
            require_inputs(planned)


def test_check_of_a_model_sees_the_rows_of_its_training(done: ExperimentFolder) -> None:
    done.set_parameters("r4", training_samples=4, packed=True, max_seq_len=64, batch_size=2)
    plan = plan_of(done)
    check = plan.model_checks.of_training(plan.experiment.run_by_name["r4"], _training(plan))
    job = PlannedJobs(plan).check(check.name)
    assert (job["training_samples"], job["packed"]["batch_size"]) == (4, 2)
    # How packs fill steps decides the outcome of that check, and of no other.
    done.set_parameters("r4", training_samples=4, packed=True, max_seq_len=64, batch_size=1)
    plan = plan_of(done)
    again = plan.model_checks.of_training(plan.experiment.run_by_name["r4"], _training(plan))
    assert again.name != check.name


def test_check_of_a_model_sees_which_answers_are_trained(done: ExperimentFolder) -> None:
    names = set()
    for mask_history in (True, False):
        done.set_parameters("r4", mask_history=mask_history)
        plan = plan_of(done)
        check = plan.model_checks.of_training(plan.experiment.run_by_name["r4"], _training(plan))
        assert check.mask_history is mask_history
        names.add(check.name)
    assert len(names) == 2


def _training(plan: Any) -> Any:
    return plan.experiment.run_by_name["r4"].training
