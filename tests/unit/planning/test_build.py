"""What a plan says of every target, for experiments that are new, complete, and changed after that."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments import ExperimentFolder
from sample_logs import samples_of, write_log
from small_experiment import (
    cache,
    complete,
    evaluate,
    make_model,
    make_small_experiment,
    plan_of,
    train,
    verify_all,
    write_adapter,
)

from run_experiment.attempts.trainings import folder_name
from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.errors import InputError
from run_experiment.common.json_files import config_hash, write_record
from run_experiment.inputs.file_hashes import file_facts
from run_experiment.planning.job_files import PlannedJobs
from run_experiment.planning.plan import Plan, Row
from run_experiment.planning.target import Kind, mark_stale
from run_experiment.summary.read import read_summary

Change = Callable[[ExperimentFolder], Any]
# What a plan says of a target: state, reason, needs.
Said = tuple[str, str, tuple[str, ...]]

CACHE = "cache/shout.json"
R4 = {epoch: f"r4/checkpoints/epoch_{epoch}.json" for epoch in (0, 1)}
R8 = {epoch: f"r8/checkpoints/epoch_{epoch}.json" for epoch in (0, 1)}
GIVEN = "given/checkpoints/given.json"
R4_EVALS = {epoch: f"r4/eval/shout_epoch{epoch}.json" for epoch in (0, 1)}
R8_EVAL = "r8/eval/shout_epoch1.json"
BASE_EVAL = "base/eval/shout_base.json"
GIVEN_EVAL = "given/eval/shout_base.json"
EVALS = {*R4_EVALS.values(), R8_EVAL, BASE_EVAL, GIVEN_EVAL}


@pytest.fixture
def new(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "experiment")


def wanted(plan: Plan) -> dict[str, Said]:
    """What is not fresh, without the checks of models."""
    return {
        path: (target.state.value, target.why, tuple(need for need in target.needs if not is_check(plan, need)))
        for path, target in plan.targets.items()
        if target.wanted and not is_check(plan, path)
    }


def is_check(plan: Plan, path: str) -> bool:
    return plan[path].kind is Kind.CHECK


def test_new_experiment_needs_everything(new: ExperimentFolder) -> None:
    plan = plan_of(new)
    first = "its run is not trained yet"
    assert wanted(plan) == {
        "r4/finetune.json": ("missing", "not done yet", ()),
        R4[0]: ("missing", first, ("r4/finetune.json",)),
        R4[1]: ("missing", first, ("r4/finetune.json",)),
        "r8/finetune.json": ("missing", "not done yet", ()),
        R8[0]: ("missing", first, ("r8/finetune.json",)),
        R8[1]: ("missing", first, ("r8/finetune.json",)),
        GIVEN: ("missing", "not done yet", ()),
        CACHE: ("missing", "not done yet", ()),
        R4_EVALS[0]: ("missing", first, (CACHE, R4[0])),
        R4_EVALS[1]: ("missing", first, (CACHE, R4[1])),
        R8_EVAL: ("missing", first, (CACHE, R8[1])),
        BASE_EVAL: ("missing", "not done yet", (CACHE,)),
        GIVEN_EVAL: ("missing", "its checkpoint is not verified yet", (CACHE, GIVEN)),
    }
    assert set(plan.finals()) == set(wanted(plan)) - {CACHE}


def test_complete_experiment_needs_nothing(done: ExperimentFolder) -> None:
    plan = plan_of(done)
    assert wanted(plan) == {}
    inputs = {path: target.inputs for path, target in plan.targets.items() if target.inputs}
    records = ["r4/finetune.json", "r8/finetune.json", *R4_EVALS.values(), R8_EVAL, BASE_EVAL, GIVEN_EVAL]
    assert inputs == {paths.SUMMARY_PAGE: records}


def move_model(experiment: ExperimentFolder) -> None:
    model = experiment.path.parent / "model"
    model.rename(model.with_name("moved"))
    values = experiment.read()
    values["models"]["base"][0]["path"] = str(model.with_name("moved"))
    experiment.write(values)


def move_given(experiment: ExperimentFolder) -> None:
    given = experiment.path.parent / "given"
    given.rename(given.with_name("elsewhere"))
    values = experiment.read()
    values["runs"][3]["checkpoint_path"] = str(given.with_name("elsewhere"))
    experiment.write(values)


def remove_checkpoint(experiment: ExperimentFolder) -> None:
    shutil.rmtree(experiment.path / "r4/artifacts/epoch_0")


def add_argument(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["evaluation"]["tasks"][0]["args"] = {"system_prompt": "Loud!"}
    experiment.write(values)


def both(*changes: Change) -> Change:
    return lambda experiment: [change(experiment) for change in changes]


def edit_data(split: str) -> Change:
    def change(experiment: ExperimentFolder) -> None:
        splits = experiment.data()
        splits[split][0]["output"] += "!"
        experiment.write_data(splits)

    return change


def write(path: str, text: str) -> Change:
    return lambda experiment: (experiment.path / path).write_text(text)


def remove(path: str) -> Change:
    return lambda experiment: (experiment.path / path).unlink()


def copy_anew(path: str) -> Change:
    """The file is another one, with the same content."""

    def change(experiment: ExperimentFolder) -> None:
        content = (experiment.path / path).read_bytes()
        (experiment.path / path).unlink()
        (experiment.path / path).write_bytes(content)

    return change


def record_log(experiment: ExperimentFolder) -> None:
    """The record says which log it is of, as a job's does; those of older versions do not."""
    facts = {"log": file_facts(experiment.path / BASE_LOG)}
    write_record(experiment.path / BASE_EVAL, experiment.record(BASE_EVAL) | facts)


BASE_LOG = "base/eval/logs/shout_base.eval"
RANK = "lora_rank: 4 → 2, lora_alpha: 8.0 → 4.0"
NOT_YET, AGAIN = "its run is not trained yet", "its run is trained again: "
TEST_SPLIT = "the test split of words.json changed"


def retrained(why: str) -> dict[str, Said]:
    """All that needs r4's training is stale."""
    return {
        **dict.fromkeys(R4.values(), ("stale", why, ("r4/finetune.json",))),
        **{R4_EVALS[epoch]: ("stale", why, (R4[epoch],)) for epoch in (0, 1)},
    }


def with_cache(cache: str, evaluations: str) -> dict[str, Said]:
    """The cache and all evaluations are stale."""
    return {CACHE: ("stale", cache, ()), **dict.fromkeys(EVALS, ("stale", evaluations, (CACHE,)))}


MOVED = dict.fromkeys((*R4.values(), *R8.values(), GIVEN), ("stale", "its base model moved", ()))
GONE: dict[str, Said] = {R4[0]: ("stale", "the checkpoint does not exist", ())}

CHANGES: dict[str, tuple[Change, dict[str, Said]]] = {
    "a run's parameter": (
        lambda e: e.set_parameters("r4", lora_rank=2),
        {"r4/finetune.json": ("stale", RANK, ()), **retrained(AGAIN + RANK)},
    ),
    "a training's record removed": (
        remove("r4/finetune.json"),
        {"r4/finetune.json": ("missing", "not done yet", ()), **retrained(NOT_YET)},
    ),
    "a torn record": (write(R8_EVAL, '{"config": {'), {R8_EVAL: ("stale", "its record cannot be read", ())}),
    "a record without a configuration, and its checkpoint removed": (
        both(remove_checkpoint, write(R4_EVALS[0], '{"config": null}')),
        {**GONE, R4_EVALS[0]: ("stale", "its record cannot be read", (R4[0],))},
    ),
    "a manifest without files": (
        lambda e: write(R4[1], json.dumps({**e.record(R4[1]), "files": None}))(e),
        {R4[1]: ("stale", "its record cannot be read", ())},
    ),
    "the test split": (
        edit_data("test"),
        with_cache(TEST_SPLIT, TEST_SPLIT),
    ),
    "the validation split, unused": (edit_data("validation"), {}),
    "a task's argument": (
        add_argument,
        # An argument may change what the task reads, for all that is known.
        with_cache('system_prompt: None → "Loud!"', 'system_prompt: "" → "Loud!"'),
    ),
    "a log removed": (
        remove(BASE_LOG),
        {BASE_EVAL: ("stale", "its log is gone", ())},
    ),
    "a log replaced by another one": (
        both(record_log, lambda e: write_log(e.path / BASE_LOG, samples_of(["C", "C"]))),
        {BASE_EVAL: ("stale", "its log changed", ())},
    ),
    "a log copied, as with its experiment": (both(record_log, copy_anew(BASE_LOG)), {}),
    "another log, of which an older record says nothing": (write(BASE_LOG, "another"), {}),
    "the cache's folder removed": (
        lambda e: [shutil.rmtree(path) for path in (e.path / "cache").glob("shout-*")],
        {CACHE: ("stale", "its folder is gone", ())},
    ),
    "another adapter": (
        lambda e: write_adapter(e.path / "r4/artifacts/epoch_1", seed=77),
        {
            R4[1]: ("stale", "the checkpoint's files changed", ()),
            R4_EVALS[1]: ("stale", "the checkpoint's adapter_model.safetensors changed", (R4[1],)),
        },
    ),
    "another adapter given": (
        lambda e: write_adapter(e.path.parent / "given", seed=77),
        {
            GIVEN: ("stale", "the checkpoint's files changed", ()),
            GIVEN_EVAL: ("stale", "the checkpoint's adapter_model.safetensors changed", (GIVEN,)),
        },
    ),
    "the base model moved": (move_model, MOVED),
    "the given checkpoint moved": (move_given, {GIVEN: ("stale", "the checkpoint moved", ())}),
    "the given checkpoint moved, and its evaluation wanted": (
        both(move_given, remove(GIVEN_EVAL)),
        {
            GIVEN: ("stale", "the checkpoint moved", ()),
            GIVEN_EVAL: ("missing", "its checkpoint is verified again: the checkpoint moved", (GIVEN,)),
        },
    ),
    "the folder to load from removed": (
        lambda e: shutil.rmtree(e.path / "r4/checkpoints/epoch_0"),
        {R4[0]: ("stale", "the folder to load it from is gone", ())},
    ),
    "a checkpoint removed": (remove_checkpoint, GONE),
    "a checkpoint removed, and its evaluation wanted": (
        both(remove_checkpoint, remove(R4_EVALS[0])),
        {**GONE, R4_EVALS[0]: ("missing", "its checkpoint is missing", (R4[0],))},
    ),
    "a checkpoint and its manifest removed": (
        both(remove_checkpoint, remove(R4[0])),
        {R4[0]: ("missing", "the checkpoint does not exist", ())},
    ),
    "a job script of another tool": (
        write("r4/finetune.slurm", "#!/bin/bash\npython train.py\n"),
        {
            "r4/finetune.json": ("stale", "finetune.slurm changed", ()),
            **retrained(f"{AGAIN}finetune.slurm changed"),
        },
    ),
    "another tool's job script without a command": (
        write("base/eval/shout_base.slurm", "#!/bin/bash\nexit 1\n"),
        {BASE_EVAL: ("stale", "shout_base.slurm changed", ())},
    ),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_change_wants_what_it_touches(done: ExperimentFolder, change: Change, expected: dict[str, Said]) -> None:
    change(done)
    assert wanted(plan_of(done)) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, [math.nan], {"a": math.nan}, date(2026, 1, 31), "2026-01-31"])
def test_an_odd_argument_is_equal_to_itself(new: ExperimentFolder, value: Any) -> None:
    values = new.read()
    values["evaluation"]["tasks"][0]["args"] = {"split": value}
    new.write(values)
    complete(new)
    assert wanted(plan_of(new)) == {}
    values["evaluation"]["tasks"][0]["args"] = {"split": "other"}
    new.write(values)
    assert {said[0] for path, said in wanted(plan_of(new)).items() if path in EVALS} == {"stale"}


@pytest.mark.parametrize("change", [remove_checkpoint, move_model, move_given], ids=lambda change: change.__name__)
def test_unused_checkpoint_is_no_target_of_its_own(done: ExperimentFolder, change: Change) -> None:
    change(done)
    plan = plan_of(done)
    assert wanted(plan)
    assert not set(plan.finals()) & set(wanted(plan))


def test_how_a_whole_model_generates_counts(done: ExperimentFolder) -> None:
    given = done.path.parent / "given"
    shutil.rmtree(given)
    settings = make_model(given) / "generation_config.json"
    settings.write_text('{"repetition_penalty": 1.0}')
    verify_all(done)
    evaluate(done, [item for item in plan_of(done).experiment.evaluations if item.run.name == "given"])
    assert wanted(plan_of(done)) == {}
    settings.write_text('{"repetition_penalty": 9.0}')
    assert wanted(plan_of(done)) == {
        GIVEN: ("stale", "the checkpoint's files changed", ()),
        GIVEN_EVAL: ("stale", "the checkpoint's generation_config.json changed", (GIVEN,)),
    }


def test_model_that_cannot_be_read_is_named(done: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    # A file whose first bytes nobody can read, not even root.
    (done.path.parent / "model/tokenizer.model").symlink_to("/proc/self/mem")
    assert main(["results", str(done.path)]) == 2
    assert "a file that it names cannot be read: " in (message := capsys.readouterr().err)
    assert "model/tokenizer.model: " in message
    assert "Input/output error" in message
    with pytest.raises(InputError, match=r"models\.base\[0\]\.path: cannot read .*: Input/output error"):
        read_summary(done.summary)


def test_training_again_with_the_same_weights_evaluates_nothing(done: ExperimentFolder) -> None:
    train(done, "r4", seed=0, job_id="local-99", ended="2025-02-01T10:00:00+01:00")
    reason = 'job_id: "local-0" → "local-99", ended: "2025-01-31T10:00:00+01:00" → "2025-02-01T10:00:00+01:00"'
    assert wanted(plan_of(done)) == {R4[0]: ("stale", reason, ()), R4[1]: ("stale", reason, ())}
    verify_all(done)
    assert wanted(plan_of(done)) == {}


@pytest.mark.parametrize("ahead", [0.0, 60.0], ids=["a record of this moment", "one by a clock that is ahead"])
def test_the_marker_of_a_stale_target_is_newer_than_its_record_alone(done: ExperimentFolder, ahead: float) -> None:
    """What a job makes at once, as by restoring a training, has to be newer than the marker in turn."""
    done.set_parameters("r4", lora_rank=2)
    record = done.path / "r4/finetune.json"
    made = time.time() + ahead
    os.utime(record, (made, made))
    plan = plan_of(done)
    mark_stale(done.path, plan.targets.values())
    marker = (done.path / plan["r4/finetune.json"].marker).stat().st_mtime
    assert made < marker
    assert marker < time.time() + 0.01 if not ahead else marker <= made + 1


def test_stale_target_has_a_marker_that_names_its_record(done: ExperimentFolder) -> None:
    done.set_parameters("r4", lora_rank=2)
    plan = plan_of(done)
    mark_stale(done.path, plan.targets.values())
    assert plan["r4/finetune.json"].inputs[-1] == ".snakemake/stale/r4/finetune.json"
    marker = done.path / plan["r4/finetune.json"].marker
    changed = (done.path / "r4/finetune.json").stat().st_ctime_ns
    assert marker.read_text() == f"r4/finetune.json: {RANK}\n{changed}\n"
    assert plan["r8/finetune.json"].inputs == []
    assert not (done.path / plan["r8/finetune.json"].marker).exists()
    assert plan[R4[1]].inputs == ["r4/finetune.json", f".snakemake/stale/{R4[1]}"]


def test_rows_say_why_not(done: ExperimentFolder) -> None:
    (done.path / BASE_EVAL).unlink()
    assert plan_of(done).rows() == [
        Row("r4", "r4/finetune.json", False, "done"),
        Row("r8", "r8/finetune.json", False, "done"),
        Row("base", None, False, "control: nothing to train"),
        Row("given", None, False, "eval-only: trained elsewhere"),
        Row("r4/shout/epoch0", R4_EVALS[0], False, "done"),
        Row("r4/shout/epoch1", R4_EVALS[1], False, "done"),
        Row("r8/shout/epoch1", R8_EVAL, False, "done"),
        Row("base/shout/base", BASE_EVAL, True, "not done yet"),
        Row("given/shout/base", GIVEN_EVAL, False, "done"),
    ]


def test_rendered_scripts_and_site_settings_are_no_part_of_a_result(done: ExperimentFolder) -> None:
    plan = plan_of(done)
    assert plan.write_scripts() == []
    scripts = sorted(path.relative_to(done.path).as_posix() for path in done.path.rglob("*.slurm"))
    assert scripts == sorted(
        ["r4/finetune.slurm", "r8/finetune.slurm", *(path.replace(".json", ".slurm") for path in EVALS)]
    )
    plan = plan_of(done, account="other", modules=("module load cuda",))
    assert wanted(plan) == {}
    assert plan.write_scripts() == []
    assert "--account=other" in (done.path / "r4/finetune.slurm").read_text()
    assert wanted(plan_of(done)) == {}


def test_script_that_is_no_text_is_named(done: ExperimentFolder) -> None:
    script = done.path / "r4/finetune.slurm"
    script.write_bytes(b"#!/bin/bash\n# Gr\xf6\xdfe\npython train.py\n")
    with pytest.raises(InputError, match=r"r4/finetune\.slurm:2: not UTF-8 text; save the file as UTF-8"):
        plan_of(done)
    script.unlink()
    script.mkdir()
    with pytest.raises(InputError, match=r"r4/finetune\.slurm: is a folder, but the job script is written there"):
        plan_of(done)


def test_other_weights_of_the_base_model_make_all_stale(done: ExperimentFolder) -> None:
    model = make_model(done.path.parent / "model")
    (model / "tokenizer.json").write_text('{"version": "2.0"}')
    found = wanted(plan_of(done))
    assert set(found) == {"r4/finetune.json", "r8/finetune.json", *R4.values(), *R8.values(), GIVEN, *EVALS}
    why = {found[path][1] for path in ("r4/finetune.json", GIVEN, BASE_EVAL)}
    assert why == {"the model's weights or tokenizer changed"}


def read(experiment: ExperimentFolder, path: str) -> dict[str, Any]:
    return json.loads((experiment.path / path).read_text())


def test_jobs_are_told_what_was_planned(done: ExperimentFolder) -> None:
    jobs, plan = PlannedJobs(plan_of(done)), plan_of(done)
    job = read(done, jobs.finetune("r4"))
    assert job == {
        "run": "r4",
        "config": done.record("r4/finetune.json")["config"],
        "files": plan.scripts.planned(plan.scripts.finetune(plan.experiment.run_by_name["r4"])),
        "data": str(done.path / "words.json"),
        "checkpoints": ["r4/artifacts/epoch_0", "r4/artifacts/epoch_1"],
        "output_dir": "r4/artifacts",
        "elsewhere": [],
        "target": "r4/finetune.json",
        "name": "tiny.r4",
        "script": "r4/finetune.slurm",
        "folder": ".",
        "retries": 3,
        "keys": {name: f"compute.{name} of run r4 in the summary" for name in ("time", "mem")},
        "config_hash": config_hash(job["config"]),
    }
    evaluation = read(done, jobs.evaluation("given", "shout_base"))
    config = done.record(GIVEN_EVAL)["config"]
    assert config["checkpoint"]
    assert evaluation == {
        "run": "given",
        "cell": "shout_base",
        "config": config,
        "files": evaluation["files"],
        "task": str(done.path / "shout.py"),
        "data": str(done.path / "words.json"),
        "manifest": GIVEN,
        "cache": plan.data_sets.by_name["shout"].folder,
        "epoch": None,
        "models": [str(done.path.parent / "given"), "given/checkpoints/given"],
        "base": str(done.path.parent / "model"),
        "target": GIVEN_EVAL,
        "name": "tiny.given.shout",
        "script": "given/eval/shout_base.slurm",
        "folder": ".",
        "max_connections": 32,
        "task_name": "shout",
        "arguments": ["data_path", "prompt", "system_prompt"],
        "retries": 3,
        "keys": {name: f"evaluation.compute.{name} in the summary" for name in ("time", "mem")},
        "config_hash": config_hash(config),
    }
    assert read(done, jobs.evaluation("base", "shout_base"))["manifest"] is None
    with pytest.raises(ValueError, match="base is not trained"):
        jobs.finetune("base")


def test_job_knows_an_argument_that_the_user_added(new: ExperimentFolder) -> None:
    plan_of(new).write_scripts()
    path = new.path / "base/eval/shout_base.args.yaml"
    path.write_text(path.read_text() + "limit: 3\n")
    job = read(new, PlannedJobs(plan_of(new)).evaluation("base", "shout_base"))
    assert job["arguments"] == ["data_path", "prompt", "system_prompt", "limit"]


def test_training_goes_where_the_summary_says(new: ExperimentFolder) -> None:
    values = new.read()
    values["output"] = {"base_directory": "/scratch/me", "checkpoint_pattern": "{run}/out/epoch_{epoch}"}
    new.write(values)
    plan = plan_of(new)
    config = plan.scripts.finetune(plan.experiment.run_by_name["r4"])["r4/finetune.yaml"].text
    assert yaml.safe_load(config)["output_dir"] == "/scratch/me/r4/out"
    job = read(new, PlannedJobs(plan).finetune("r4"))
    assert job["checkpoints"] == ["/scratch/me/r4/out/epoch_0", "/scratch/me/r4/out/epoch_1"]
    assert job["output_dir"] == "/scratch/me/r4/out"


def test_names_of_checkpoints_that_torchtune_does_not_give_need_a_script(new: ExperimentFolder) -> None:
    values = new.read()
    values["output"] = {"checkpoint_pattern": "{run}/checkpoint-{epoch}"}
    new.write(values)
    with pytest.raises(InputError, match=r"output.checkpoint_pattern: trainers name checkpoints epoch_{epoch}"):
        plan_of(new)
    for run in ("r4", "r8"):
        (new.path / run).mkdir()
        (new.path / run / "finetune.slurm").write_text("#!/bin/bash\npython train.py\n")
    assert plan_of(new)["r4/finetune.json"].wanted


def test_module_that_a_task_imports_counts(done: ExperimentFolder) -> None:
    task = done.path / "shout.py"
    (done.path / "helper.py").write_text("LOUD = True\n")
    task.write_text(f"import helper\n{task.read_text()}")
    complete_evaluations(done)
    assert not wanted(plan_of(done))
    (done.path / "helper.py").write_text("LOUD = False\n")
    reasons = {path: reason for path, (_, reason, _) in wanted(plan_of(done)).items()}
    assert set(reasons) == {CACHE, *EVALS}
    assert reasons[BASE_EVAL] == "the task's imported file helper.py changed"


def complete_evaluations(experiment: ExperimentFolder) -> None:
    """Leave evaluations and caches of the experiment as it is now."""
    evaluate(experiment, plan_of(experiment).experiment.evaluations)
    cache(experiment)


def lose_training(experiment: ExperimentFolder, place: str = "") -> None:
    """Take r4's record away, as an interrupted job does; its copy is beside the checkpoints, there or in a `place`."""
    record, run = experiment.path / "r4/finetune.json", experiment.path / "r4"
    name = folder_name(run / "trainings", "r4", experiment.record("r4/finetune.json")["config"])
    record.rename(run / "artifacts/record.json")
    if place:
        kept = run / place.format(name=name)
        kept.parent.mkdir(exist_ok=True)
        (run / "artifacts").rename(kept)
        # What the job of another configuration had begun.
        (run / "trainings/other/epoch_0").mkdir(parents=True)
        (run / "artifacts").symlink_to("trainings/other")


@pytest.mark.parametrize("place", ["", "trainings/{name}", "attempts/local-0.artifacts"])
def test_a_training_that_is_taken_back_costs_no_evaluation(done: ExperimentFolder, place: str) -> None:
    lose_training(done, place)
    reason = "already trained by job local-0; its checkpoints will be restored"
    assert wanted(plan_of(done)) == {"r4/finetune.json": ("missing", reason, ())}


def test_an_evaluation_waits_for_the_training_that_is_taken_back(done: ExperimentFolder) -> None:
    lose_training(done, "trainings/{name}")
    (done.path / R4_EVALS[1]).unlink()
    found = wanted(plan_of(done))
    assert found[R4_EVALS[1]] == ("missing", "not done yet", ("r4/finetune.json",))
    assert set(found) == {"r4/finetune.json", R4_EVALS[1]}


def test_checkpoints_of_a_training_that_is_taken_back_are_verified_after_it(done: ExperimentFolder) -> None:
    lose_training(done)
    (done.path / R4[1]).unlink()
    found = wanted(plan_of(done))
    assert found[R4[1]] == ("missing", "its training will be restored first", ("r4/finetune.json",))
    assert set(found) == {"r4/finetune.json", R4[1]}, "what was evaluated is what is there"


@pytest.mark.parametrize("what", ["redo", "checkpoint", "parameter"])
def test_a_training_is_not_taken_back_that_is_not_wanted_or_not_whole(done: ExperimentFolder, what: str) -> None:
    lose_training(done)
    if what == "checkpoint":
        shutil.rmtree(done.path / "r4/artifacts/epoch_1")
    if what == "parameter":
        done.set_parameters("r4", lora_rank=2)
    found = wanted(plan_of(done, redo=("r4",)) if what == "redo" else plan_of(done))
    assert found["r4/finetune.json"][1] != "already trained by job local-0; its checkpoints will be restored"
    why = f"{AGAIN}asked for (redo)" if what == "redo" else NOT_YET
    assert found[R4_EVALS[0]][1:] == (why, (R4[0],))


def test_a_training_is_taken_back_from_where_it_is_wanted_now(done: ExperimentFolder) -> None:
    """What its record says now is of another training, whose script wrote to the usual place instead."""
    done.write(done.read() | {"output": {"base_directory": "trained"}})
    record = done.record("r4/finetune.json")
    kept = done.path / "r4/attempts/local-0.artifacts"
    shutil.copytree(done.path / "r4/artifacts", kept)
    write_record(kept / "record.json", {**record, "config": plan_of(done)["r4/finetune.json"].config})
    other = {**record, "config": {"lr": 1}, "checkpoints": ["r4/artifacts/epoch_0", "r4/artifacts/epoch_1"]}
    write_record(done.path / "r4/finetune.json", other)
    assert plan_of(done)["r4/finetune.json"].why == "already trained by job local-0; its checkpoints will be restored"
    assert not plan_of(done)[R4_EVALS[0]].wanted


def test_a_task_is_called_by_the_name_that_its_decorator_gives(new: ExperimentFolder) -> None:
    """inspect-ai finds it by no other."""
    new.edit("shout.py", "@task", '@task(name="loud")')
    assert PlannedJobs(plan_of(new)).cache("shout")["function"] == "loud"
