"""Whatever the file holds, it is read or rejected with its problems, and nothing else is raised."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from good_summary import FILE, GOOD, errors, read, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from run_experiment.common.errors import InputError
from run_experiment.experiment.resolve import resolve
from run_experiment.summary.read import read_experiment, read_summary

VALUES = st.sampled_from(
    [
        "no",
        "",
        "{}",
        "[]",
        "[1]",
        "{a: b}",
        "-1",
        "1e400",
        '"\\0"',
        "x" * 300,
        "..",
        "/",
        "&a x",
        "*a",
        "? x",
        "{input}",
    ]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: the file is empty"),
        ("# nothing", "1: the file is empty"),
        ("just text", '1: expected sections (experiment:, models:, runs:, evaluation:), found "just text"'),
        ("- a", "1: expected sections (experiment:, models:, runs:, evaluation:), found a list"),
        (
            "a: b: c",
            "1: not valid YAML: mapping values are not allowed in this context (text with a colon must be quoted)",
        ),
    ],
)
def test_files_without_sections(folder: Path, text: str, message: str) -> None:
    assert errors(folder, text) == [f"{FILE}:{message}"]


def test_missing_sections_are_all_named(folder: Path) -> None:
    lines = errors(folder, "tools: {}")
    assert [line.split(": ", 1)[1] for line in lines] == [
        f"{name}: is required, but missing" for name in ("evaluation", "experiment", "models", "runs")
    ]


def test_file_that_cannot_be_read(folder: Path) -> None:
    file = write(folder, "mine.yaml", "")
    expected = {
        folder / FILE: f"{folder / FILE}: there is no such file",
        folder / "absent" / FILE: f"{folder / 'absent'}: there is no such folder",
        file / FILE: f"{file}: is a file; write the folder that it is in",
        folder: f"{folder}: is a folder; expected the file {folder.name}",
    }
    for path, message in expected.items():
        with pytest.raises(InputError) as caught:
            read_summary(path)
        assert str(caught.value) == message


def test_unreadable_file(folder: Path) -> None:
    """A link to itself: root, too, cannot read it."""
    path = folder / "loop" / FILE
    path.parent.mkdir()
    path.symlink_to(path)
    with pytest.raises(InputError, match="cannot be read: Too many levels of symbolic links"):
        read_summary(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_value_anywhere_raises_anything_else(folder: Path, data: st.DataObject) -> None:
    """One value of the good file replaced: read, or rejected with lines that have places."""
    lines = GOOD.splitlines()
    index = data.draw(st.sampled_from([number for number, line in enumerate(lines) if ":" in line]))
    lines[index] = f"{lines[index].partition(':')[0]}: {data.draw(VALUES)}"
    try:
        summary, _ = read(folder, "\n".join(lines))
    except InputError as error:
        problems = error.problems
        with suppress(InputError):
            read_experiment(folder / FILE)
    else:
        problems = []
        assert read_experiment(folder / FILE) == resolve(summary, folder)
    assert all(0 < problem.line <= len(lines) + 1 for problem in problems)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_no_text_raises_anything_else(folder: Path, text: str) -> None:
    with pytest.raises(InputError):
        read(folder, text)
