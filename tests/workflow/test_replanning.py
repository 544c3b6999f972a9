"""What is made again after a change: exactly what the change touches, and `-n` says the same beforehand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from inspect_ai.log import read_eval_log
from scaffolded import make_scaffolded
from snakemake_cli import SOURCE, planned, ran, snakemake

from run_experiment.common.json_files import read_record, write_record
from run_experiment.common.paths import JOBS

Change = Callable[[ExperimentFolder], Any]

# Jobs that making one run, or all evaluations, again comes to.
ONE_RUN = Counter(run_finetune=1, verify_checkpoint=1, run_evaluation=1, collect_results=1)
ALL_EVALUATIONS = Counter(run_evaluation=3, collect_results=1)
NEW_DATA = ALL_EVALUATIONS + Counter(prebuild_cache=1)
ALL_RUNS = Counter(run_finetune=2, verify_checkpoint=2, run_evaluation=2, collect_results=1)


def edit_split(split: str) -> Change:
    """Change one byte of a split's first answer."""

    def change(experiment: ExperimentFolder) -> None:
        splits = experiment.data()
        splits[split][0]["output"] = "X" + splits[split][0]["output"][1:]
        experiment.write_data(splits)

    return change


def edit_summary(*path: str | int, value: Any) -> Change:
    """Set one value of the summary."""

    def change(experiment: ExperimentFolder) -> None:
        values = experiment.read()
        place = values
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        experiment.write(values)

    return change


def corrupt_adapter(experiment: ExperimentFolder) -> None:
    """Train again behind the workflow's back."""
    adapter = experiment.path / "r4/artifacts/epoch_0/adapter_model.safetensors"
    content = bytearray(adapter.read_bytes())
    content[-1] ^= 1
    adapter.write_bytes(content)


def old_summary(experiment: ExperimentFolder) -> None:
    """Put a changed summary in place that is older than every result, and forget what Snakemake knows."""
    experiment.set_parameters("r4", lora_rank=2)
    os.utime(experiment.summary, (0, 0))
    shutil.rmtree(experiment.path / ".snakemake")


def drop_run(experiment: ExperimentFolder) -> None:
    """Take a run out of the experiment."""
    values = experiment.read()
    values["runs"] = [run for run in values["runs"] if run["name"] != "r8"]
    values["evaluation"]["matrix"] = [row for row in values["evaluation"]["matrix"] if row["run"] != "r8"]
    experiment.write(values)


CHANGES = {
    "one run's rank": (lambda e: e.set_parameters("r4", lora_rank=2), ONE_RUN),
    "swapped values": (lambda e: e.set_parameters("r4", lora_rank=8, lora_alpha=4), ONE_RUN),
    "an old summary": (old_summary, ONE_RUN),
    "the test split": (edit_split("test"), NEW_DATA),
    "the training split": (edit_split("train"), ALL_RUNS),
    "the validation split, which nothing reads": (edit_split("validation"), Counter()),
    "the task": (lambda e: e.edit("shout.py", "upper()", "upper().strip()"), NEW_DATA),
    "an evaluation's own script": (
        lambda e: e.edit("r8/eval/shout_epoch0.slurm", "--display plain", "--display none"),
        Counter(run_evaluation=1, collect_results=1),
    ),
    "an adapter": (corrupt_adapter, Counter(verify_checkpoint=1, run_evaluation=1, collect_results=1)),
    "a lost evaluation": (
        lambda e: (e.path / "base/eval/logs/shout_base.eval").unlink(),
        Counter(run_evaluation=1, collect_results=1),
    ),
    "the question": (edit_summary("experiment", "question", value="Why?"), Counter(collect_results=1)),
    "a run less": (drop_run, Counter(collect_results=1)),
    "results removed": (lambda e: shutil.rmtree(e.path / "results"), Counter(collect_results=1)),
    "all runs' steps of warm-up": (edit_summary("controls", "num_warmup_steps", value=3), ALL_RUNS),
    "the tokens generated": (edit_summary("evaluation", "max_tokens", value=4), ALL_EVALUATIONS),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_change_plans_what_it_touches(experiment: ExperimentFolder, change: Change, expected: Counter[str]) -> None:
    change(experiment)
    assert planned(experiment.path) == expected


def assert_runs(experiment: ExperimentFolder, expected: Counter[str]) -> None:
    """`-n` announces some jobs, exactly those run, and nothing is left to do then."""
    assert planned(experiment.path) == expected
    result = snakemake(experiment.path)
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == expected
    assert planned(experiment.path) == Counter()


def test_parameters_scripts_and_logs_that_changed(experiment: ExperimentFolder) -> None:
    """r4 has other parameters in a summary that is older than every result, r8 another script, and base no log."""
    for name in ("an evaluation's own script", "a lost evaluation", "an old summary", "swapped values"):
        CHANGES[name][0](experiment)
    os.utime(experiment.summary, (0, 0))
    assert_runs(experiment, ONE_RUN + Counter(run_evaluation=2))


def test_new_test_data_is_evaluated_and_a_new_checkpoint_verified(experiment: ExperimentFolder) -> None:
    let_inspect_evaluate(experiment)
    for name in ("the test split", "an adapter"):
        CHANGES[name][0](experiment)
    assert_runs(experiment, NEW_DATA + Counter(verify_checkpoint=1))
    new_data_is_evaluated(experiment)


def test_new_training_data_and_task_of_a_smaller_experiment(experiment: ExperimentFolder) -> None:
    for name in ("the training split", "the task", "the question", "a run less", "results removed"):
        CHANGES[name][0](experiment)
    assert_runs(experiment, ONE_RUN + Counter(run_evaluation=1, prebuild_cache=1))


NOTHING = {
    "nothing": lambda e: None,
    "touched summary": lambda e: e.summary.touch(),
    "reformatted summary": lambda e: e.summary.write_text("# A comment.\n\n" + e.summary.read_text() + "\n"),
    "touched data and scripts": lambda e: [path.touch() for path in e.path.glob("*.*")],
    "reformatted data": lambda e: (e.path / "words.json").write_text((e.path / "words.json").read_text() + "\n"),
    "time limit in a job script": lambda e: e.edit("r4/finetune.slurm", "00:10:00", "00:20:00"),
    "cache removed": lambda e: shutil.rmtree(e.path / "cache"),
    ".snakemake removed": lambda e: shutil.rmtree(e.path / ".snakemake"),
    "checkpoints removed": lambda e: [shutil.rmtree(e.path / run / "artifacts/epoch_0") for run in ("r4", "r8")],
    "batch size of evaluations": edit_summary("evaluation", "max_connections", value=4),
}


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_change_that_touches_no_result(experiment: ExperimentFolder, change: Change) -> None:
    change(experiment)
    assert planned(experiment.path) == Counter()


def test_site_settings_touch_no_result(experiment: ExperimentFolder) -> None:
    result = snakemake(experiment.path, "-n", "--config", "account=other", "modules=module load cuda")
    assert "Nothing to be done" in result.stdout


def test_edited_code_without_a_profile_touches_no_result(experiment: ExperimentFolder) -> None:
    """Snakemake's own triggers would train again for a changed line of a rule, or of a script."""
    metadata = experiment.path / ".snakemake/metadata"
    assert any(metadata.rglob("*"))
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--config", f"experiment_dir={experiment.path}"]
    result = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    assert "Nothing to be done" in result.stdout + result.stderr


def let_inspect_evaluate(experiment: ExperimentFolder) -> None:
    """Have the scripts call inspect-ai, not what leaves a log made beforehand."""
    for script in experiment.path.glob("*/eval/*.slurm"):
        text, count = re.subn(r"^inspect\(\) .*\n", "", script.read_text(), flags=re.MULTILINE)
        assert count == 1
        script.write_text(text)


def new_data_is_evaluated(experiment: ExperimentFolder) -> None:
    """Check that no evaluation read the test split as it was before."""
    for path in ("r4/eval/logs/shout_epoch0.eval", "base/eval/logs/shout_base.eval"):
        samples = read_eval_log(str(experiment.path / path)).samples
        assert samples is not None
        assert [sample.target for sample in samples] == ["XCEAN", "BREAD"]


def test_dry_run_says_why_and_writes_nothing(experiment: ExperimentFolder) -> None:
    experiment.set_parameters("r4", lora_rank=2)
    written = [*files(experiment.path), *(experiment.path / JOBS).iterdir()]
    before = {path: path.stat().st_mtime_ns for path in written}
    result = snakemake(experiment.path, "-n")
    assert "Fine-tune r4 (lora_alpha: 8.0 → 4.0, lora_rank: 4 → 2)" in result.stdout
    table = result.stdout.partition("Will not run:\n")[2].partition("\n\n")[0].splitlines()
    assert dict(line.split(None, 1) for line in table) == {
        "r8": "done",
        "base": "control: nothing to train",
        "r8/shout/epoch0": "done",
        "base/shout/base": "done",
    }
    written = [*files(experiment.path), *(experiment.path / JOBS).iterdir()]
    assert {path: path.stat().st_mtime_ns for path in written} == before


def test_a_session_that_costs_too_much_submits_nothing(experiment: ExperimentFolder) -> None:
    record = experiment.path / "r8/finetune.json"
    facts = {"seconds": 7200.0, "provenance": {"gpus": [{"name": "A100"}]}}
    write_record(record, (read_record(record) or {}) | facts)
    experiment.set_parameters("r4", lora_rank=2)
    # Of two trainings that are as alike, one took no time.
    said = "gpu_hours=0.5 does not suffice: the estimate is 1.0 GPU-hours (0.00 to 4.0)"
    assert said in snakemake(experiment.path, "-n", "--config", "gpu_hours=0.5").stdout
    refused = snakemake(experiment.path, "--config", "gpu_hours=0.5")
    assert refused.returncode == 2
    assert said in refused.stdout
    assert ran(refused.stdout) == Counter()
    plan = snakemake(experiment.path, "-n", "--config", "gpu_hours=2").stdout
    assert "Estimate: 1.0 GPU-hours (0.00 to 4.0) for 1 training and 1 evaluation" in plan
    assert "does not suffice" not in plan


def test_results_of_another_experiment_are_taken(complete: ExperimentFolder, tmp_path: Path) -> None:
    again = make_scaffolded(tmp_path / "again")
    again.set_parameters("r4", lora_rank=2)
    plan = snakemake(again.path, "-n", "--config", f"reuse={complete.path}").stdout
    jobs, _, others = plan.partition("Will not run:")
    source = rf"by job (\S+) of {re.escape(str(complete.path))}, from where it is taken"
    trained = re.search(rf"r8 +trained {source}", jobs)
    assert trained, plan
    assert re.findall(rf"(\S+) +evaluated {source}", others) == [
        ("r8/shout/epoch0", complete.record("r8/eval/shout_epoch0.json")["job_id"]),
        ("base/shout/base", complete.record("base/eval/shout_base.json")["job_id"]),
    ]
    assert not (again.path / "r8/trainings").exists()
    given = (f"reuse={complete.path}", "only=r8,r8/*/*", "evaluations_per_job=2")
    result = snakemake(again.path, "--config", *given)
    assert "evaluations_per_job has no effect" in result.stdout
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == Counter(run_finetune=1, verify_checkpoint=1, collect_results=1)
    record = again.record("r8/finetune.json")
    assert record["job_id"] == trained[1]
    assert record["provenance"]["taken_from"] == {"experiment": str(complete.path), "run": "r8"}
    weights, log = "r8/artifacts/epoch_0/adapter_model.safetensors", "r8/eval/logs/shout_epoch0.eval"
    assert (again.path / weights).samefile(complete.path / weights)
    assert (again.path / log).read_bytes() == (complete.path / log).read_bytes()
    assert planned(again.path, "--config", "only=r8,r8/*/*") == Counter()


def test_single_target_plans_only_itself(experiment: ExperimentFolder) -> None:
    edit_split("test")(experiment)
    result = snakemake(experiment.path, "-n", "r8/eval/shout_epoch0.json")
    assert "Job 0: Evaluate r8/shout/epoch0 (the test split of words.json changed)" in result.stdout
    assert "base/shout/base  not asked for (the test split of words.json changed)" in result.stdout
    assert planned(experiment.path, "r8/eval/shout_epoch0.json") == Counter(run_evaluation=1, prebuild_cache=1)


def test_earlier_training_is_kept(experiment: ExperimentFolder) -> None:
    old, kept = experiment.record("r4/finetune.json"), (experiment.path / "r4/artifacts").resolve()
    experiment.set_parameters("r4", lora_rank=2)
    assert snakemake(experiment.path, "r4/finetune.json").returncode == 0
    # The results are asked for by no target, and are those of now.
    assert "2 of 3 evaluations are done." in (experiment.path / "results/summary.md").read_text()
    assert (kept / "epoch_0/adapter_model.safetensors").is_file()
    assert experiment.record(str(kept.relative_to(experiment.path.resolve()) / "record.json")) == old
    assert (experiment.path / "r4/artifacts").resolve() != kept


def test_lost_record_of_a_whole_training_is_restored(experiment: ExperimentFolder) -> None:
    """Snakemake removes a target before it makes it again, also after a crash that only cost it the book-keeping."""
    record = experiment.path / "r4/finetune.json"
    old = experiment.record("r4/finetune.json")
    record.unlink()
    expected = Counter(run_finetune=1, collect_results=1)
    assert planned(experiment.path) == expected
    result = snakemake(experiment.path)
    assert result.returncode == 0
    assert ran(result.stdout) == expected, "nothing is evaluated again"
    restored = experiment.record("r4/finetune.json")
    assert restored.pop("restored_by").startswith("local-")
    # The times of the job that left it.
    assert restored.pop("allocation")["started"] >= old.pop("allocation")["started"]
    assert restored == old


def test_a_parameter_that_is_changed_back_in_time_costs_nothing(experiment: ExperimentFolder) -> None:
    """A job of the other one has begun, and was cut off; the evaluations are still those of the first."""
    old = experiment.record("r4/finetune.json")
    text = (experiment.path / "train.py").read_text()
    experiment.set_parameters("r4", lora_rank=2)
    (experiment.path / "train.py").write_text("raise SystemExit(1)\n")
    assert snakemake(experiment.path).returncode == 1
    (experiment.path / "train.py").write_text(text)
    experiment.set_parameters("r4", lora_rank=4)
    result = snakemake(experiment.path)
    assert result.returncode == 0
    assert ran(result.stdout) == Counter(run_finetune=1, collect_results=1)
    assert experiment.record("r4/finetune.json")["job_id"] == old["job_id"]
    assert planned(experiment.path) == Counter()


def test_what_was_finished_after_a_crash_is_not_made_again(experiment: ExperimentFolder) -> None:
    """A job that outlived its killed main process leaves its record, and Snakemake's mark that it is incomplete."""
    for target in ("r4/finetune.json", "r4/checkpoints/epoch_0.json", "r4/eval/shout_epoch0.json"):
        mark = experiment.path / ".snakemake/incomplete" / urlsafe_b64encode(target.encode()).decode()
        mark.write_text('{"external_jobid": null}')
    assert planned(experiment.path) == Counter()


def files(folder: Path) -> list[Path]:
    """All files of an experiment but Snakemake's own."""
    found = [path for path in folder.rglob("*") if ".snakemake" not in path.parts]
    assert len(found) > 30
    return found
