"""What is said of tasks that do not load their data."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
from inspect_ai.dataset import Sample

from run_experiment.evaluation.dataset_cache import failure_text, is_too_long


def load(task: Path) -> None:
    """Run a task's file as inspect-ai does: its path is its module's name."""
    loader = SourceFileLoader(str(task), str(task))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    loader.exec_module(module_from_spec(spec))


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("from .beside import FIELD", "import modules beside it without the dot"),
        ("from . import beside", "import modules beside it without the dot"),
        ("import not_there_at_all", "install it in the environment that jobs run in"),
        ("{'test': []}['validation']", "does the data have a split or a column of that name?"),
        ("setattr([], '__registry_info__', 1)", "the task's function has to return a Task of inspect-ai"),
        ("open('rows.txt')", "a task reads relative paths from the folder of its script"),
        ("object().attribs", "the task's function has to return a Task of inspect-ai"),
    ],
)
def test_what_to_do(tmp_path: Path, code: str, hint: str) -> None:
    task = tmp_path / "task.py"
    task.write_text(code)
    with pytest.raises(Exception) as error:
        load(task)
    said = failure_text(error.value)
    assert said.startswith(f"{error.typename}: {error.value} (")
    assert said.endswith(f"{hint})")


def test_a_folder_of_the_script_that_is_taken_for_a_package(tmp_path: Path) -> None:
    task = tmp_path / "tasks" / "shout.py"
    task.parent.mkdir()
    task.write_text("from tasks.helper import FIELD")
    with pytest.raises(ModuleNotFoundError) as error:
        load(task)
    advice = "(a task finds the modules beside its script: import them without 'tasks' before them)"
    assert failure_text(error.value, task) == f"{error.value} {advice}"
    assert "install it" in failure_text(error.value, tmp_path / "shout.py")


def test_an_environment_variable_that_is_not_set(tmp_path: Path) -> None:
    task = tmp_path / "task.py"
    task.write_text("import os\nos.environ['A_KEY']")
    with pytest.raises(KeyError) as error:
        load(task)
    assert failure_text(error.value) == "the task asks for the environment variable 'A_KEY', which is not set"


def test_an_error_that_says_it_itself() -> None:
    assert failure_text(ValueError("no answer in row 3")) == "ValueError: no answer in row 3"


@pytest.mark.parametrize("value", [4, None])
def test_a_value_that_is_no_text_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="validation errors for Sample") as error:
        Sample(input="2+2", target=value)
    expected = f"ValidationError: Sample: target: Input should be a valid string, not {value}"
    assert failure_text(error.value) == f"{expected} (the task has to make text of it, as by str())"


def test_what_hugging_face_s_own_error_is_about() -> None:
    """It says only that an error occurred."""

    class DatasetGenerationError(Exception):
        pass

    error = DatasetGenerationError("An error occurred while generating the dataset")
    error.__cause__ = KeyError("test")
    assert failure_text(error) == (
        "DatasetGenerationError: An error occurred while generating the dataset: KeyError: 'test' "
        "(does the data have a split or a column of that name?)"
    )


@pytest.mark.parametrize(
    ("name", "expected"), [("a" * 200, False), ("é" * 20, False), ("é" * 90, True), ("a" * 227 + "é" * 20, False)]
)
def test_a_path_that_hugging_face_datasets_cannot_lock_is_known_before(
    tmp_path: Path, name: str, expected: bool
) -> None:
    """As its own locks have it."""
    from datasets.utils._filelock import FileLock

    folder = Path("/", name)
    assert is_too_long(folder) is expected
    within = f"huggingface/datasets/json/default-{16 * '0'}/0.0.0/{64 * '0'}.lock"
    with pytest.raises(OSError, match="too long") if expected else nullcontext():
        FileLock(str(tmp_path / f"{folder}/{within}".replace("/", "_"))).acquire()


def test_a_path_that_hugging_face_datasets_cannot_lock_is_named(tmp_path: Path) -> None:
    """Its own lock, of a folder whose path has fewer characters than bytes."""
    from datasets.utils._filelock import FileLock

    long = str(tmp_path / f"{'é' * 200}_builder.lock")
    with pytest.raises(OSError) as error, FileLock(long):
        pass
    assert "move the experiment to a shorter or plain path" in failure_text(error.value)
