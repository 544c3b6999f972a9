"""What a job tells of how it makes results: commits, versions, machine; nothing of it may fail or disturb."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from run_experiment import provenance as module
from run_experiment.provenance import commit, gpus, provenance, versions

SMI = """#!/bin/bash
case "$*" in
  *--id=1*) echo 'NVIDIA L40S, 46068 MiB, 550.54.15' ;;
  *--query-gpu=name,memory.total,driver_version*)
    printf '%s\\n' 'NVIDIA H100, 81559 MiB, 550.54.15' 'NVIDIA L40S, 46068 MiB, 550.54.15' 'Unable to determine' ;;
  *) exit 3 ;;
esac
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@lab"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a file in each of two folders, committed."""
    folder = tmp_path / "repository"
    for name in ("tasks", "docs"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file.py").write_text("1\n")
    (folder / ".gitignore").write_text("ignored/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on PATH, without tools."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_commit_of_a_folder_and_whether_it_is_dirty(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    assert commit(repository) == commit(repository / "tasks") == {"commit": first, "dirty": False}
    (repository / "tasks/result.json").write_text("{}")
    assert commit(repository / "tasks") == {"commit": first, "dirty": False}
    (repository / "tasks/file.py").write_text("2\n")
    assert commit(repository / "tasks") == {"commit": first, "dirty": True}
    assert commit(repository / "docs") == {"commit": first, "dirty": False}
    git(repository, "add", ".")
    assert commit(repository / "tasks") == {"commit": first, "dirty": True}
    git(repository, "commit", "-q", "-m", "second")
    assert commit(repository / "tasks") == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}


def test_repository_that_knows_nothing_of_a_folder_says_nothing(repository: Path) -> None:
    """As one around an environment with this package, or one of somebody's home folder."""
    for name in ("ignored", "untracked"):
        (repository / name).mkdir()
        (repository / name / "file.py").write_text("1\n")
        assert commit(repository / name) is None


@pytest.mark.parametrize("name", [".", "none"])
def test_folder_without_a_repository(tmp_path: Path, name: str) -> None:
    assert commit(tmp_path / name) is None


def test_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None


def test_repository_of_another_user(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit(repository)
    # As git's own tests have it see another owner.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert commit(repository) is None


def test_nothing_is_written_to_a_repository(repository: Path) -> None:
    # git would note the new time of an unchanged file in its index.
    os.utime(repository / "tasks/file.py", (1, 1))
    index = repository / ".git/index"
    before = index.read_bytes(), index.stat().st_mtime_ns
    assert commit(repository) is not None
    assert (index.read_bytes(), index.stat().st_mtime_ns) == before


def test_machine_without_git(repository: Path, tools: Path) -> None:
    assert commit(repository) is None


def test_git_that_does_not_answer(repository: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tools, "git", "#!/bin/bash\n/bin/sleep 60\n")
    monkeypatch.setattr(module, "_GIT_TIME_OUT", 0.2)
    started = time.monotonic()
    assert commit(repository) is None
    assert time.monotonic() - started < 5


def test_git_that_only_does_not_tell_whether_files_changed(repository: Path, tools: Path) -> None:
    put(tools, "git", '#!/bin/bash\n[[ "$*" == *rev-parse* ]] && echo abc || exit 1\n')
    assert commit(repository) == {"commit": "abc", "dirty": None}


def test_gpus(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tools, "nvidia-smi", SMI)
    h100 = {"name": "NVIDIA H100", "memory": "81559 MiB", "driver": "550.54.15"}
    l40s = {"name": "NVIDIA L40S", "memory": "46068 MiB", "driver": "550.54.15"}
    assert gpus() == [h100, l40s]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpus() == [l40s]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


@pytest.mark.parametrize("smi", ["", "#!/bin/bash\necho no driver\nexit 9\n"])
def test_machine_without_gpus(tools: Path, smi: str) -> None:
    if smi:
        put(tools, "nvidia-smi", smi)
    assert gpus() == []


def test_versions_are_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions(("pytest", "no-such-package")) == {"pytest": pytest.__version__}
    for error in (PackageNotFoundError("torch"), KeyError("Version"), OSError(5, "Input/output error")):
        monkeypatch.setattr(module, "version", lambda package, error=error: (_ for _ in ()).throw(error))
        assert versions() == {}


def test_all_of_it(repository: Path, tools: Path) -> None:
    told = provenance(repository / "tasks", {"seed": 14})
    assert told.pop("versions")["run-experiment"]
    assert all(isinstance(told.pop(name), str) for name in ("host", "platform"))
    python = ".".join(map(str, sys.version_info[:3]))
    assert told == {"project": None, "task": None, "python": python, "gpus": [], "seeds": {"seed": 14}}
    assert provenance(None, {})["task"] is None


def test_it_is_light_and_quick(repository: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from run_experiment.provenance import provenance
started = time.process_time()
assert provenance(Path({str(repository)!r}), {{}})["task"]["dirty"] is False
print(time.process_time() - started)
heavy = {{"torch", "torchtune", "transformers", "datasets", "inspect_ai", "pandas", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 0.3
