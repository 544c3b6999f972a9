"""Evaluations of one job share a process for inspect-ai; each has its own log and record, as if it ran alone."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import read_eval_log
from snakemake_cli import SOURCE
from vllm_server_stand_in import VERSION, StandIn

from run_experiment.common import paths
from run_experiment.inputs.data_files import split_hash
from run_experiment.inputs.file_hashes import file_hash
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.edits import Rendered, parse

# Says which process computes it, and which modules beside the task's file it finds.
TASK = """import gc
import os
import huggingface_hub
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import match
from inspect_ai.solver import generate
from helper import NAME
print("made by", os.getpid(), "with", NAME, "in", os.environ["XDG_CACHE_HOME"])
print("garbage", gc.isenabled(), gc.get_freeze_count() > 100_000)
print("timeout", huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT)

@task
def shout(data_path: str) -> Task:
    if os.path.exists("waits"):
        open("gate").read()
    if os.path.exists("broken"):
        raise RuntimeError(f"{NAME} is broken")
    print("evaluates", id(getattr(get_model().api, "model", None)))
    return Task(dataset=[Sample(input="a word", target="A WORD")], solver=generate(), scorer=match())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment folder with data, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    Path("words.json").write_text(json.dumps({"test": [{"input": "a word"}]}))
    return tmp_path


def evaluation(name: str, model: str, server: str = "") -> EvaluationJob:
    """An evaluation with a task of the same name as others, in a folder of its own."""
    script, task = Path(paths.eval_script("base", f"{name}_base")), Path(name, "task.py").absolute()
    task.parent.mkdir()
    task.write_text(TASK)
    task.with_name("helper.py").write_text(f"NAME = {name!r}\n")
    lines = [
        "set -euo pipefail",
        "export INSPECT_LOG_DIR=$RUN_EXPERIMENT_EVAL_SET HF_HUB_OFFLINE=1",
        f"{server}inspect eval-set {name}/task.py@shout {model} -T data_path=words.json --retry-attempts 0"
        " --log-dir-allow-dirty --log-format eval --display plain",
    ]
    text = Rendered("#!/bin/bash\n", "\n".join(lines) + "\n").text
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(text)
    return EvaluationJob(
        run="base",
        config={
            "task": {"script": {"sha256": file_hash(task)}, "function": "shout"},
            "data": {"split": "test", "sha256": split_hash([Path("words.json")], "test")},
        },
        files={str(script): parse(text).fingerprint},
        target=paths.eval_record("base", f"{name}_base"),
        name=f"tiny.{name}",
        script=str(script),
        cell=f"{name}_base",
        task=str(task),
        data=str(Path("words.json").absolute()),
        manifest=None,
        cache=f"cache/{name}",
    )


def of(model: Path) -> str:
    """Options of an evaluation of a model."""
    return f"--model hf/tiny -M model_path={model} -M tokenizer_path={model} -M do_sample=false --max-tokens 2"


def command(*jobs: EvaluationJob) -> list[str]:
    """The command of a job of several evaluations."""
    words = [
        word
        for number, job in enumerate(jobs)
        for word in ("--job", str(job.write(Path("jobs"))), "--id", str(number), "--log", f"logs/{job.cell}.log")
    ]
    return [sys.executable, str(SOURCE / "scripts" / "run_evaluation.py"), *words]


def run(*jobs: EvaluationJob) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*jobs), capture_output=True, text=True, timeout=120, check=False)


def record(job: EvaluationJob) -> dict[str, Any]:
    return dict(json.loads(Path(job.target).read_text()))


def made_by(job: EvaluationJob) -> tuple[str, str, str]:
    """The process that computed an evaluation, the module that its task found, and its folder of caches."""
    words = said(job, "made by").split()
    return words[0], words[2], Path(words[4]).name


def said(job: EvaluationJob, subject: str) -> str:
    """What a task's file printed about a subject."""
    lines = Path(f"logs/{job.cell}.log").read_text().splitlines()
    return next(line for line in lines if line.startswith(subject)).removeprefix(f"{subject} ")


def model_of(job: EvaluationJob) -> str:
    """The model that a task was given, as an object of its process."""
    return said(job, "evaluates")


def answers(job: EvaluationJob) -> list[str]:
    log = read_eval_log(paths.eval_log("base", job.cell))
    return [sample.output.completion for sample in log.samples or []]


def test_evaluations_share_a_process_and_a_failed_one_costs_the_others_nothing(llama: Path) -> None:
    first, second, broken, third = (evaluation(name, of(llama)) for name in ("first", "second", "broken", "third"))
    Path("broken", "broken").touch()
    # A variable that is read once, as the module is imported.
    Path(".env").write_text("HF_HUB_ETAG_TIMEOUT=77\n")
    ended = run(first, second, broken, third)
    assert ended.returncode == 1
    assert "broken is broken" in ended.stderr
    assert not Path(broken.target).exists()
    made = [made_by(job) for job in (first, second, third)]
    assert [names for _, *names in made] == [["first", "first"], ["second", "second"], ["third", "third"]]
    # The one that failed has taken its process with it.
    assert made[0][0] == made[1][0] != made[2][0]
    # Which keeps the model that it has loaded.
    models = [model_of(job) for job in (first, second)]
    assert models[0] == models[1]
    for job in (first, second, third):
        # Garbage is collected, and not looked for among the modules.
        assert said(job, "garbage") == "True True"
        assert said(job, "timeout") == "77"
        assert record(job)["config_hash"] == job.config_hash
        assert answers(job) == answers(first)


def test_evaluations_by_vllm_share_a_server(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(Path("records.jsonl").absolute())
    for name, value in stand_in.environment.items():
        monkeypatch.setenv(name, value)
    server = f"python -m run_experiment.evaluation.vllm.server --model-path {llama} --tokenizer-path {llama} -- "
    model = "--model vllm-tokens/tiny -M do_sample=false --max-tokens 2"
    first, broken, last = (evaluation(name, model, server) for name in ("first", "broken", "last"))
    Path("broken", "broken").touch()
    ended = run(first, broken, last)
    assert ended.returncode == 1
    assert not Path(broken.target).exists()
    assert Path(first.target).exists(), ended.stderr
    for job in (first, last):
        results = record(job)["results"]
        assert (results["model"], results["vllm_version"]) == ("vllm-tokens/tiny", VERSION)
    assert len(stand_in.recorded("start")) == 1
    assert not stand_in.alive()


def test_a_killed_job_leaves_no_process_and_what_it_made_is_kept(llama: Path) -> None:
    """It is started again, as SLURM does it."""
    first, second = (evaluation(name, of(llama)) for name in ("first", "second"))
    Path("second", "waits").touch()
    os.mkfifo("second/gate")
    job = subprocess.Popen(command(first, second))
    # Waits for the task to read it.
    gate = os.open("second/gate", os.O_WRONLY)
    made = record(first)
    job.kill()
    job.wait()
    with Path(paths.lock(second.target)).open("rb") as lock:
        # Its script ends once the shared process is gone.
        fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(BrokenPipeError):
        os.write(gate, b"nobody reads this")
    os.close(gate)
    Path("second", "waits").unlink()
    assert run(first, second).returncode == 0
    assert record(first) == made
    assert record(second)["attempts"][0]["failure"] == "interrupted"
