"""On a real cluster, with the real torchtune and inspect-ai: what was cut goes on, and comes to the same."""

from __future__ import annotations

import csv
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cluster_runs import AT_ONCE, Run, client, kill_processes, run, settled, until
from experiments import OUT_OF_MEMORY, WORDS, ExperimentFolder, before_python, make_experiment
from inspect_ai.log import EvalLog, read_eval_log

from run_experiment.actionlog.reader import read_action_logs

EPOCHS, STEPS, KILLS = 4, 40, 3
METRICS = "r4/artifacts/metrics.csv"
# Counts what it computes; after so many samples it waits until it is killed.
COUNTING = """
import asyncio
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, hf_dataset
from inspect_ai.scorer import match
from inspect_ai.solver import solver


@solver
def counting():
    async def solve(state, generate):
        computed, killed = Path("computed"), Path("killed")
        while not killed.exists() and len(computed.read_text().split()) >= KILLED_AFTER:
            await asyncio.sleep(0.1)
        state = await generate(state)
        with computed.open("a") as file:
            print(state.sample_id, file=file)
        return state

    return solve


@task
def shout(data_path: str, prompt: str = "{input}", split: str = "test"):
    def sample(row):
        return Sample(input=prompt.format(input=row["input"]), target=row["output"])

    data = hf_dataset("json", data_files=data_path, field=split, split="train", sample_fields=sample)
    return Task(dataset=data, solver=counting(), scorer=match(location="exact"))
"""


def test_a_training_killed_again_and_again_comes_to_the_same(tmp_path: Path) -> None:
    killed, whole = long_training(tmp_path / "killed"), long_training(tmp_path / "whole")
    reference = Run(whole.path, "r4/finetune.json", *AT_ONCE)
    command = Run(killed.path, "r4/finetune.json", *AT_ONCE, config=[f"retries={KILLS}"])
    finished: dict[Path, tuple[int, int]] = {}
    for step in sorted(random.Random().sample(range(1, EPOCHS * STEPS), KILLS)):
        until(lambda step=step: len(rows(killed)) >= step)
        finished |= epochs_of(killed)
        before = stamp(killed.path / METRICS)[0]
        kill(killed, random.Random().choice(["", "finetuning.recipe"]))
        # The next try begins a file of its own, with the rows of whole epochs.
        until(lambda before=before: stamp(killed.path / METRICS)[0] != before)

    assert command.wait(300) == 0, command.output
    assert reference.wait(300) == 0, reference.output
    assert rows(killed) == rows(whole)
    assert len(rows(whole)) == EPOCHS * STEPS
    last = f"r4/artifacts/epoch_{EPOCHS - 1}/adapter_model.safetensors"
    assert (killed.path / last).read_bytes() == (whole.path / last).read_bytes()
    assert {path: stamp(path) for path in finished} == finished, "an epoch was trained twice"
    told = read_action_logs(killed.path)
    resumed = told[told["action"] == "RESUME_TRAINING"]
    assert all(resumed["result"].str.contains(rf"of {EPOCHS} epochs are trained"))
    again = run(killed.path, "r4/finetune.json", *AT_ONCE)
    assert "Nothing to be done" in again.output


def test_out_of_memory_takes_a_smaller_batch_and_leaves_the_users_files_alone(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "experiment")
    experiment.set_parameters("r4", batch_size=8)
    result = run(experiment.path, "r4/finetune.json", *AT_ONCE, config=[before_python(tmp_path, OUT_OF_MEMORY, 4)])

    assert result.process.returncode == 0, result.output
    assert (experiment.path / "tries").read_text().split() == ["8", "4"]
    assert experiment.record("r4/finetune.json")["changes"] == {"batch_size": 4, "gradient_accumulation_steps": 2}
    assert "\nbatch_size: 8\n" in (experiment.path / "r4/finetune.yaml").read_text()
    assert len(rows(experiment)) == 2, "a step an epoch, as with the batch that was asked for"
    (entry,) = of(experiment, "OOM_RETRY")
    assert "8 × 1 → 4 × 2" in entry["details"]
    assert len(settled(experiment.path, 1)) == 1, "in the allocation that it had"


@pytest.mark.parametrize(
    ("body", "tries", "message"),
    [
        (OUT_OF_MEMORY, ["8", "4", "2", "1"], "out of memory even with batch size 1"),
        ("echo 1 >> tries; echo 'KeyError: lora'; exit 1", ["1"], "KeyError: lora"),
    ],
    ids=["never fits", "an error"],
)
def test_what_no_other_try_mends_ends(tmp_path: Path, body: str, tries: list[str], message: str) -> None:
    experiment = make_experiment(tmp_path / "experiment")
    experiment.set_parameters("r4", batch_size=8)
    result = run(experiment.path, "r4/finetune.json", *AT_ONCE, config=[before_python(tmp_path, body, 0)])

    assert result.process.returncode == 1
    assert (experiment.path / "tries").read_text().split() == tries
    assert message in result.output
    assert len(settled(experiment.path, 1)) == 1


@pytest.mark.parametrize(("command", "done"), [("", 23), ("inspect", 5)], ids=["the job", "what evaluates"])
def test_an_evaluation_that_was_killed_computes_what_is_missing(tmp_path: Path, command: str, done: int) -> None:
    """After and before the first samples were written to the log: inspect-ai does so ten at a time."""
    experiment = make_experiment(tmp_path / "experiment")
    test = [{"input": f"{word}{number}", "output": word.upper()} for word in WORDS for number in "123"]
    experiment.write_data({**experiment.data(), "test": test})
    (experiment.path / "shout.py").write_text(COUNTING.replace("KILLED_AFTER", str(done)))
    experiment.write(experiment.read() | {"evaluation": experiment.read()["evaluation"] | {"max_connections": 1}})
    computed = experiment.path / "computed"
    computed.touch()
    target = "base/eval/shout_base.json"

    started = Run(experiment.path, target, *AT_ONCE)
    until(lambda: len(computed.read_text().split()) >= done)
    time.sleep(2)
    kill(experiment, command)
    (experiment.path / "killed").touch()

    assert started.wait(180) == 0, started.output
    assert len(computed.read_text().split()) == len(test)
    log = read_eval_log(str(experiment.path / "base/eval/logs/shout_base.eval"))
    assert log.results is not None
    assert log.results.completed_samples == len(log.samples or []) == len(test)
    (entry,) = of(experiment, "EVAL_RETRY")
    assert f"{done} of {len(test)} samples reused" in entry["result"]
    if command:
        return

    again = run(experiment.path, target, *AT_ONCE, config=["redo=base/shout/base"])
    assert again.process.returncode == 0, again.output
    assert len(computed.read_text().split()) == 2 * len(test)
    whole = read_eval_log(str(experiment.path / "base/eval/logs/shout_base.eval"))
    assert answers(whole) == answers(log)
    assert whole.results is not None
    assert whole.results.scores[0].metrics == log.results.scores[0].metrics


def long_training(folder: Path) -> ExperimentFolder:
    """An experiment with a training of 4 epochs that can be killed on its way; of the same model as any other."""
    folder.mkdir()
    experiment = make_experiment(folder / "experiment", epochs=EPOCHS)
    words = random.Random(1).choices(WORDS, k=2 * STEPS)
    rows = [{"input": word, "output": word.upper()} for word in words]
    experiment.write_data({**experiment.data(), "train": rows})
    experiment.set_parameters("r4", num_warmup_steps=10, lora_dropout=0.1)
    return experiment


def rows(experiment: ExperimentFolder) -> list[tuple[Any, ...]]:
    """Epoch, step, loss and learning rate of the steps so far, as text."""
    with suppress(FileNotFoundError):
        text = (experiment.path / METRICS).read_text()
        table = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
        return [tuple(row[name] for name in ("epoch", "step", "loss", "lr")) for row in table]
    return []


def epochs_of(experiment: ExperimentFolder) -> dict[Path, tuple[int, int]]:
    """The weights that are saved, with what changes when they are written again."""
    return {path: stamp(path) for path in experiment.path.glob("r4/artifacts/epoch_*/adapter_model.safetensors")}


def stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def kill(experiment: ExperimentFolder, command: str = "") -> None:
    """Kill what has a word in its command, or else the whole job, which then can say nothing."""
    lines = client("squeue", "-h", "-t", "R", "-o", "%i %Z").splitlines()
    (job_id,) = [line.split()[0] for line in lines if line.endswith(f" {experiment.path}")]
    kill_processes(job_id, command)


def answers(log: EvalLog) -> dict[int | str, tuple[str, Any]]:
    """What the model said to each sample, and its score."""
    return {one.id: (one.output.completion, one.score and one.score.value) for one in log.samples or []}


def of(experiment: ExperimentFolder, action: str) -> list[dict[str, Any]]:
    """Entries of the action logs."""
    table = read_action_logs(experiment.path)
    return table[table["action"] == action].to_dict("records")
