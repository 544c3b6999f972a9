"""Evaluations for the tests, as an experiment's summary gives them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from run_experiment.experiment.model import Evaluation
from run_experiment.experiment.resolve import resolve
from run_experiment.experiment.schema import ExperimentSummary

TASKS = Path(__file__).parent / "tasks" / "words.py"


def make_evaluation(model: Path, function: str = "words", script: Path = TASKS, **evaluation: Any) -> Evaluation:
    """An evaluation of a base model on one task."""
    controls = {"dataset_type": evaluation.pop("dataset_type", "chat_completion")}
    summary = {
        "experiment": {"name": "test"},
        "controls": controls,
        "models": {"base": {"name": "tiny", "path": str(model)}},
        "runs": [{"name": "base", "type": "control"}],
        "evaluation": {
            "max_tokens": 4,
            "tasks": [{"name": "task", "script": f"{script}@{function}"}],
            "matrix": [{"run": "base", "tasks": "task"}],
            **evaluation,
        },
    }
    return resolve(ExperimentSummary.model_validate(summary), model.parent).evaluations[0]


def write_data(path: Path, *words: str) -> Path:
    """A data file whose test split has these words."""
    rows = [{"input": word, "output": word.upper()} for word in words]
    path.write_text(json.dumps({"train": [{"input": "no", "output": "NO"}], "test": rows}))
    return path


def inspect(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run an `inspect` command in a folder, away from the user's own caches."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def newest_log(folder: Path) -> Path | None:
    """The newest log in a folder; None where there is none."""
    return max(folder.glob("*.eval"), key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)
