"""What the page says of evaluations: the scores, and what they come to by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from run_experiment.experiment.model import Evaluation
from run_experiment.experiment.records import EvaluationRecord
from run_experiment.planning.results_state import Records
from run_experiment.results.task_results import headline_metric


def evaluations(records: Records) -> dict[str, Any]:
    """The parts of the page's data that are made from evaluations."""
    made = records.evaluations()
    tasks: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for task in records.experiment.tasks:
        items = [item for item in records.experiment.evaluations if item.task is task and item.subject in made]
        if metric := headline_metric([made[item.subject] for item in items]):
            found = [_score(item, made[item.subject], metric) for item in items]
            tasks.append(_task(task.name, metric, found))
            scores += found
    return {"tasks": tasks, "scores": scores, "comparisons": [], "samples": [], "sanity": []}


def _score(item: Evaluation, record: EvaluationRecord, metric: str) -> dict[str, Any]:
    return {
        "task": item.task.name,
        "run": item.run.name,
        "epoch": item.epoch,
        "metric": metric,
        "value": record.metrics.get(metric),
        "error": record.metrics.get(f"{metric.rpartition('/')[0]}/stderr"),
        "low": None,
        "high": None,
        "n": record.counted(metric),
        "unscored": None if record.total is None else (record.total - (record.counted(metric) or 0)) or None,
        "note": "" if item.label == item.run.name else item.label,
    }


def _task(name: str, metric: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    trained = [row["value"] for row in rows if row["epoch"] is not None and row["value"] is not None]
    flat = [f"{row['run']} {row['value']:.3f}" for row in rows if row["epoch"] is None and row["value"] is not None]
    said = []
    if trained:
        spread = f"from {min(trained):.3f} to {max(trained):.3f}" if len(trained) > 1 else f"{trained[0]:.3f}"
        said.append(f"{metric} after training: {spread} ({_count(len(trained), 'result')}).")
    if flat:
        said.append(f"Without training here: {', '.join(flat)}.")
    return {"task": name, "metric": metric, "best_run": None, "best_epoch": None, "answer": said, "caveats": []}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
