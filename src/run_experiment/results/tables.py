"""The tables of the results: evaluations, and their comparisons with a reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from run_experiment.common import paths
from run_experiment.experiment.model import Evaluation, Experiment, Run
from run_experiment.experiment.records import EvaluationRecord
from run_experiment.jobscripts.foreign import cell_files
from run_experiment.jobscripts.script_facts import script_facts
from run_experiment.planning.results_state import Records
from run_experiment.results.versions import other_versions, todays_versions

if TYPE_CHECKING:
    from run_experiment.results.analysis.analyse import Analysis
    from run_experiment.results.analysis.scores import Score

# Of the headline metric; the interval's ends are NaN if it has none, and the method says why.
_INTERVAL = ("metric", "better", "n", "n_scored", "ci_low", "ci_high", "ci_method")


def evals_table(records: Records, analysis: Analysis | None) -> pd.DataFrame:
    """One row an evaluation that was made: run, its parameters, task, epoch, every metric, samples, job.

    `samples` is how many of `total_samples` were computed without an error, `unscored` by scorer how many of all have
    no value and are in no metric.
    `backend` is what computed the model; the column `versions` has the versions of torchtune and inspect-ai that made
    it, if they are not today's.
    The last columns are of the metric that stands for the task: samples that were scored, and a 95 % interval.
    """
    parameters = _parameter_names(records.experiment)
    trainings, evaluations = records.trainings(), records.evaluations()
    scripts = [script for script in _job_scripts(records.experiment) if script.is_file()]
    elsewhere = any(script_facts(script, records.experiment.folder).may_activate for script in scripts)
    today = todays_versions([*trainings.values(), *evaluations.values()], elsewhere)
    scores = {score.subject: score for score in analysis.scores} if analysis else {}
    rows = [
        _row(item, record, parameters)
        | {"versions": other_versions(record, trainings.get(item.run.name), today)}
        | _interval(scores.get(item.subject))
        for item in records.experiment.evaluations
        if (record := evaluations.get(item.subject))
    ]
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    columns = ["run", "label", "type", "model", *parameters, "task", "epoch", "backend"]
    columns += [*metrics, "samples", "total_samples", "unscored", "job_id", "seconds", "ended", "versions", *_INTERVAL]
    # As objects: a column with a gap would turn rank 8 into 8.0.
    return pd.DataFrame([{**row, **row["metrics"]} for row in rows], columns=columns, dtype=object)


def comparisons_csv(analysis: Analysis | None) -> str:
    """The table of comparisons, a row an evaluation that has a reference; empty without an analysis."""
    if analysis is None:
        return ""
    rows = [asdict(one) for one in analysis.comparisons]
    return pd.DataFrame(rows, columns=analysis.comparison_columns, dtype=object).to_csv(index=False)


def _interval(score: Score | None) -> dict[str, Any]:
    if score is None:
        return {}
    values = (score.metric, score.better, score.n, score.n_scored, score.low, score.high, score.method)
    return dict(zip(_INTERVAL, values, strict=True))


def _job_scripts(experiment: Experiment) -> Iterator[Path]:
    """Job scripts of all trainings and evaluations, rendered or another tool's."""
    folder = experiment.folder
    yield from (folder / paths.finetune_script(run.name) for run in experiment.fine_tuned)
    for item in experiment.evaluations:
        of_cell = cell_files(folder, item.run.name, item.task.name, item.epoch)
        yield folder / (of_cell[0] if of_cell else paths.eval_script(item.run.name, item.cell))


def _row(evaluation: Evaluation, record: EvaluationRecord, parameters: Sequence[str]) -> dict[str, Any]:
    run = evaluation.run
    return {
        "run": run.name,
        "label": evaluation.label,
        "type": run.type,
        "model": run.model.name,
        **{name: _parameter(run, name) for name in parameters},
        "task": evaluation.task.name,
        "epoch": evaluation.epoch,
        "backend": record.backend,
        "metrics": dict(record.metrics),
        "samples": record.samples,
        "total_samples": record.total,
        "unscored": _unscored(record),
        "job_id": record.job_id,
        "seconds": record.seconds,
        "ended": record.ended,
    }


def _unscored(record: EvaluationRecord) -> str:
    """Samples without a value, errors included, by scorer: `match: 1`; empty if all have one, or if it is not known."""
    missing = {name: (record.total or 0) - count for name, count in record.scored.items()}
    return "; ".join(f"{name}: {count}" for name, count in missing.items() if count > 0)


def _parameter_names(experiment: Experiment) -> list[str]:
    """What varies: the summary's variables, then what single runs set."""
    own = [name for run in experiment.runs for name in run.parameters if name != "checkpoint_path"]
    return list(dict.fromkeys([*experiment.variables, *own]))


def _parameter(run: Run, name: str) -> Any:
    """A parameter that a run sets, or trains with; None if it has none."""
    if name in run.parameters:
        return run.parameters[name]
    if run.training is None:
        return None
    return {**vars(run.training.prompting), **run.training.hyperparameters.used()}.get(name)
