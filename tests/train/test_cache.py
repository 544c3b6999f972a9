"""Data-set caches: the data that is evaluated is today's, and a whole cache is all that an evaluation needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from evaluations import TASKS, inspect, make_evaluation, newest_log, write_data

from run_experiment.evaluation.command import eval_command
from run_experiment.evaluation.dataset_cache import CacheError, CacheFacts, prebuild
from run_experiment.evaluation.environment import cache_environment
from run_experiment.evaluation.eval_log import read_outcome, require_success

INPUTS = """
import json, sys
from inspect_ai._eval.loader import load_tasks
tasks = load_tasks([sys.argv[1]], json.loads(sys.argv[2]))
print(json.dumps([sample.input for sample in tasks[0].dataset]))
"""


BUILD = """
import json, sys
from pathlib import Path
from run_experiment.evaluation.dataset_cache import prebuild
prebuild(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4]))
"""


def build(folder: Path, arguments: dict[str, Any], function: str = "words") -> subprocess.Popen[str]:
    """Start to build a cache in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(TASKS), function, json.dumps(arguments), str(folder)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def built(folder: Path, arguments: dict[str, Any], function: str = "words") -> CacheFacts:
    process = build(folder, arguments, function)
    assert process.wait() == 0, process.stderr and process.stderr.read()
    return CacheFacts(**json.loads((folder / "cache.json").read_text()))


def inputs(data: Path, environment: dict[str, str]) -> list[str] | None:
    """Inputs of the samples that an evaluation would read; None where it cannot read any."""
    command = [sys.executable, "-c", INPUTS, f"{TASKS}@words", json.dumps({"data_path": str(data)})]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    return None if ended.returncode else json.loads(ended.stdout.splitlines()[-1])


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of everything in a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def test_changed_data_at_the_same_path(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.json", "old")
    default = {"XDG_CACHE_HOME": str(tmp_path / "default")}
    built(tmp_path / "cache" / "one", {"data_path": str(data)})
    assert inputs(data, default) == ["old"]
    write_data(data, "new")
    # The fault that a cache for each content mends: inspect-ai's own cache answers with the old data.
    assert inputs(data, default) == ["old"]
    built(tmp_path / "cache" / "two", {"data_path": str(data)})
    assert inputs(data, cache_environment(tmp_path / "cache" / "two", {})) == ["new"]
    assert inputs(data, cache_environment(tmp_path / "cache" / "one", {})) == ["old"]


def test_evaluation_reads_nothing_but_the_cache(tmp_path: Path, llama: Path) -> None:
    """With the data gone, a home that is empty and a cache that cannot be written."""
    data = write_data(tmp_path / "data.json", "apple", "river", "stone")
    arguments = {"data_path": str(data), "seed": 3}
    cache = tmp_path / "cache" / "words"
    assert built(cache, arguments).samples == 3
    data.unlink()
    (tmp_path / "home").mkdir()
    cold = {"HOME": str(tmp_path / "home")}
    assert inputs(data, {**cold, **cache_environment(tmp_path / "cache" / "other", cold)}) is None

    before = files(cache)
    for path in [cache, *cache.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    (tmp_path / "args.json").write_text(json.dumps(arguments))
    evaluation = make_evaluation(llama, max_tokens=1)
    command = eval_command(
        evaluation,
        task=f"{evaluation.task.script}@words",
        model_path=str(llama),
        tokenizer_path=str(llama),
        task_config="args.json",
    )
    places = {**cold, **cache_environment(cache, cold), "INSPECT_LOG_DIR": "logs"}
    ended = inspect(command, tmp_path, places)
    log = newest_log(tmp_path / "logs")
    assert log is not None, ended.stdout + ended.stderr
    outcome = read_outcome(log)
    require_success(outcome)
    assert outcome.total_samples == 3
    assert files(cache) == before
    for path in [cache, *cache.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_builders_that_start_together(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data.json", "apple")
    cache = tmp_path / "cache" / "words"
    # What an evaluation leaves that ran without a prebuilt cache is no cache.
    (cache / "inspect_ai").mkdir(parents=True)
    (cache / "inspect_ai" / "half").touch()
    builders = [build(cache, {"data_path": str(data)}) for _ in range(3)]
    assert [builder.wait() for builder in builders] == [0, 0, 0]
    assert [path.name for path in cache.parent.iterdir()] == ["words"]
    assert not (cache / "inspect_ai" / "half").exists()
    assert inputs(data, cache_environment(cache, {})) == ["apple"]
    before = files(cache)
    built(cache, {"data_path": str(data)})
    assert files(cache) == before


def test_task_is_called_as_inspect_calls_it(tmp_path: Path) -> None:
    """In its folder, with the modules beside it, and with a model to ask for."""
    assert built(tmp_path / "cache", {"unknown": 1}, "beside_the_script").samples == 1
    assert built(tmp_path / "named", {}, "another name").samples == 1


def test_samples_without_a_target_are_counted(tmp_path: Path) -> None:
    facts = built(tmp_path / "cache", {}, "without_targets")
    assert facts.odd == ["2 of 3 samples have no target: the scorer match takes every answer for right there"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("without_samples", "has no samples"),
        ("missing", "'missing' not found"),
        ("of_another_model", "the task has a model of its own, openai/gpt, which would be evaluated in place of the"),
    ],
)
def test_failure_leaves_nothing(tmp_path: Path, function: str, message: str) -> None:
    data = write_data(tmp_path / "data.json", "apple")
    process = build(tmp_path / "cache" / "words", {"data_path": str(data)}, function)
    assert process.stderr
    assert message in process.stderr.read()
    assert process.wait() == 1
    assert list((tmp_path / "cache").iterdir()) == []


def test_needs_a_process_of_its_own(tmp_path: Path) -> None:
    import datasets  # noqa: F401

    with pytest.raises(CacheError, match="process of its own"):
        prebuild(TASKS, "words", {}, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_environment_moves_only_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = cache_environment(Path("cache/words"), {"XDG_CACHE_HOME": "/scratch/me", "TORCH_HOME": "/torch"})
    assert environment == {
        "XDG_CACHE_HOME": str(tmp_path / "cache/words"),
        "HF_DATASETS_CACHE": str(tmp_path / "cache/words/huggingface/datasets"),
        "HF_HOME": "/scratch/me/huggingface",
        "INSPECT_CACHE_DIR": "/scratch/me/inspect_ai",
        "TORCH_HOME": "/torch",
    }
    # The environment of a job that was started with it stays as it is.
    assert cache_environment(Path("cache/words"), environment) == environment
    assert cache_environment(Path("cache/words"), {})["HF_HOME"] == str(Path.home() / ".cache" / "huggingface")


@pytest.fixture
def users_home(tmp_path: Path) -> Path:
    """A home with a data set of the Hub in its cache, downloaded some time ago."""
    home = tmp_path / "home"
    revision = home / ".cache/huggingface/datasets/acme___words/default/0.0.0" / ("0123456789" * 4)
    revision.mkdir(parents=True)
    code = """
import json, sys
from pathlib import Path
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
folder = Path(sys.argv[1])
with ArrowWriter(path=str(folder / "words-test.arrow")) as writer:
    for word in ("apple", "river"):
        writer.write({"input": word, "output": word.upper()})
    writer.finalize()
data = Dataset.from_file(str(folder / "words-test.arrow"))
info = {"builder_name": "parquet", "dataset_name": "words", "config_name": "default"}
info["version"] = {"version_str": "0.0.0"}
text = {"dtype": "string", "_type": "Value"}
info |= {"features": {"input": text, "output": text}, "splits": {"test": {"name": "test", "num_examples": 2}}}
(folder / "dataset_info.json").write_text(json.dumps(info))
"""
    subprocess.run([sys.executable, "-c", code, str(revision)], check=True)
    return home


@pytest.mark.parametrize("function", ["of_the_hub", "of_the_hub_without_inspect"])
def test_data_set_that_the_user_has_downloaded_is_found_without_internet(
    tmp_path: Path, users_home: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setenv("HOME", str(users_home))
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    before = files(users_home)
    assert built(tmp_path / "cache" / "words", {}, function).samples == 2
    assert files(users_home) == before, "not even a lock is written there"


def test_judge_that_a_task_loads_in_its_body_is_not_loaded(tmp_path: Path) -> None:
    """Neither hf's weights, nor what a provider checks at once, such as its key."""
    data = write_data(tmp_path / "data.json", "apple")
    for judge in ("hf/judge", "openai/judge", "mockllm/model"):
        arguments = {"data_path": str(data), "judge": judge}
        assert built(tmp_path / "cache" / judge, arguments, "judged_in_its_body").samples == 1


IDS = {
    "numbers": ([0, 0, 1, 1, 2, 3], r"2 ids are of several samples each \(0, 1\)"),
    "a number and a text": ([1, "1", 2], r"several samples have one id \(1\)"),
    "an id and the number of another sample": ([2, None], r"several samples have one id \(2\)"),
}


@pytest.mark.parametrize(("ids", "message"), IDS.values(), ids=IDS)
def test_samples_that_share_an_id_are_refused(tmp_path: Path, ids: list[Any], message: str) -> None:
    process = build(tmp_path / "cache" / "words", {"ids": ids}, "numbered")
    assert process.stderr
    assert re.search(f"{message}: give each sample an id of its own", process.stderr.read())
    assert process.wait() == 1
    assert built(tmp_path / "cache" / "words", {"ids": [4, 1, None]}, "numbered").samples == 3
