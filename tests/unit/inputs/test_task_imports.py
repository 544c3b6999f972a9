"""The files that a task is made of are found from its imports, without importing any."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_experiment.inputs.task_imports import local_sources

# Imports, the files in the folder with what they import, and those that must be found.
CASES: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "nothing": ("import os, inspect_ai", {"unused.py": ""}, []),
    "import": ("import helper", {"helper.py": "", "unused.py": ""}, ["helper.py"]),
    "import-as": ("import os, helper as h", {"helper.py": ""}, ["helper.py"]),
    "from": ("from helper import x", {"helper.py": "", "x.py": ""}, ["helper.py"]),
    "star": ("from helper import *", {"helper.py": ""}, ["helper.py"]),
    "from-dot": ("from . import x, absent", {"x.py": "", "absent.txt": ""}, ["x.py"]),
    "from-dot-module": (
        "from .pkg.mod import y",
        {"pkg/__init__.py": "", "pkg/mod.py": "", "pkg/y.py": ""},
        ["pkg/__init__.py", "pkg/mod.py"],
    ),
    "dotted": (
        "import a.b.c",
        {"a/__init__.py": "", "a/b/__init__.py": "", "a/b/c.py": "", "a/d.py": "", "c.py": ""},
        ["a/__init__.py", "a/b/__init__.py", "a/b/c.py"],
    ),
    "submodule": ("from a import b", {"a/__init__.py": "", "a/b.py": ""}, ["a/__init__.py", "a/b.py"]),
    "without-init": ("from a import b", {"a/b.py": ""}, ["a/b.py"]),
    "package-first": ("import a", {"a/__init__.py": "", "a.py": ""}, ["a/__init__.py"]),
    "in-function": ("def f():\n    import helper", {"helper.py": ""}, ["helper.py"]),
    "through-each-other": (
        "import one",
        {"one.py": "import two", "two.py": "from three import x", "three.py": ""},
        ["one.py", "three.py", "two.py"],
    ),
    "through-packages": (
        "import a.b",
        {
            "a/__init__.py": "from . import c",
            "a/b.py": "from ..d import x\nimport e",
            "a/c.py": "",
            "a/e.py": "",
            "d.py": "",
        },
        ["a/__init__.py", "a/b.py", "a/c.py", "d.py"],
    ),
    "cycle": ("import one", {"one.py": "import two\nimport task", "two.py": "import one"}, ["one.py", "two.py"]),
    "itself": ("import task", {}, []),
    "outside": ("from .. import out\nfrom ...out import x\nfrom ......... import out", {"../out.py": ""}, []),
    "syntax-error": ("import bad", {"bad.py": "import helper\ndef f(:", "helper.py": ""}, ["bad.py"]),
    "script-with-syntax-error": ("import helper\ndef f(:", {"helper.py": ""}, []),
    "not-a-file": ("import helper", {"helper.py/x.txt": ""}, []),
}


def make(folder: Path, script: str, files: dict[str, str]) -> Path:
    """A task's script beside the files of its folder."""
    for name, text in {"task.py": script, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "task.py"


@pytest.mark.parametrize(("script", "files", "expected"), CASES.values(), ids=CASES)
def test_local_sources(tmp_path: Path, script: str, files: dict[str, str], expected: list[str]) -> None:
    folder = tmp_path / "tasks"
    assert local_sources(make(folder, script, files)) == [folder / name for name in expected]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "from .. import out\nimport helper", {"helper.py": "", "../out.py": ""})
    monkeypatch.chdir(tmp_path)
    assert local_sources(Path("task.py")) == [tmp_path / "helper.py"]


def test_missing_script(tmp_path: Path) -> None:
    assert local_sources(tmp_path / "absent.py") == []
