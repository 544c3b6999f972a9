"""Commands that Snakemake would refuse in its own words get a line that says what to write."""

from __future__ import annotations

import shlex

import pytest
import yaml

from run_experiment.experiment.command_hints import command_hints

NO_PROFILE = [
    "No profile is chosen: add --profile profiles/local to run on this machine, --profile profiles/slurm to submit to "
    "a cluster, or -n to see what would run."
]


@pytest.mark.parametrize("name", ["experiment_dir", "only", "redo"])
def test_setting_without_config_is_no_target(name: str) -> None:
    expected = [f"{name}=a=b is a setting, not a file to make: write --config {name}=a=b"]
    assert command_hints(["--profile", "profiles/local", f"{name}=a=b"], {}, 2) == expected
    assert command_hints([f"{name}=a=b"], {}, None) == expected


def test_each_misplaced_setting_has_its_hint() -> None:
    arguments = ["only=r8", "--config", "experiment_dir=mine", "-n", "redo=r4"]
    hints = command_hints(arguments, {"experiment_dir": "mine"}, 1)
    assert [hint.split()[0] for hint in hints] == ["only=r8", "redo=r4"]


@pytest.mark.parametrize("arguments", [[], ["--config", "experiment_dir=mine"], ["-C", "experiment_dir=mine"]])
def test_profile_is_missed_if_nothing_says_how_many_cores(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    config = {"experiment_dir": "mine"}
    assert command_hints(arguments, config, None) == NO_PROFILE
    assert command_hints(arguments, config, 1) == []


@pytest.mark.parametrize("option", ["--executor=slurm", "--lint", "--dag", "-j4", "--profile=mine"])
def test_other_ways_to_call_snakemake_are_left_alone(option: str) -> None:
    assert command_hints([option, "r8/artifacts=1", "--default-resources", "account=lab"], {}, None) == []


def test_a_setting_that_is_given_twice() -> None:
    arguments = ["--profile", "mine", "--config", "experiment_dir=a", "experiment_dir=b"]
    expected = ["experiment_dir is given twice: write it once"]
    assert command_hints(arguments, {"experiment_dir": "b"}, 1) == expected


def test_no_folder() -> None:
    arguments = ["--profile", "mine", "--config", "experiment_dir="]
    assert command_hints(arguments, {"experiment_dir": None}, 1) == [
        "experiment_dir= names no folder: write experiment_dir=PATH"
    ]


def test_a_profile_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "profiles/local")
    assert command_hints([], {}, None) == []


@pytest.mark.parametrize(
    ("given", "read"), [("/data/my exp #1/experiment", "/data/my exp"), ("010", 8), ("a: b", {"a": "b"})]
)
def test_a_folder_that_snakemake_reads_as_another_one(given: str, read: object) -> None:
    arguments = ["--profile", "mine", "--config", f"experiment_dir={given}"]
    (hint,) = command_hints(arguments, {"experiment_dir": read}, 1)
    assert hint.startswith(f"experiment_dir={given}: Snakemake reads it as {read!r}: quote it, as in --config ")
    quoted = shlex.split(hint.rpartition("--config ")[2])[0]
    assert yaml.safe_load(quoted.partition("=")[2]) == given
    assert command_hints(["--profile", "mine", "--config", quoted], {"experiment_dir": given}, 1) == []
