"""An experiment as researchers have them, with its logs: classes, a regression, seeds, failures, jobs on a cluster."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from experiments import TASK, ExperimentFolder
from sample_logs import write_log
from small_experiment import cache, evaluate, make_small_experiment, plan_of, train, verify_all

from run_experiment.actionlog.entry import Action, Entry, Log, render
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.experiment.model import Evaluation
from run_experiment.finetuning.metrics import COLUMNS, METRICS_FILE
from run_experiment.machine.gpu_samples import GpuSummary
from run_experiment.slurm.usage import JobMetrics, metrics_text

RANKS, SEEDS, EPOCHS, SAMPLES = (4, 16), (1, 2, 3), 3, 120
LABELS = ("positive", "negative", "neutral")
REVIEWS = (
    "The battery lasts two days and the screen is bright, so I would buy it again at once.",
    "It broke after a week and nobody answered my letters; a waste of money.",
    "It does what it says. Nothing more, nothing less.",
)
Logged = tuple[Log, datetime, Entry]
_BEGAN = datetime(2026, 1, 30, 9, 0).astimezone()


def make_whole_experiment(folder: Path) -> ExperimentFolder:
    """Two ranks of three seeds each beside the base model, on two tasks; one evaluation failed, another is missing."""
    experiment = make_small_experiment(folder / "experiment")
    values = experiment.read()
    names = [f"rank{rank}-seed{seed}" for rank in RANKS for seed in SEEDS]
    values["experiment"] = {
        "name": "review-sentiment",
        "question": "Does a higher LoRA rank find the sentiment of product reviews better, and rate them more exactly?",
        "date": "2026-01-30",
    }
    values["variables"] = {"lora_rank": list(RANKS), "seed": list(SEEDS)}
    values["controls"] |= {"epochs": EPOCHS, "validation_during_training": True}
    values["runs"] = [
        {"name": f"rank{rank}-seed{seed}", "type": "fine-tuned", "model": "tiny"}
        | {"parameters": {"lora_rank": rank, "seed": seed}}
        for rank in RANKS
        for seed in SEEDS
    ]
    values["runs"].append({"name": "base", "type": "control", "model": "tiny", "parameters": {}})
    sentiment = {"name": "sentiment", "script": "shout.py", "dataset": "words.json"}
    rating = {**sentiment, "name": "rating", "script": "rating.py", "metric": {"name": "mae"}}
    (experiment.path / "rating.py").write_text(TASK.replace("def shout", "def rating"))
    matrix = [{"run": name, "tasks": ["sentiment", "rating"], "epochs": list(range(EPOCHS))} for name in names]
    values["evaluation"] |= {"tasks": [sentiment, rating], "max_tokens": 8}
    values["evaluation"]["matrix"] = [*matrix, {"run": "base", "tasks": ["sentiment", "rating"], "epochs": None}]
    experiment.write(values)
    _make_results(experiment)
    _leave_failures(experiment)
    _write_jobs(experiment)
    return experiment


def _make_results(experiment: ExperimentFolder) -> None:
    plan = plan_of(experiment)
    for number, run in enumerate(plan.experiment.fine_tuned):
        losses = _write_curve(experiment.path / run.name / "artifacts" / METRICS_FILE, number)
        facts = {"losses": losses, "seconds": 2_400.0, "job_id": _training_job(number)}
        train(experiment, run.name, seed=10 * number, plan=plan, **facts)
    verify_all(experiment)
    for number, item in enumerate(plan.experiment.evaluations):
        _evaluate(experiment, item, random.Random(number))
    cache(experiment)


def _write_curve(path: Path, number: int) -> dict[str, float]:
    draw, rows, steps = random.Random(number), [], 90
    train_loss, validation = 0.0, 0.0
    for epoch in range(EPOCHS):
        for step in range(epoch * steps + 1, (epoch + 1) * steps + 1):
            train_loss = 1.9 * math.exp(-step / 60) + 0.25 + draw.gauss(0, 0.05)
            rows.append(f"{epoch},{step},{train_loss:.4f},,,,,")
        validation = 0.55 - 0.12 * min(epoch, 1) + 0.05 * max(0, epoch - 1) + draw.gauss(0, 0.01)
        rows.append(f"{epoch},{(epoch + 1) * steps},,,,,,{validation:.4f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\r\n".join([",".join(COLUMNS), *rows, ""]))
    return {"train_loss": train_loss, "validation_loss": validation}


def _evaluate(experiment: ExperimentFolder, item: Evaluation, draw: random.Random) -> None:
    rank = item.run.parameters.get("lora_rank", 0)
    skill = 0.45 if item.epoch is None else 0.62 + 0.08 * item.epoch + rank / 200
    samples = [_sample(number, item.task.name, skill, draw) for number in range(1, SAMPLES + 1)]
    write_record_of(experiment, item, samples)


def _sample(number: int, task: str, skill: float, draw: random.Random) -> dict[str, Any]:
    # How hard a sample is depends on it alone, so that results are correlated as they are in life.
    hard = random.Random(number).gauss(0, 0.25)
    target = LABELS[number % 7 % 3]
    text = f"Is this review positive, negative or neutral?\n\n{REVIEWS[LABELS.index(target)]} (No. {number})"
    if task == "rating":
        error = round(abs(draw.gauss(0, 1.6 - skill + abs(hard))), 2)
        score: dict[str, Any] = {"mae": {"value": error, "answer": f"{3 + error:.1f} stars"}}
        return {"id": number, "epoch": 1, "input": text, "target": "3 stars", "scores": score}
    right = draw.random() < skill + hard
    wrong = draw.choice([one for one in LABELS if one != target] + ["I would say that it is mixed"])
    value = {"value": "C" if right else "I", "answer": target if right else wrong, "history": []}
    tokens = {"tiny": {"output_tokens": 8 if wrong.startswith("I would") and not right else 2}}
    facts = {"id": number, "epoch": 1, "input": text, "target": target, "model_usage": tokens}
    return {**facts, "scores": {"match": value}}


def write_record_of(experiment: ExperimentFolder, item: Evaluation, samples: Sequence[dict[str, Any]]) -> None:
    """Leave the record and the log of an evaluation with these samples, as inspect-ai would have them."""
    (scorer,) = samples[0]["scores"]
    values = [one["scores"][scorer]["value"] for one in samples]
    numbers = [{"C": 1.0, "I": 0.0}.get(value, value) for value in values]
    mean = sum(numbers) / len(numbers)
    metric = "mae/mean" if scorer == "mae" else "match/accuracy"
    counts = dict.fromkeys(("completed_samples", "total_samples"), len(samples))
    evaluate(experiment, [item], metrics={metric: mean}, **counts)
    write_log(experiment.path / paths.eval_log(item.run.name, item.cell), samples)


def _leave_failures(experiment: ExperimentFolder) -> None:
    failed, missing = ("rank16-seed3", "rating_epoch2"), ("rank16-seed3", "rating_epoch1")
    for run, cell in (failed, missing):
        (experiment.path / paths.eval_record(run, cell)).unlink()
    attempt = {
        "target": failed[1],
        "error": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB",
        "job_id": "4711",
        "ended": "2026-01-30T15:00:00+01:00",
    }
    write_record(experiment.path / failed[0] / "attempts/4711/attempt.json", attempt)


def _write_jobs(experiment: ExperimentFolder) -> None:
    """Write the action logs of a session on a cluster: a training failed once, evaluations waited for theirs."""
    plan = plan_of(experiment)
    entries: list[Logged] = []
    number = int(_training_job(len(plan.experiment.fine_tuned)))
    ends: dict[str, datetime] = {}
    for place, run in enumerate(plan.experiment.fine_tuned):
        begun = _BEGAN + timedelta(minutes=7 * place)
        if place == 2:
            entries += _job(Log.TORCHTUNE, run.name, "4690", begun, 11, "FAILED")
            begun += timedelta(minutes=20)
        entries += _job(Log.TORCHTUNE, run.name, _training_job(place), begun, 40 + 5 * (place % 3), "COMPLETED")
        ends[run.name] = begun + timedelta(minutes=50 + 5 * (place % 3))
    for place, item in enumerate(plan.experiment.evaluations):
        path = experiment.path / paths.eval_record(item.run.name, item.cell)
        begun = ends.get(item.run.name, _BEGAN) + timedelta(minutes=2 * place % 30)
        state = "COMPLETED" if path.is_file() else "FAILED"
        entries += _job(Log.INSPECT, item.subject, str(number), begun, 3 + place % 4, state)
        if path.is_file():
            write_record(path, {**experiment.record(str(path.relative_to(experiment.path))), "job_id": str(number)})
        number += 1
    for log in Log:
        lines = [render(entry, time) for of, time, entry in sorted(entries, key=lambda one: one[1]) if of is log]
        (experiment.path / log.file).write_text("".join(lines), encoding="utf-8")


def _training_job(number: int) -> str:
    return str(4700 + number)


def _job(log: Log, subject: str, job: str, begun: datetime, minutes: int, state: str) -> list[Logged]:
    """The entries of a job that waited for ten minutes; memory and GPU as a small model needs them."""
    started, ended = begun + timedelta(minutes=10), begun + timedelta(minutes=10 + minutes)
    is_training = log is Log.TORCHTUNE
    kind = "Training" if is_training else "Evaluation"
    metrics = JobMetrics(60 * minutes, 4 * 3600, 8, 60 * minutes * 3, 11_000.0 + 100 * minutes, 65_536.0)
    gpus = GpuSummary(1, 30, 83.0, 99.0, 21_000.0, 81_559.0, 300.0)

    def entry(action: Action, details: str, result: str) -> Entry:
        return Entry(action, details, result, subject, job_id=job)

    at = "%Y-%m-%d %H:%M:%S"
    return [
        (log, begun, entry(Action.SUBMIT_JOB if is_training else Action.SUBMIT_EVAL, "sbatch", f"Job ID {job}")),
        (log, started, entry(Action.STATE_CHANGE, "PENDING → RUNNING", f"{kind} started at {started:{at}} on n1")),
        (log, ended, entry(Action.STATE_CHANGE, f"RUNNING → {state}", f"{kind} ended at {ended:{at}} on n1")),
        (log, ended, entry(Action.COMPUTE_METRICS, metrics_text(metrics, gpus), state)),
    ]
