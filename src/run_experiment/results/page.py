"""Results of an experiment: the table of evaluations and the page that summarises them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from run_experiment.common import paths
from run_experiment.common.json_files import write_atomically
from run_experiment.experiment.model import Evaluation, Experiment, Run
from run_experiment.experiment.records import EvaluationRecord
from run_experiment.jobscripts.environment import may_activate
from run_experiment.jobscripts.foreign import cell_files
from run_experiment.planning.results_state import Records, results_identity
from run_experiment.results.markdown import markdown_table
from run_experiment.results.task_results import task_part
from run_experiment.results.versions import (
    other_versions,
    provenance_file,
    shared_and_differing,
    todays_versions,
    training_note,
    versions_note,
)

PROVENANCE = "results/provenance.json"


def write_results(records: Records) -> None:
    """Write `results/`: the table, the page, and what all was made with; also if some records are missing."""
    experiment, table = records.experiment, evals_table(records)
    provenance = provenance_file(records.trainings(), records.evaluations())
    write_atomically(experiment.folder / PROVENANCE, json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")
    write_atomically(experiment.folder / paths.EVALS_TABLE, table.to_csv(index=False))
    write_atomically(experiment.folder / paths.SUMMARY_PAGE, summary_page(records, table))


def evals_table(records: Records) -> pd.DataFrame:
    """One row an evaluation that was made: run, its parameters, task, epoch, every metric, samples, job.

    `samples` is how many of `total_samples` were computed without an error, `unscored` by scorer how many of all have
    no value and are in no metric.
    The column `versions` has the versions of torchtune and inspect-ai that made it, if they are not today's.
    """
    parameters = _parameter_names(records.experiment)
    trainings, evaluations = records.trainings(), records.evaluations()
    elsewhere = any(map(may_activate, _job_scripts(records.experiment)))
    today = todays_versions([*trainings.values(), *evaluations.values()], elsewhere)
    rows = [
        _row(item, record, parameters) | {"versions": other_versions(record, trainings.get(item.run.name), today)}
        for item in records.experiment.evaluations
        if (record := evaluations.get(item.subject))
    ]
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    columns = ["run", "label", "type", "model", *parameters, "task", "epoch"]
    columns += [*metrics, "samples", "total_samples", "unscored", "job_id", "seconds", "ended", "versions"]
    # As objects: a column with a gap would turn rank 8 into 8.0.
    return pd.DataFrame([{**row, **row["metrics"]} for row in rows], columns=columns, dtype=object)


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
    return {**vars(run.training.prompting), **run.training.hyperparameters.model_dump()}.get(name)


def summary_page(records: Records, table: pd.DataFrame) -> str:
    """The page: the question, accuracy by run and epoch, the best run, losses, what made it all, what is missing."""
    experiment = records.experiment
    parts = [
        f"# {experiment.name}",
        experiment.question,
        *_evaluations_part(records, table),
        *_training_part(records),
        *_provenance_part(records),
        *_missing_part(records),
        f"<!-- experiment {results_identity(records)} -->",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _evaluations_part(records: Records, table: pd.DataFrame) -> list[str]:
    experiment = records.experiment
    total = len(experiment.evaluations)
    parts = ["## Evaluations", f"{len(table)} of {total} evaluations are done."]
    for task in experiment.tasks:
        parts += task_part(records, task)
    return [*parts, versions_note(list(table["versions"]))]


def _training_part(records: Records) -> list[str]:
    lines = []
    for run in records.experiment.fine_tuned:
        if record := records.training(run):
            both = [_loss(record.losses, name) for name in ("train_loss", "validation_loss")]
            time = "" if record.seconds is None else f"{record.seconds:.0f} s"
            lines.append([run.name, *both, time, training_note(record)])
    if not lines:
        return []
    header = ["run", "final train loss", "final validation loss", "time", "note"]
    shown = len(header) if any(line[-1] for line in lines) else len(header) - 1
    return ["## Training", markdown_table(header[:shown], [line[:shown] for line in lines])]


def _loss(losses: Mapping[str, float | None], name: str) -> str:
    value = losses.get(name)
    return "" if value is None else f"{value:.4f}"


def _provenance_part(records: Records) -> list[str]:
    """What all results were made with in a line, and a table of what differs."""
    shared, differing = shared_and_differing(records.trainings(), records.evaluations())
    parts = [f"Made with {', '.join(shared)}."] if shared else []
    parts += [markdown_table(["what differs", "made with", "results"], differing)] if differing else []
    return ["## Provenance", *parts] if parts else []


def _missing_part(records: Records) -> list[str]:
    """What is to be made, each with the reason."""
    lines = [f"- `{subject}`: {why}" for subject, why in records.missing()]
    return ["## Missing", "\n".join(lines)] if lines else []
