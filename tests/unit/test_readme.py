"""The README's own example is one: its files are accepted as they stand there, and its mistake is reported so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from small_experiment import make_model

from run_experiment.common.errors import InputError
from run_experiment.experiment.model import Experiment
from run_experiment.experiment.resolve import resolve
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.planning.build import make_plan
from run_experiment.planning.snapshot import Snapshot
from run_experiment.summary.read import read_summary

README = Path(__file__).parents[2] / "README.md"
MODEL = "/path/to/a/Hugging Face/model/folder"


def block(language: str) -> str:
    """The one code block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The README's three files."""
    (tmp_path / "words.json").write_text(block("json"))
    (tmp_path / "shout.py").write_text(block("python"))
    summary = block("yaml").replace(MODEL, str(make_model(tmp_path / "model")))
    (tmp_path / "experiment_summary.yaml").write_text(summary)
    return tmp_path


def read(folder: Path) -> Experiment:
    summary, warnings = read_summary(folder / "experiment_summary.yaml")
    assert warnings == []
    return resolve(summary, folder)


def test_example_is_planned(folder: Path) -> None:
    experiment = read(folder)
    assert [run.name for run in experiment.fine_tuned] == ["rank4", "rank16"]
    evaluations = ["rank4/shout/epoch0", "rank4/shout/epoch1", "rank16/shout/epoch0", "rank16/shout/epoch1"]
    assert [one.subject for one in experiment.evaluations] == [*evaluations, "base/shout/base"]
    memory = HashMemory(folder / "hashes.json")
    plan = make_plan(experiment, Settings(experiment_dir=folder), memory, Snapshot(folder))
    assert all(
        row.why == "not done yet" for row in plan.rows() if row.subject.startswith("rank") and "/" not in row.subject
    )


def test_example_task_is_one(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("readme_task", folder / "shout.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (sample,) = module.shout(str(folder / "words.json"), "Say it in capitals: {input}").dataset
    assert (sample.input, sample.target) == ("Say it in capitals: stone", "STONE")


def test_mistake_is_reported_as_shown(folder: Path) -> None:
    path = folder / "experiment_summary.yaml"
    path.write_text(path.read_text().replace("lora_rank: 4}", "lora_ranc: 4}"))
    with pytest.raises(InputError) as error:
        read(folder)
    assert str(error.value).splitlines()[0] in README.read_text(encoding="utf-8")
