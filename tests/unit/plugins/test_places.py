"""What Snakemake cannot start without is said before it ends in a traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from snakemake_logger_plugin_action_log.places import why_no_start


def test_nothing_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    monkeypatch.setattr(sys, "argv", ["snakemake", "experiment_dir=ü"])
    assert why_no_start() == ""


@pytest.mark.parametrize(("name", "value"), [("XDG_CACHE_HOME", "/proc/nowhere"), ("HOME", "/proc/nohome")])
def test_no_place_for_the_cache(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(name, value)
    assert why_no_start().endswith("set XDG_CACHE_HOME to one that can be written")


def test_names_that_python_cannot_write_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    monkeypatch.setattr(sys, "argv", ["snakemake", "experiment_dir=a"])
    assert why_no_start() == ""
    monkeypatch.setattr(sys, "argv", ["snakemake", "experiment_dir=\udcc3\udcbc"])
    assert why_no_start().endswith("set LC_ALL=C.UTF-8, and unset PYTHONUTF8")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("-n --config experiment_dir=x r4", "'r4'"),
        ("--config experiment_dir=x only=r4, r8 --cores 1", "'r8'"),
        ("r4/finetune.json -C experiment_dir=x --cores 1 -n", ""),
    ],
)
def test_words_after_config_that_are_no_settings(monkeypatch: pytest.MonkeyPatch, words: str, named: str) -> None:
    """Snakemake takes all words up to the next option for settings, and ends in a traceback."""
    monkeypatch.setattr(sys, "argv", ["snakemake", *words.split()])
    expected = f"--config: {named} is no setting (KEY=VALUE): write lists without blanks, and targets before --config"
    assert why_no_start() == (expected if named else "")
