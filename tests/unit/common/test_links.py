"""Links in an experiment lead only where those whom the user trusts want it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from run_experiment.actionlog.entry import Action, ActionLogs, Entry, Log
from run_experiment.common.files import ForeignLinkError, links_at_top, refuse_foreign_links
from run_experiment.common.json_files import write_record
from run_experiment.common.paths import SUMMARY

NOBODY = 65534
ENTRY = Entry(Action.STATUS_CHECK, "details", "result")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment, and a place elsewhere that links in it lead to."""
    # Restored after a test that pretends to be another user.
    monkeypatch.setattr(os, "geteuid", os.geteuid)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / SUMMARY).touch()
    (tmp_path / "elsewhere").mkdir()
    # As another experiment, so that nothing depends on how the place looks.
    (tmp_path / "elsewhere" / SUMMARY).touch()
    (tmp_path / "elsewhere/log").touch()
    return tmp_path / "experiment"


def link(path: Path, target: Path, owner: int) -> None:
    """A link that root, or another user than this one, made."""
    path.symlink_to(target)
    if os.geteuid() == 0:
        os.chown(path, owner, -1, follow_symlinks=False)
    elif owner == NOBODY:
        os.geteuid = lambda: NOBODY


@pytest.mark.parametrize("owner", [0, NOBODY], ids=["root", "another user"])
def test_records_and_results_are_written_through_trusted_links_alone(folder: Path, owner: int) -> None:
    link(folder / "results", folder.parent / "elsewhere", owner)
    written = folder.parent / "elsewhere/deep/provenance.json"
    if owner == 0:
        write_record(folder / "results/deep/provenance.json", {})
        assert written.is_file()
        return
    with pytest.raises(ForeignLinkError) as raised:
        write_record(folder / "results/deep/provenance.json", {})
    assert re.fullmatch(r".*/results is a link that \S+ made: remove it, or make it yourself", str(raised.value))
    assert not written.parent.exists()


@pytest.mark.parametrize("owner", [0, NOBODY], ids=["root", "another user"])
def test_entries_are_appended_through_trusted_links_alone(folder: Path, owner: int) -> None:
    link(folder / Log.TORCHTUNE.file, folder.parent / "elsewhere/log", owner)
    logs = ActionLogs(folder)
    assert logs.write(tuple(Log), ENTRY) == (owner == 0)
    assert bool((folder.parent / "elsewhere/log").read_text()) == (owner == 0)
    assert (folder / Log.INSPECT.file).read_text()
    assert ("is a link that" in (logs.incomplete() or "")) == (owner == NOBODY)


def test_paths_as_jobs_have_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    link(folder / "r4", folder.parent / "elsewhere", NOBODY)
    with pytest.raises(ForeignLinkError):
        refuse_foreign_links(Path("r4/finetune.json"))


def test_the_way_to_the_experiment_is_not_ours_to_judge(folder: Path) -> None:
    link(folder.parent / "way", folder, NOBODY)
    write_record(folder.parent / "way/results/provenance.json", {})


def test_links_that_will_be_followed_are_listed(folder: Path) -> None:
    link(folder / "results", folder.parent / "elsewhere", 0)
    assert list(links_at_top(folder)) == [(folder / "results", folder.parent / "elsewhere")]
    link(folder / "r4", folder.parent / "elsewhere", NOBODY)
    with pytest.raises(ForeignLinkError):
        list(links_at_top(folder))
