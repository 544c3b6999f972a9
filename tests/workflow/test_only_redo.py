"""`only=` and `redo=`: exactly what is named is planned and made, whatever is there and whatever failed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from scaffolded import make_scaffolded
from snakemake_cli import SOURCE, planned, ran, snakemake

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.experiment_lock import claim, observe

EVALUATION = Counter(run_evaluation=1, collect_results=1)
TRAINED_AND_EVALUATED = Counter(run_finetune=1, verify_checkpoint=1, run_evaluation=1, collect_results=1)


@pytest.fixture
def fresh(tmp_path: Path) -> ExperimentFolder:
    """An experiment of quick job scripts, not yet run."""
    return make_scaffolded(tmp_path / "experiment")


def announced(output: str) -> list[str]:
    """What `-n` says of the trainings and evaluations that it would run, in order."""
    return sorted(re.findall(r"(?:Fine-tune|Evaluate) (\S+ \(.*\))", output))


def left_out(output: str) -> dict[str, str]:
    """What `-n` says will not run, and why."""
    table = [line.split(None, 1) for line in output.partition("Will not run:\n")[2].partition("\n\n")[0].splitlines()]
    return dict(table)


ONLY = {
    "an evaluation": ("r8/shout/epoch0", TRAINED_AND_EVALUATED + Counter(prebuild_cache=1)),
    "a training": ("r8", Counter(run_finetune=1, verify_checkpoint=1, collect_results=1)),
    "a control's evaluation": ("base/*/*", EVALUATION + Counter(prebuild_cache=1)),
    "all trainings": ("r*", Counter(run_finetune=2, verify_checkpoint=2, collect_results=1)),
}


@pytest.mark.parametrize(("only", "expected"), ONLY.values(), ids=ONLY)
def test_only_plans_what_is_named_of_a_new_experiment(
    fresh: ExperimentFolder, only: str, expected: Counter[str]
) -> None:
    assert planned(fresh.path, "--config", f"only={only}") == expected


def test_only_says_what_it_leaves_out(fresh: ExperimentFolder) -> None:
    result = snakemake(fresh.path, "-n", "--config", "only=r8/shout/epoch0")
    assert announced(result.stdout) == ["r8 (not done yet)", "r8/shout/epoch0 (its run is not trained yet)"]
    assert left_out(result.stdout) == {
        "r4": "not asked for (only=r8/shout/epoch0)",
        "base": "control: nothing to train",
        "r4/shout/epoch0": "not asked for (only=r8/shout/epoch0)",
        "base/shout/base": "not asked for (only=r8/shout/epoch0)",
    }


@pytest.mark.parametrize("quiet", [[], ["--quiet"], ["--quiet", "all"]], ids=" ".join)
def test_the_plan_is_shown_however_quiet(fresh: ExperimentFolder, quiet: list[str]) -> None:
    command = [sys.executable, "-m", "snakemake", "-n", *quiet, "--profile", "profiles/local"]
    command += ["--config", f"experiment_dir={fresh.path}", "only=r8"]
    output = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=True).stdout
    will_run = output.partition("Will run:\n")[2].partition("\n\n")[0].split()
    assert will_run == ["r8", "not", "done", "yet"]
    assert left_out(output)["r4"] == "not asked for (only=r8)"


def test_only_of_what_is_done_makes_nothing_of_what_changed(experiment: ExperimentFolder) -> None:
    assert planned(experiment.path, "--config", "only=r8,r8/*/*") == Counter()
    experiment.set_parameters("r4", lora_rank=2)
    # The results tell no longer of the experiment: what r4 was before is no result of it.
    assert planned(experiment.path, "--config", "only=r8,r8/*/*") == Counter(collect_results=1)
    assert planned(experiment.path, "--config", "only=r4/shout/epoch0") == TRAINED_AND_EVALUATED


def test_named_target_is_made_whatever_is_chosen(experiment: ExperimentFolder) -> None:
    for run in ("r4", "r8"):
        (experiment.path / run / "eval/shout_epoch0.json").unlink()
    target = "r4/eval/shout_epoch0.json"
    assert planned(experiment.path, target, "--config", "only=r8/shout/epoch0") == Counter(run_evaluation=1)
    assert planned(experiment.path, target, "--config", "redo=*/*/*") == Counter(run_evaluation=1)


def test_what_is_chosen_is_made_and_collected_and_nothing_else(fresh: ExperimentFolder) -> None:
    fresh.set_parameters("r4", lr=13.0)
    both = ["--config", "only=r4,base/shout/base"]
    result = snakemake(fresh.path, *both)
    assert result.returncode == 1
    assert ran(result.stdout) == Counter(run_evaluation=1, prebuild_cache=1)
    assert re.findall("Not done:\n    (.*)", result.stdout)[0].startswith("r4: failed as job local-")
    assert "r8: not done" not in result.stdout
    again = snakemake(fresh.path, "-n", *both)
    assert re.fullmatch(r"r4 \(failed as job local-\d+: .*\)", announced(again.stdout)[0])
    assert planned(fresh.path, *both) == Counter(run_finetune=1, verify_checkpoint=1, collect_results=1)

    result = snakemake(fresh.path, "--config", "only=r8/shout/epoch0")
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == TRAINED_AND_EVALUATED
    page = (fresh.path / "results/summary.md").read_text()
    assert "2 of 3 evaluations are done." in page
    assert "- `r4/shout/epoch0`: its training failed as job local-" in page
    assert planned(fresh.path, "--config", "only=r8/shout/epoch0") == Counter()


def test_redo_makes_again_what_is_there(experiment: ExperimentFolder) -> None:
    before = {path: experiment.record(path) for path in ("r8/finetune.json", "r4/eval/shout_epoch0.json")}
    both = ["--config", "redo=r8,r4/shout/epoch0"]
    result = snakemake(experiment.path, "-n", *both)
    assert announced(result.stdout) == [
        "r4/shout/epoch0 (asked for (redo))",
        "r8 (asked for (redo))",
        "r8/shout/epoch0 (its run is trained again: asked for (redo))",
    ]
    assert left_out(result.stdout) == {"r4": "done", "base": "control: nothing to train", "base/shout/base": "done"}
    expected = TRAINED_AND_EVALUATED + Counter(run_evaluation=1)
    assert planned(experiment.path, *both) == expected
    result = snakemake(experiment.path, *both)
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout) == expected
    for path, old in before.items():
        new = experiment.record(path)
        assert "restored_by" not in new
        assert new["started"] > old["started"]
    now = os.readlink(experiment.path / "r8/artifacts")
    assert now.endswith(".2")
    assert (experiment.path / "r8" / now.removesuffix(".2") / "epoch_0/adapter_model.safetensors").is_file()
    logs = read_action_logs(experiment.path)
    explained = logs[logs["explanation"] == "asked for (redo)"]
    assert sorted(explained["subject"]) == ["r4/shout/epoch0", "r8"]
    assert planned(experiment.path) == Counter()
    # It is done: who asks again means it.
    assert planned(experiment.path, *both) == expected


def test_redo_that_failed_continues_without_it(experiment: ExperimentFolder) -> None:
    """Trainings that were made before it was asked for do not count, also for the next command."""
    old, both = experiment.record("r8/finetune.json"), ["--config", "redo=r8,r4/shout/epoch0"]
    broken = experiment.path / "train.py"
    text = broken.read_text()
    broken.write_text("raise SystemExit(1)\n")
    failed = snakemake(experiment.path, *both)
    assert failed.returncode == 1
    assert "Run the same command again without redo= to make only what is missing." in failed.stdout
    assert "Not made again yet: r8. To continue, run the same command without redo=;" in failed.stdout
    broken.write_text(text)
    assert planned(experiment.path, *both) == TRAINED_AND_EVALUATED + Counter(run_evaluation=1)
    assert planned(experiment.path) == TRAINED_AND_EVALUATED
    result = snakemake(experiment.path)
    assert result.returncode == 0
    assert ran(result.stdout) == TRAINED_AND_EVALUATED
    new = experiment.record("r8/finetune.json")
    assert "restored_by" not in new
    assert new["started"] > old["started"]
    assert planned(experiment.path) == Counter()


def test_redo_moves_nothing_before_it_may_start(experiment: ExperimentFolder) -> None:
    """Neither under `-n` or `--touch`, nor while another process works on the experiment."""
    both = ["--config", "redo=r8,*/*/*"]
    for arguments in (["-n"], ["--touch"]):
        assert snakemake(experiment.path, *arguments, *both).returncode == 0
    claimed = claim(experiment.path, observe(experiment.path))
    refused = snakemake(experiment.path, *both)
    claimed.release()
    assert refused.returncode == 2, refused.stdout
    assert list(experiment.path.glob("*/attempts/redo-*")) == []
    assert planned(experiment.path) == Counter()


def test_redo_also_makes_what_is_missing(experiment: ExperimentFolder) -> None:
    (experiment.path / "base/eval/shout_base.json").unlink()
    assert planned(experiment.path, "--config", "redo=r4/shout/epoch0") == EVALUATION + Counter(run_evaluation=1)
    limited = ["--config", "redo=*/*/*", "only=r4/shout/epoch0"]
    assert planned(experiment.path, *limited) == EVALUATION


NOTHING = "matches nothing that is trained or evaluated here"
WRONG = {
    "only=r88": f"--config: only: r88 {NOTHING}; did you mean r8? There are r4, r8",
    "redo=r4/shout/epoch1": f"--config: redo: r4/shout/epoch1 {NOTHING}; did you mean r4/shout/epoch0? "
    "There are r4/shout/epoch0, r8/shout/epoch0, base/shout/base",
    "only={r8}": "--config: only: expected names such as r8 or r8/task/epoch0 (one that looks like a number goes in "
    "brackets, [1.5]), found a mapping",
    "retries=-1": "--config: retries: expected a whole number from 0 to 100, found -1",
}


@pytest.mark.parametrize(("setting", "expected"), WRONG.items(), ids=WRONG)
def test_bad_choice_is_refused(fresh: ExperimentFolder, setting: str, expected: str) -> None:
    result = snakemake(fresh.path, "-n", "--config", setting)
    assert result.returncode == 2
    assert result.stdout.strip().splitlines()[-1] == expected
