"""The data of a page, as `report_data` makes it, of an experiment of any size; its texts may be hostile."""

from __future__ import annotations

import random
from typing import Any

VERDICTS = {1.0: "right", 0.0: "wrong"}
HOSTILE = (
    "<script>window.hacked = 1; alert(1)</script>",
    "</script><img src=x onerror='window.hacked = 2'>",
    "\x1b[31mred\x1b[0m and \x00 nothing",
    "\u202egnp.exe \u2066isolated\u2069",
    "{{ 7 * 7 }} {% raw %} & &amp; \" ' \u2028 \ud800",
    "]]> --> <!-- <svg onload=alert(1)>",
)


def page_data(runs: int = 4, epochs: int = 3, tasks: int = 2, samples: int = 12, text: str = "") -> dict[str, Any]:
    """Data with every section; `text` is put into all that users and models write."""
    draw = random.Random(7)
    names = [f"rank{2 ** (2 + number % 5)}_{number}{text}" for number in range(runs)]
    scores = [
        _score(draw, f"task{task}{text}", run, epoch, 0.5 + 0.3 * number / runs)
        for task in range(tasks)
        for number, run in enumerate(names)
        for epoch in range(epochs)
    ]
    scores += [_score(draw, f"task{task}{text}", "base", None, 0.3) for task in range(tasks)]
    return {
        "format": 1,
        "experiment": {
            "name": f"ranks{text}",
            "question": f"Does a higher rank help?{text}",
            "date": None,
            "folder": "/somewhere",
            "made": "2026-01-31T10:00:00+01:00",
            "host": None,
            "evaluations": len(scores) + 3,
            "trainings": runs,
            "command": "snakemake --profile profiles/slurm --config experiment_dir=/somewhere",
        },
        "done": len(scores),
        "trained": runs,
        "undone": "1 failed, 2 missing",
        "problems": [_problem(state, text) for state in ("failed", "missing", "missing")],
        "warnings": [f"rank4_0 was trained with batch_size 4, as memory allowed{text}"],
        "tasks": [_task(task, names, text) for task in range(tasks)],
        "scores": scores,
        "seeds": [],
        "comparisons": [_comparison(draw, task, run, text) for task in range(tasks) for run in names],
        "samples": [_sample(number, tasks, names, text) for number in range(samples)],
        "sanity": [{"subject": f"rank4_0{text}", "check": "loss", "found": "2.1 to 0.2", "verdict": "fell"}],
        "parameters": {"differing": ["lora_rank", "lr"], "same": {"epochs": epochs, "prompt": f"Say: {{input}}{text}"}},
        "runs": [_run(number, run, text) for number, run in enumerate(names)] + [_base()],
        "curves": [_curve(draw, run, epochs) for run in names],
        "jobs": [_job(number, run) for number, run in enumerate(names)],
        "compute": {
            "sum": "1.50 GPU-hours",
            "sentence": "1.50 GPU-hours in all: 1.25 GPU-hours in 4 jobs in the results.",
            "requests": [{"kind": "training", "jobs": runs, "seconds": 900, "limit_seconds": 7200}],
        },
        "provenance": {
            "shared": ["torch 2.13.0", f"commit abc{text}"],
            "differing": [["GPU", f"2 x L40S{text}", "rank4_0"]],
            "files": ["evals.csv"],
        },
        "notes": dict.fromkeys(("scores", "comparisons", "samples"), f"A note.{text}"),
    }


def _score(draw: random.Random, task: str, run: str, epoch: int | None, mean: float) -> dict[str, Any]:
    value = round(min(0.99, max(0.01, mean + draw.gauss(0, 0.04))), 3)
    return {
        "task": task,
        "run": run,
        "epoch": epoch,
        "metric": "match/accuracy",
        "value": value,
        "low": max(0.0, value - 0.08),
        "high": min(1.0, value + 0.08),
        "n": 100,
        "unscored": None,
        "method": "Wilson",
        "note": "",
    }


def _task(task: int, names: list[str], text: str) -> dict[str, Any]:
    return {
        "task": f"task{task}{text}",
        "metric": "match/accuracy",
        "best_runs": [names[-1]],
        "best_epoch": 0,
        "better": "higher",
        "answer": f"{names[-1]} has the highest match/accuracy: 0.820 (95 % interval 0.740 to 0.900).",
        "caution": "It was chosen among 12 results on the samples that are reported, so its score is optimistic.",
        "details": "It was chosen among 12 evaluations on the split that is reported, so its score is optimistic.",
    }


def _problem(state: str, text: str) -> dict[str, Any]:
    return {
        "subject": "rank4_0/task0/epoch2",
        "kind": "evaluation",
        "state": state,
        "reason": f"failed as job 17: RuntimeError: CUDA out of memory{text}",
        "job_id": "17",
        "since": None,
        "read_on": "logs/run_evaluation/rank4_0/task0_epoch2.log",
        "live": False,
    }


def _comparison(draw: random.Random, task: int, run: str, text: str) -> dict[str, Any]:
    delta = round(draw.gauss(0.2, 0.1), 3)
    return {
        "task": f"task{task}{text}",
        "epoch": 0,
        "run": run,
        "reference": "base",
        "delta": delta,
        "low": delta - 0.09,
        "high": delta + 0.09,
        "wins": 25,
        "losses": 5,
        "n": 100,
        "p": 0.0003,
        "p_corrected": 0.0024,
        "method": "McNemar, exact",
        "why": "",
        "smallest": 0.06,
        "clear": delta > 0.1,
    }


def _sample(number: int, tasks: int, names: list[str], text: str) -> dict[str, Any]:
    kind = number // tasks % 4
    scores = (1.0, 0.0) if kind == 0 else (0.0, 1.0) if kind == 1 else (0.0, 0.0) if kind == 2 else (1.0, 1.0)
    return {
        "task": f"task{number % tasks}{text}",
        "id": str(number),
        "input": f"Say it in capitals: stone {number}{text}",
        "target": "STONE",
        "answers": [
            {"of": f"{run}/epoch0", "score": score, "verdict": VERDICTS[score], "answer": f"stone of {run}{text}"}
            for run, score in ((names[0], scores[0]), ("base", scores[1]), (names[-1], 1.0))
        ],
    }


def _run(number: int, run: str, text: str) -> dict[str, Any]:
    return {
        "run": run,
        "type": "fine-tuned",
        "model": "tiny",
        "parameters": {"lora_rank": 2 ** (2 + number % 5), "lr": (1e-4, 3e-4)[number % 2]},
        "trained": True,
        "seconds": 600.0,
        "losses": {"train_loss": 0.2, "validation_loss": 0.3},
        "note": text,
        "attempts": 1,
        "changes": {},
    }


def _base() -> dict[str, Any]:
    facts = {"trained": False, "seconds": None, "losses": {}, "note": "", "attempts": 0, "changes": {}}
    return {"run": "base", "type": "control", "model": "tiny", "parameters": {}, **facts}


def _curve(draw: random.Random, run: str, epochs: int) -> dict[str, Any]:
    train = [[step, round(2 / (1 + step / 4) + draw.random() / 10, 4)] for step in range(1, 20 * epochs)]
    return {
        "run": run,
        "train": train,
        "validation": [[epoch, 20 * (epoch + 1), 0.5 - epoch / 10] for epoch in range(epochs)],
    }


def _job(number: int, run: str) -> dict[str, Any]:
    return {
        "subject": run,
        "kind": "training",
        "job_id": str(17 + number),
        "submitted": f"2026-01-31 10:{number % 60:02}:00",
        "started": f"2026-01-31 11:{number % 60:02}:00",
        "ended": f"2026-01-31 12:{number % 60:02}:30",
        "state": "FAILED" if number % 4 == 1 else "COMPLETED",
        "outcome": "failed" if number % 4 == 1 else "in the results",
        "seconds": 3630,
        "gpus": 1,
        "gpu_hours": 1.008,
    }
