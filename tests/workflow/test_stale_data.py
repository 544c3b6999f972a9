"""Changed data, models, tasks and prompts: `-n` names exactly what is of the old ones, and why in plain words."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from once import once
from small_experiment import complete as complete_small
from small_experiment import make_small_experiment
from snakemake_cli import planned, snakemake

from run_experiment.actionlog.reader import read_action_log

Change = Callable[[ExperimentFolder], Any]

RUNS = {"Fine-tune r4", "Fine-tune r8"}
CHECKPOINTS = {"Verify checkpoint r4/epoch_0", "Verify checkpoint r8/epoch_0"}
TRAINED = {"Evaluate r4/shout/epoch0", "Evaluate r8/shout/epoch0"}
EVALUATIONS = {*TRAINED, "Evaluate base/shout/base"}
CACHE = {"Prebuild the data-set cache shout"}
TASK_IMPORT = "from inspect_ai import Task, task"
AGAIN = "its run is trained again: "


@pytest.fixture(scope="session")
def template(complete: ExperimentFolder) -> ExperimentFolder:
    """The complete experiment with a task that imports a file, evaluated again with that."""

    def make(folder: Path) -> None:
        experiment = duplicate(complete, folder)
        (experiment.path / "helper.py").write_text("LOUD = True\n")
        experiment.edit("shout.py", TASK_IMPORT, f"import helper\n{TASK_IMPORT}")
        result = snakemake(experiment.path)
        assert result.returncode == 0, result.stdout

    return ExperimentFolder(once("template", make) / "experiment")


@pytest.fixture
def changing(template: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """A copy of the template."""
    return duplicate(template, tmp_path)


def duplicate(experiment: ExperimentFolder, place: Path) -> ExperimentFolder:
    return ExperimentFolder(Path(shutil.copytree(experiment.path, place / "experiment", symlinks=True)))


def edit_answer(split: str) -> Change:
    """Change one byte of a split's first answer."""

    def change(experiment: ExperimentFolder) -> None:
        splits = experiment.data()
        splits[split][0]["output"] = "X" + splits[split][0]["output"][1:]
        experiment.write_data(splits)

    return change


def set_prompt(experiment: ExperimentFolder) -> None:
    values = experiment.read()
    values["controls"]["prompt"] = "Louder: {input}"
    experiment.write(values)


def flip_byte(name: str) -> Change:
    """Have a copy of the model, with one byte of a file changed, or one more: of the last weight, of white space."""

    def change(experiment: ExperimentFolder) -> None:
        values = experiment.read()
        model = Path(values["models"]["base"][0]["path"])
        own = Path(shutil.copytree(model, experiment.path.parent / "model"))
        values["models"]["base"][0]["path"] = str(own)
        experiment.write(values)
        content = (own / name).read_bytes()
        (own / name).write_bytes(content + b" " if name.endswith(".json") else content[:-1] + bytes([content[-1] ^ 1]))

    return change


def said(output: str) -> dict[str, str]:
    """What `-n` would make but for checks of models and results, each with its reason."""
    jobs = re.findall(r"^Job \d+: (?!Check model)(.+?) \((.+)\)(?:; log: .*)?$", output, re.MULTILINE)
    return dict(jobs)


def because(reason: str, *jobs: set[str]) -> dict[str, str]:
    return dict.fromkeys(set().union(*jobs), reason)


WEIGHTS = "the model's weights or tokenizer changed"
MODEL = because(WEIGHTS, RUNS, {"Evaluate base/shout/base"}) | because(AGAIN + WEIGHTS, CHECKPOINTS, TRAINED)
CHANGES: dict[str, tuple[Change, dict[str, str]]] = {
    "the training split": (
        edit_answer("train"),
        because("the train split of words.json changed", RUNS)
        | because(f"{AGAIN}the train split of words.json changed", CHECKPOINTS, TRAINED),
    ),
    "the test split": (edit_answer("test"), because("the test split of words.json changed", EVALUATIONS, CACHE)),
    "one byte of the model's weights": (flip_byte("model.safetensors"), MODEL),
    "the model's tokenizer": (flip_byte("tokenizer.json"), MODEL),
    "the task's script": (
        lambda experiment: experiment.edit("shout.py", "upper()", "upper().strip()"),
        because("the task's script shout.py changed", EVALUATIONS, CACHE),
    ),
    "a file that the script imports": (
        lambda experiment: experiment.edit("helper.py", "True", "False"),
        because("the task's imported file helper.py changed", EVALUATIONS, CACHE),
    ),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_dry_run_says_what_is_of_the_old_and_why(
    changing: ExperimentFolder, change: Change, expected: dict[str, str]
) -> None:
    change(changing)
    result = snakemake(changing.path, "-n")
    assert result.returncode == 0, result.stdout
    assert said(result.stdout) == expected


@pytest.mark.torchtune
def test_prompt_is_told_as_it_was_and_is(tmp_path: Path) -> None:
    """Also to evaluations of what is not trained: their task takes it. A cache does not depend on it."""
    experiment = make_small_experiment(tmp_path / "experiment")
    complete_small(experiment)
    set_prompt(experiment)
    epochs = {"r4/shout/epoch0", "r4/shout/epoch1", "r8/shout/epoch1"}
    checkpoints = {f"Verify checkpoint {run}/epoch_{epoch}" for run in ("r4", "r8") for epoch in (0, 1)}
    untrained = {"Evaluate base/shout/base", "Evaluate given/shout/base"}
    change = 'prompt: "Shout: {input}" → "Louder: {input}"'
    expected = because(change, RUNS, untrained)
    assert said(snakemake(experiment.path, "-n").stdout) == expected | because(
        AGAIN + change, checkpoints, {f"Evaluate {cell}" for cell in epochs}
    )


def stale_caches(experiment: ExperimentFolder) -> list[tuple[str, str, str]]:
    log = read_action_log(experiment.path / "run-inspect.log")
    entries = log[log["action"].isin(["STALE_CACHE", "CACHE_BUILT"])]
    return list(zip(entries["action"], entries["subject"], entries["details"] + " / " + entries["result"], strict=True))


def test_rebuilt_cache_is_told_before_it_is_built(changing: ExperimentFolder) -> None:
    told = len(stale_caches(changing))
    edit_answer("test")(changing)
    assert snakemake(changing.path).returncode == 0
    stale, built = stale_caches(changing)[told:]
    data = f"{changing.path}/words.json (split test)"
    details = f"Cache of {data} is stale: the test split of words.json changed"
    assert stale == ("STALE_CACHE", "shout", f"{details} / to be rebuilt")
    assert built[:2] == ("CACHE_BUILT", "shout")
    assert built[2].startswith(f"{data} / cached: 2 rows in ")
    assert planned(changing.path) == Counter()


def test_cache_of_a_task_that_came_back_is_not_built_again(changing: ExperimentFolder) -> None:
    """The reason is the same in both directions: Snakemake must not take that for nothing new."""
    changing.edit("shout.py", "import helper\n", "")
    told = len(stale_caches(changing))
    assert snakemake(changing.path, "cache/shout.json").returncode == 0
    stale, built = stale_caches(changing)[told:]
    assert stale[2].endswith("the task's imported file helper.py changed / to be replaced by one built earlier")
    assert built[2].endswith(", by an earlier session")
    changing.edit("shout.py", TASK_IMPORT, f"import helper\n{TASK_IMPORT}")
    assert planned(changing.path, "cache/shout.json") == Counter(prebuild_cache=1)


def test_checkpoint_that_changes_twice_is_verified_twice(changing: ExperimentFolder) -> None:
    manifest, adapter = "r4/checkpoints/epoch_0.json", changing.path / "r4/artifacts/epoch_0/adapter_model.safetensors"
    for place in (-1, -5):
        content = bytearray(adapter.read_bytes())
        content[place] ^= 1
        adapter.write_bytes(content)
        result = snakemake(changing.path, manifest)
        assert "Verify checkpoint r4/epoch_0 (the checkpoint's files changed)" in result.stdout, result.stdout


def test_only_a_cache_that_was_there_is_stale(complete: ExperimentFolder, changing: ExperimentFolder) -> None:
    assert [action for action, *_ in stale_caches(complete)] == ["CACHE_BUILT"]
    assert [action for action, *_ in stale_caches(changing)] == ["CACHE_BUILT", "STALE_CACHE", "CACHE_BUILT"]
    assert "the task's script shout.py changed" in stale_caches(changing)[1][2]
