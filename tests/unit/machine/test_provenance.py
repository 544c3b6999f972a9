"""What a job tells of how it makes results: commits, versions, machine; nothing of it may fail or disturb."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from experiments import ExperimentFolder
from small_experiment import plan_of

from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.experiment.records import JobRecord
from run_experiment.machine import provenance as module
from run_experiment.machine.provenance import (
    INSTALLED,
    commit,
    gpus,
    installed,
    provenance,
    tell_installed,
    told_installed,
    versions,
    with_inspect,
    with_installed,
)
from run_experiment.results.collect import collect
from run_experiment.results.versions import todays_versions

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


def test_task_that_git_does_not_know_is_not_in_the_commit(repository: Path) -> None:
    (repository / "tasks/new[1].py").write_text("1\n")
    assert provenance([repository / "tasks/file.py"], {})["task"]["dirty"] is False
    assert provenance([repository / "tasks/new[1].py"], {})["task"]["dirty"] is True
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "second")
    assert provenance([repository / "tasks/new[1].py"], {})["task"]["dirty"] is False


@pytest.mark.parametrize("imported", ["helper.py", "lib/helper.py", "ignored/helper.py"])
def test_what_a_task_imports_is_a_part_of_it(repository: Path, imported: str) -> None:
    path = repository / "tasks" / imported
    path.parent.mkdir(exist_ok=True)
    path.write_text("1\n")
    files = [repository / "tasks/file.py", path]
    assert provenance(files, {})["task"]["dirty"] is True
    git(repository, "add", "-f", ".")
    git(repository, "commit", "-q", "-m", "second")
    assert provenance(files, {})["task"]["dirty"] is False


def test_rules_and_scripts_are_code_of_the_project(repository: Path) -> None:
    package = repository / "src/run_experiment"
    shutil.copytree(Path(module.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    (repository / "Snakefile").write_text("1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "second")

    def is_dirty() -> str:
        program = (
            "from run_experiment.machine.provenance import provenance\nprint(provenance([], {})['project']['dirty'])"
        )
        command = [sys.executable, "-B", "-c", program]
        environment = {**os.environ, "PYTHONPATH": str(package.parent)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert is_dirty() == "False"
    (package / "results.txt").write_text("1\n")
    assert is_dirty() == "False"
    (package / "new.py").write_text("1\n")
    assert is_dirty() == "True"
    (package / "new.py").unlink()
    (repository / "Snakefile").write_text("2\n")
    assert is_dirty() == "True"


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
        monkeypatch.setattr("importlib.metadata.version", lambda package, error=error: (_ for _ in ()).throw(error))
        assert versions() == {}


def test_all_of_it(repository: Path, tools: Path) -> None:
    told = provenance([repository / "tasks/file.py"], {"seed": 14})
    assert told.pop("versions")["run-experiment"]
    assert all(isinstance(told.pop(name), str) for name in ("host", "platform"))
    python = ".".join(map(str, sys.version_info[:3]))
    assert told == {"project": None, "task": None, "python": python, "gpus": [], "seeds": {"seed": 14}}
    assert provenance([], {})["task"] is None


def test_it_is_light_and_quick(repository: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from run_experiment.machine.provenance import provenance
started = time.process_time()
assert provenance([Path({str(repository / "tasks/file.py")!r})], {{}})["task"]["dirty"] is False
print(time.process_time() - started)
heavy = {{"torch", "torchtune", "transformers", "datasets", "inspect_ai", "pandas", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 0.3


KNOWN: dict[str, Any] = {"python": "3.11.9", "versions": {"torchtune": "0.6.1", "inspect-ai": "0.3.9"}, "host": "n1"}


def test_what_is_installed_is_left_beside_what_is_made(tmp_path: Path) -> None:
    tell_installed(tmp_path / "artifacts")
    tell_installed(tmp_path / "artifacts")
    assert told_installed(tmp_path / "artifacts") == [installed()]
    assert installed()["versions"] == versions()
    # A full disk costs only this.
    (tmp_path / "file").touch()
    tell_installed(tmp_path / "file")


def test_what_a_script_told_takes_the_place_of_what_its_job_knows() -> None:
    told = {"python": "3.10.1", "versions": {"torchtune": "0.7"}}
    assert with_installed(KNOWN, [told]) == {**told, "host": "n1"}
    assert with_installed(KNOWN, []) == {"python": None, "versions": {}, "host": "n1"}


def test_what_goes_on_in_another_environment_tells_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("0.6.0", "0.6.1", "0.6.1"):
        monkeypatch.setattr(module, "versions", lambda number=number: {"torchtune": number})
        tell_installed(tmp_path)
    made = with_installed(KNOWN, told_installed(tmp_path))
    assert made["versions"] == {"torchtune": "0.6.1"}
    assert [one["versions"] for one in made["earlier"]] == [{"torchtune": "0.6.0"}]
    write_record(tmp_path / INSTALLED, {"environments": 3})
    assert told_installed(tmp_path) == []


@pytest.mark.parametrize(("version", "expected"), [("0.4.0", {"inspect-ai": "0.4.0"}), ("", {})])
def test_log_of_another_inspect_ai_is_of_another_environment(version: str, expected: dict[str, str]) -> None:
    assert with_inspect(KNOWN, "0.3.9") == KNOWN
    assert with_inspect(KNOWN, version) == {"python": None, "versions": expected, "host": "n1"}
    assert with_inspect({"error": "why"}, version)["versions"] == expected


def test_the_same_inspect_ai_in_another_environment_says_nothing_of_the_rest_there() -> None:
    expected = {"python": None, "versions": {"inspect-ai": "0.3.9"}, "host": "n1"}
    assert with_inspect(KNOWN, "0.3.9", elsewhere=True) == expected


def test_results_made_elsewhere_are_compared_with_the_newest_record() -> None:
    records = [
        JobRecord(
            {},
            ended=f"2025-01-3{day}T10:00:00+01:00",
            provenance={"versions": {"torchtune": f"0.{day}", "inspect-ai": f"0.{day}"}},
        )
        for day in (1, 0)
    ]
    assert todays_versions(records, elsewhere=True) == {"torchtune": "0.1", "inspect-ai": "0.1"}
    assert todays_versions([], elsewhere=True) == {}
    assert todays_versions(records) == {"torchtune": "0.1"} | versions(("torchtune", "inspect-ai"))


TRAINING, EVALUATION, TRAINED = "r4/finetune.slurm", "r4/eval/shout_epoch0.slurm", "set -euo pipefail\n"
NEW, OLD = "", "inspect-ai 0.0.2"
ELSEWHERE: dict[str, tuple[dict[str, Any], dict[str, tuple[str, str]], list[str]]] = {
    "no environment": ({}, {}, [OLD, "inspect-ai 0.0.1"]),
    "an environment": ({"environment": "conda activate finetune"}, {}, [OLD, NEW]),
    "modules": ({"modules": ("module load cuda",)}, {}, [OLD, NEW]),
    "an edited head": ({}, {EVALUATION: (TRAINED, f". theirs\n{TRAINED}")}, [OLD, NEW]),
    "another #SBATCH line": ({}, {TRAINING: ("#SBATCH --mem=", "#SBATCH --mem=1")}, [OLD, "inspect-ai 0.0.1"]),
    "edited commands": ({}, {TRAINING: (TRAINED, f"{TRAINED}. theirs\n")}, [OLD, NEW]),
}


@pytest.mark.parametrize(("settings", "edits", "expected"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_results_of_another_environment_are_not_compared_with_this_one(
    done: ExperimentFolder, settings: dict[str, Any], edits: dict[str, tuple[str, str]], expected: list[str]
) -> None:
    plan_of(done, **settings).write_scripts()
    for path, (old, new) in edits.items():
        done.edit(path, old, new)
        if path == TRAINING:
            # That is another training; its records are those of this one.
            record = done.record("r4/finetune.json")
            write_record(done.path / "r4/finetune.json", {**record, "config": plan_of(done)["r4/finetune.json"].config})
    for name, ended, number in (("base", "12", "0.0.1"), ("given", "10", "0.0.2")):
        path = f"{name}/eval/shout_base.json"
        facts = {"ended": f"2025-01-31T{ended}:00:00+01:00", "provenance": {"versions": {"inspect-ai": number}}}
        write_record(done.path / path, {**done.record(path), **facts})
    collect(done.path)
    table = pd.read_csv(done.path / paths.EVALS_TABLE, keep_default_na=False).set_index("run")["versions"]
    assert [table["given"], table["base"]] == expected
