"""Settings: from the project's file and `--config`, and nothing that a job script could be broken with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from run_experiment.common.errors import InputError
from run_experiment.experiment.settings import Settings, read_settings

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "project/config/config.yaml"
    path.parent.mkdir(parents=True)
    return path


def settings(file: Path, text: str, cwd: str = "/home", **overrides: Any) -> Settings:
    file.write_text(text)
    return read_settings(file, overrides, Path(cwd))


def message(file: Path, text: str, **overrides: Any) -> str:
    with pytest.raises(InputError) as caught:
        settings(file, text, **overrides)
    return str(caught.value)


def test_own_file_is_valid() -> None:
    found = read_settings(PROJECT / "config/config.yaml", {}, Path("/home"))
    assert found == Settings(PROJECT / "examples/capitalization")


def test_all_settings(file: Path) -> None:
    text = (
        "experiment_dir: demo\naccount: lab\npartition: gpu,gpu-long\nmodules: [module load a]\nenvironment: source b\n"
    )
    project = file.parent.parent
    expected = Settings(project / "demo", "lab", "gpu,gpu-long", ("module load a",), "source b")
    assert settings(file, text) == expected
    changed = settings(file, text, account="other@lab", modules="module load c", environment=None)
    assert changed == Settings(project / "demo", "other@lab", "gpu,gpu-long", ("module load c",), None)
    assert settings(file, text, account="", modules=[]) == Settings(
        project / "demo", None, "gpu,gpu-long", (), "source b"
    )


def test_folder_is_relative_to_where_it_was_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = file.parent.parent
    assert settings(file, "experiment_dir: demo").experiment_dir == project / "demo"
    assert settings(file, "experiment_dir: /data/demo").experiment_dir == Path("/data/demo")
    assert settings(file, "experiment_dir: demo", experiment_dir="mine").experiment_dir == Path("/home/mine")
    assert settings(file, "experiment_dir: demo", experiment_dir="../mine").experiment_dir == Path("/mine")
    assert settings(file, "", experiment_dir=".").experiment_dir == Path("/home")
    monkeypatch.setenv("HOME", "/home/me")
    assert settings(file, "experiment_dir: ~/mine").experiment_dir == Path("/home/me/mine")
    assert settings(file, "", experiment_dir="~/mine").experiment_dir == Path("/home/me/mine")
    assert message(file, "", experiment_dir="~nobody-here/mine") == (
        '--config: experiment_dir: there is no user of "~nobody-here/mine"; write the full path'
    )


def test_folder_may_be_named_by_its_summary(file: Path, tmp_path: Path) -> None:
    summary = tmp_path / "mine/experiment_summary.yaml"
    summary.parent.mkdir()
    summary.write_text("")
    assert settings(file, "", experiment_dir=str(summary)).experiment_dir == summary.parent


@pytest.mark.parametrize("given", [{}, {"experiment_dir": ""}, {"experiment_dir": None}])
def test_folder_is_required(file: Path, given: dict[str, Any]) -> None:
    text = "experiment_dir:\n" if not given else "experiment_dir: demo\n"
    assert message(file, text, **given) == "--config: experiment_dir: name the folder of an experiment"


def test_misspelt_settings_are_all_named_with_their_lines(file: Path) -> None:
    text = "experiment_dir: demo\nacount: lab\nmodules:\n  a: 1\npartition: 5\n"
    assert message(file, text).splitlines() == [
        f"{file}:2: acount: no such setting; did you mean account?",
        f"{file}:3: modules: expected lines of a job script, found a mapping",
        f"{file}:5: partition: expected text, found 5",
    ]


def test_misspelt_override_is_named(file: Path) -> None:
    found = message(file, "experiment_dir: demo", experimentdir="mine")
    assert found == "--config: experimentdir: no such setting; did you mean experiment_dir?"
    found = message(file, "experiment_dir: demo", zzz=1)
    assert found.endswith(
        "no such setting; known: experiment_dir, account, partition, modules, environment, vllm_environment, only, "
        "redo, retries, gpu_hours, time_limit_hours, early_evaluation, reuse, evaluations_per_job"
    )


@pytest.mark.parametrize(("given", "meant"), [("false", False), ("true", True), (False, False), ("", True)])
def test_true_and_false_are_understood_on_the_command_line(file: Path, given: Any, meant: bool) -> None:
    """Snakemake takes only Python's words for them, and leaves others as text."""
    assert settings(file, "experiment_dir: demo", early_evaluation=given).early_evaluation is meant


WRONG = {
    "a folder that is a number": (
        {"experiment_dir": 20250131},
        "experiment_dir: expected text, found 20250131; a folder whose name looks like a number is ./20250131",
    ),
    "a folder that is true": ({"experiment_dir": True}, "experiment_dir: expected text, found true"),
    "an account that is a list": ({"account": ["a"]}, "account: expected text, found a list"),
    "an environment that is no text": ({"environment": True}, "environment: expected text, found true"),
    "no evaluation in a job": (
        {"evaluations_per_job": 0},
        "evaluations_per_job: expected a whole number from 1 to 100, found 0",
    ),
    "no GPU-hours": ({"gpu_hours": 0}, "gpu_hours: expected a number above 0, found 0"),
    "a list of truths": ({"early_evaluation": ["true"]}, "early_evaluation: expected true or false, found a list"),
    "neither true nor false": ({"early_evaluation": "yes"}, 'early_evaluation: expected true or false, found "yes"'),
    "one limit": ({"time_limit_hours": [4]}, "time_limit_hours: expected [least, most] in hours, found a list"),
    "limits upside down": (
        {"time_limit_hours": [4, 1]},
        "time_limit_hours: expected [least, most] in hours, found a list",
    ),
    "a limit as text": (
        {"time_limit_hours": "1:00"},
        'time_limit_hours: expected [least, most] in hours, found "1:00"',
    ),
    "GPU-hours in words": ({"gpu_hours": "two"}, 'gpu_hours: expected a number above 0, found "two"'),
    "patterns that are a mapping": (
        {"only": {"r8": ""}},
        "only: expected names such as r8 or r8/task/epoch0 (one that looks like a number goes in brackets, [1.5]), "
        "found a mapping",
    ),
    "patterns that are not text": (
        {"redo": 1.5},
        "redo: expected names such as r8 or r8/task/epoch0 (one that looks like a number goes in brackets, [1.5]), "
        "found 1.5",
    ),
    "modules with a number": ({"modules": ["a", 1]}, "modules: expected lines of a job script, found a list"),
}


@pytest.mark.parametrize(("given", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_type_is_named(file: Path, given: dict[str, Any], expected: str) -> None:
    assert message(file, "experiment_dir: demo", **given) == f"--config: {expected}"


PATTERNS = {
    "one": ("r8", ("r8",)),
    "several": ("r8, r16*/*/epoch1,", ("r8", "r16*/*/epoch1")),
    "a list": (["r8", "r16,r4"], ("r8", "r16", "r4")),
    "a number": (16, ("16",)),
}


@pytest.mark.parametrize("name", ["only", "redo"])
@pytest.mark.parametrize(("given", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_patterns(file: Path, name: str, given: Any, expected: tuple[str, ...]) -> None:
    assert getattr(settings(file, "experiment_dir: demo", **{name: given}), name) == expected


@pytest.mark.parametrize("name", ["only", "redo"])
@pytest.mark.parametrize("given", [None, "", ",", []])
def test_a_choice_of_nothing_is_no_choice_of_everything(file: Path, name: str, given: Any) -> None:
    """What a shell makes of a variable that is not set."""
    expected = f"--config: {name}: names nothing: leave it out to choose nothing by hand"
    assert message(file, "experiment_dir: demo", **{name: given}) == expected
    assert getattr(settings(file, f"experiment_dir: demo\n{name}:\n"), name) == ()


def test_command_line_takes_the_place_of_the_file(file: Path) -> None:
    text = "experiment_dir: demo\nonly: [r8, r4]\nretries: 7\n"
    assert settings(file, text).only == ("r8", "r4")
    assert settings(file, text, only="r16").only == ("r16",)
    assert settings(file, text).retries == 7
    assert settings(file, text, retries=0).retries == 0


@pytest.mark.parametrize("value", [0, 5, 100])
def test_retries(file: Path, value: int) -> None:
    assert settings(file, "experiment_dir: demo", retries=value).retries == value
    assert settings(file, f"experiment_dir: demo\nretries: {value}\n").retries == value


@pytest.mark.parametrize("value", [None, ""])
def test_retries_have_a_default(file: Path, value: Any) -> None:
    assert settings(file, "experiment_dir: demo\nretries: 7\n", retries=value).retries == 3


@pytest.mark.parametrize(
    ("value", "found"), [(-1, "-1"), (101, "101"), (2.5, "2.5"), (True, "true"), ("many", '"many"'), ([3], "a list")]
)
def test_retries_are_a_whole_number(file: Path, value: Any, found: str) -> None:
    expected = f"--config: retries: expected a whole number from 0 to 100, found {found}"
    assert message(file, "experiment_dir: demo", retries=value) == expected


@pytest.mark.parametrize("name", ["account", "partition"])
@pytest.mark.parametrize("value", ["lab\nrm -rf ~", "lab\n", "a b", "$(id)", "a;b", "a`id`", "a#b", "ä", " "])
def test_names_cannot_bring_lines_into_a_job_script(file: Path, name: str, value: str) -> None:
    assert f"--config: {name}: " in message(file, "experiment_dir: demo", **{name: value})
    assert f"{file}:2: {name}: " in message(file, f"experiment_dir: demo\n{name}: {value!r}\n".replace("'", '"'))


@pytest.mark.parametrize("value", ["lab", "lab_1.a-b", "gpu,cpu", "me@lab+x"])
def test_names_that_clusters_have(file: Path, value: str) -> None:
    assert settings(file, "experiment_dir: demo", account=value, partition=value).account == value


def test_file_that_is_not_yaml_is_named(file: Path) -> None:
    assert message(file, "experiment_dir: demo\naccount: [lab\n").startswith(f"{file}:")
    assert "not valid YAML" in message(file, "experiment_dir: demo\naccount: [lab\n")
    assert "written twice" in message(file, "account: a\naccount: b\n")
    assert message(file, "- a\n") == f"{file}:1: expected settings, KEY: VALUE"


def test_reused_experiments_are_named_by_folder_or_summary(file: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "experiment_summary.yaml").touch()
    given = f"{tmp_path}/one, {tmp_path}/two/experiment_summary.yaml"
    assert settings(file, "experiment_dir: demo", reuse=given).reuse == (tmp_path / "one", tmp_path / "two")
    assert settings(file, f"experiment_dir: demo\nreuse: [{tmp_path}/one]\n").reuse == (tmp_path / "one",)
    assert settings(file, "experiment_dir: demo\nreuse: null\n").reuse == ()


def test_a_reused_folder_without_an_experiment_is_named(file: Path, tmp_path: Path) -> None:
    found = message(file, "experiment_dir: demo", reuse=f"{tmp_path}/nothing")
    assert found == (
        f"--config: reuse: {tmp_path}/nothing is not the folder of an experiment: "
        "there is no experiment_summary.yaml in it"
    )
    assert message(file, "experiment_dir: demo", reuse="") == (
        "--config: reuse: names nothing: leave it out to choose nothing by hand"
    )
