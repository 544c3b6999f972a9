"""Places in an experiment's folder that a session could not write to are reported before it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from run_experiment.common.files import regular
from run_experiment.common.json_files import read_record
from run_experiment.common.places import no_space, unusable_places

NOBODY = 65534


def said(folder: Path) -> list[str]:
    return [str(error).replace(str(folder), "DIR") for error in unusable_places(folder, ["r4"])]


def test_what_is_new_or_usual_is_no_problem(tmp_path: Path) -> None:
    assert said(tmp_path) == said(tmp_path / "missing") == []
    for name in (".snakemake", "results", "logs", "r4"):
        (tmp_path / name).mkdir()
    (tmp_path / "run-inspect.log").write_text("")
    (tmp_path / "run-torchtune.log").symlink_to("elsewhere.log")
    (tmp_path / "cache").symlink_to("logs")
    (tmp_path / "trainings").write_text("a file of the user's")
    assert said(tmp_path) == []


@pytest.mark.parametrize("name", [".snakemake", "cache", "logs", "results", "r4"])
def test_a_file_for_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert said(tmp_path) == [f"DIR/{name}: has to be a folder: rename or remove what is there"]
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/no/where")
    assert said(tmp_path) == [
        f"DIR/{name}: is a link to /no/where, which is not there: make that folder, or remove the link"
    ]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_log_that_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "run-inspect.log")
    assert said(tmp_path) == ["DIR/run-inspect.log: has to be a file: rename or remove what is there"]


def test_a_log_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "run-inspect.log").symlink_to("/no/where.log")
    assert said(tmp_path) == ["DIR/run-inspect.log: is a link into /no, which is not there: make that folder"]


FULL = """
import sys
from pathlib import Path
from run_experiment.common.places import no_space
print(no_space(Path(sys.argv[1])))
"""


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    """As on a full disk or beyond a quota: here, of a process that may write no byte."""
    assert no_space(tmp_path) is None
    limited = ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(limited, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}: cannot take a file (File too large): make room\n"
    assert list(tmp_path.iterdir()) == []


LOOK = """
import os, sys
from pathlib import Path
from run_experiment.common.places import unusable_places
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(*unusable_places(Path(sys.argv[1])), sep="\\n")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
@pytest.mark.parametrize(("name", "is_folder"), [("results", True), (".snakemake", True), ("run-inspect.log", False)])
def test_what_another_user_may_not_write(tmp_path: Path, name: str, is_folder: bool) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    assert look(folder) == [f"{folder}: you have no right to read and write in it; {STATUS}"]
    os.chown(folder, NOBODY, NOBODY)
    assert look(folder) == []
    place = folder / name
    if is_folder:
        place.mkdir()
    else:
        place.write_text("")
    assert look(folder) == [f"{place}: you have no right to read and write {'in ' if is_folder else ''}it"]


STATUS = "`run-experiment status` needs only to read it"


def look(folder: Path) -> list[str]:
    """What is said to a user who is nobody."""
    result = subprocess.run([sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, check=True)
    return result.stdout.split("\n")[:-1] if result.stdout.strip() else []


def test_a_record_that_is_a_fifo_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "finetune.json")
    assert read_record(tmp_path / "finetune.json") is None
    with pytest.raises(OSError, match="no regular file"):
        regular(tmp_path / "finetune.json")


def test_a_record_that_is_nested_too_deeply_is_none(tmp_path: Path) -> None:
    (tmp_path / "finetune.json").write_text("[" * 100_000)
    assert read_record(tmp_path / "finetune.json") is None
