"""Everything that the page shows, as one JSON object: its tables and figures are made from this alone."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common import paths
from run_experiment.common.clock import stamp
from run_experiment.common.errors import InputError
from run_experiment.common.text import counted
from run_experiment.experiment.model import Experiment, Run
from run_experiment.experiment.records import JobRecord, TrainingRecord
from run_experiment.planning.results_state import Records
from run_experiment.report.checks.checks import checks
from run_experiment.report.evaluations import evaluations
from run_experiment.report.jobs import JobRow, job_rows, requests, totals
from run_experiment.report.samples import Logs, shown_samples
from run_experiment.report.values import cut, finite
from run_experiment.results.analysis.analyse import Analysis
from run_experiment.results.analysis.losses import losses_of
from run_experiment.results.versions import number_of_attempts, shared_and_differing, training_note
from run_experiment.status.items import State, Status
from run_experiment.summary.read import read_summary

# Points of a training's loss curve that are kept.
_CURVE = 80
# Of each kind of warning.
_MOST_WARNINGS = 10
_LIVE = (State.RUNNING, State.PENDING)


def report_data(records: Records, status: Status, analysis: Analysis) -> dict[str, Any]:
    """The whole object."""
    experiment = records.experiment
    jobs, trainings, varied = shown_jobs(records), records.trainings(), parameters(experiment)
    problems, logs = list(_problems(status)), Logs(records)
    curves = [curve for run in experiment.fine_tuned if (curve := _curve(records, run))]
    return {
        "format": 1,
        "experiment": _experiment(experiment, status),
        "done": len(records.evaluations()),
        "trained": len(trainings),
        "undone": ", ".join(f"{count} {state}" for state, count in Counter(one["state"] for one in problems).items()),
        "problems": problems,
        "warnings": _warnings(records, status, analysis),
        "parameters": varied,
        "runs": [_run(run, trainings.get(run.name), varied["differing"]) for run in experiment.runs],
        "curves": curves,
        "jobs": [_job(row) for row in jobs],
        "compute": {**totals(jobs), "requests": requests(jobs), **_used(totals(jobs))},
        "provenance": _provenance(records),
        **evaluations(records, analysis),
        "samples": shown_samples(logs, analysis),
        "sanity": checks(records, logs, analysis, curves),
        "notes": _notes(records, analysis),
    }


def _warnings(records: Records, status: Status, analysis: Analysis) -> list[str]:
    """What a reader has to know before the numbers."""
    marks = {subject: changes for subject, record in records.trainings().items() if (changes := record.changes)}
    smaller = [f"{run} was trained with {_pairs(changes)}, as memory allowed" for run, changes in marks.items()]
    unread = [f"The samples of {subject} could not be read: {why}" for subject, why in analysis.unreadable.items()]
    warned = _warned_before(records.experiment.folder / paths.SUMMARY)
    return [*warned, *smaller, *analysis.several_backends(), *unread[:_MOST_WARNINGS], *status.notes]


def _warned_before(summary: Path) -> list[str]:
    """What a session warns of before it begins, such as rows that are trained on and evaluated.

    Nothing if it would refuse the summary by now, as where a file of a model was removed.
    """
    try:
        _, warnings = read_summary(summary)
    except InputError:
        return []
    return [cut(one.render(paths.SUMMARY)) for one in warnings[:_MOST_WARNINGS]]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _used(found: Mapping[str, Any]) -> dict[str, str]:
    """Time on GPUs, or without them on this machine: the sum, and a sentence on what is in the results or was lost."""
    by, unknown = found["by_outcome"], found["without_gpu_figures"]
    column, unit = ("gpu_hours", "GPU-") if any(row["gpu_hours"] for row in by.values()) else ("hours", "")
    total = sum(row[column] for row in by.values())
    factor, unit = (1, f"{unit}hours") if total >= 1 else (60, f"{unit}minutes")
    parts = [
        f"{row[column] * factor:.1f} in {counted(int(row['jobs']), 'job')} {outcome}" for outcome, row in by.items()
    ]
    rest = f" Of {counted(int(unknown), 'job')} the GPUs are not known." if unknown else ""
    whole = f"{total * factor:.1f} {unit}"
    return {
        "sum": whole if unit.startswith("GPU") else f"{whole} of jobs",
        "sentence": f"{whole} in all: {'; '.join(parts)}.{rest}",
    }


def _notes(records: Records, analysis: Analysis) -> dict[str, str]:
    """What a reader has to know of the numbers in a section."""
    tests = sum(one.p is not None for one in analysis.comparisons)
    folder = shlex.quote(str(records.experiment.folder))
    return {
        "scores": "The best result comes first. n counts samples with a score; Interval by names how the 95 % interval "
        "was computed.",
        "comparisons": f"Each result against its reference, on the samples that both have. {counted(tests, 'p-value')}"
        ", corrected together (Holm); blue: corrected p below 0.05.",
        "samples": "Two results side by side. There are more of those samples in which the best result and the next "
        "one differ than of others; of scores that are not right or wrong, the worst of the best result come first. "
        f"All samples: run-experiment view {folder}",
    }


def _experiment(experiment: Experiment, status: Status) -> dict[str, Any]:
    owner = status.owner
    return {
        "name": experiment.name,
        "question": experiment.question,
        "date": experiment.date,
        "folder": str(experiment.folder),
        "made": stamp(status.time),
        "host": owner.host if owner else None,
        "evaluations": len(experiment.evaluations),
        "trainings": len(experiment.fine_tuned),
        "command": f"snakemake --profile profiles/… --config experiment_dir={shlex.quote(str(experiment.folder))}",
    }


def _problems(status: Status) -> Iterator[dict[str, Any]]:
    """What is not done, with the reason; the worst first."""
    order = [State.FAILED, State.CANCELLED, State.STALE, State.MISSING, State.RUNNING, State.PENDING]
    for item in sorted(status.missing, key=lambda item: order.index(item.state)):
        yield {
            "subject": item.subject,
            "kind": item.kind,
            "state": str(item.state),
            "reason": cut(item.reason),
            "job_id": item.job_id,
            "since": stamp(item.since) if item.since else None,
            "read_on": item.read_on,
            "live": item.state in _LIVE,
        }


def parameters(experiment: Experiment) -> dict[str, Any]:
    """Names of the parameters that differ between runs, and the values of those that are the same in all."""
    of_runs = {run.name: all_parameters(run) for run in experiment.runs if run.training}
    values = {name: [known.get(name) for known in of_runs.values()] for known in of_runs.values() for name in known}
    varied = {name for name, found in values.items() if any(value != found[0] for value in found)}
    # What follows from another one, such as lora_alpha from lora_rank, is no variable of the experiment.
    chosen = dict.fromkeys([*experiment.variables, *(name for run in experiment.runs for name in run.parameters)])
    same = {name: cut(found[0]) for name, found in values.items() if name not in varied and found[0] is not None}
    return {"differing": [name for name in chosen if name in varied], "same": same}


def all_parameters(run: Run) -> dict[str, Any]:
    """What a run trains with; what a run that is not trained sets."""
    if run.training is None:
        return dict(run.parameters)
    return {**run.training.hyperparameters.used(), **vars(run.training.prompting), **run.parameters}


def _run(run: Run, record: TrainingRecord | None, differing: Sequence[str]) -> dict[str, Any]:
    known = all_parameters(run)
    losses = {name: finite(value) for name, value in (record.losses if record else {}).items()}
    return {
        "run": run.name,
        "type": run.type,
        "model": run.model.name,
        "parameters": {name: cut(known.get(name)) for name in differing},
        "trained": record is not None,
        "seconds": record.total_seconds if record else None,
        "losses": losses,
        "note": training_note(record) if record else "",
        "attempts": number_of_attempts(record) if record else 0,
        "changes": dict(record.changes) if record else {},
    }


def _curve(records: Records, run: Run) -> dict[str, Any] | None:
    """The losses of a training by step, thinned out; None if there are none."""
    if (found := losses_of(records, run)) is None:
        return None
    return {
        "run": run.name,
        "train": [[step, finite(loss)] for step, loss in _thinned(found.train)],
        "validation": [[epoch, step, finite(loss)] for epoch, step, loss in found.validation],
    }


def _thinned(points: Sequence[Any]) -> list[Any]:
    """At most `_CURVE` of the points, the last one among them."""
    stride = max(1, math.ceil(len(points) / _CURVE))
    return list(points[::-1][::stride][::-1])


def shown_jobs(records: Records) -> list[JobRow]:
    """All jobs of this experiment, with what became of each."""
    made: dict[str, JobRecord] = {**records.trainings(), **records.evaluations()}
    # Ids of jobs of other experiments may be those of jobs of this one, too.
    by = {subject: None if record.taken_from else record.job_id for subject, record in made.items()}
    gpus = {item.subject: item.compute.gpus for item in records.experiment.evaluations if item.compute}
    gpus |= {run.name: run.compute.gpus for run in records.experiment.runs if run.compute}
    for subject, record in made.items():
        found = record.provenance.get("gpus")
        # Without nvidia-smi on a cluster's node, a job may have had GPUs all the same.
        if isinstance(found, list) and (found or str(record.job_id).startswith("local-")):
            gpus[subject] = len(found)
    log = read_action_logs(records.experiment.folder)
    return job_rows(log, by, {subject: count for subject, count in gpus.items() if count is not None})


def _job(row: JobRow) -> dict[str, Any]:
    values = {**asdict(row), "seconds": row.seconds, "gpu_hours": row.gpu_hours}
    texts = {name: value.isoformat(" ", "seconds") for name, value in values.items() if isinstance(value, datetime)}
    shown = {**values, **texts}
    return {name: finite(value) for name, value in shown.items() if value is not None}


def _provenance(records: Records) -> dict[str, Any]:
    shared, differing = shared_and_differing(records.trainings(), records.evaluations())
    files = (paths.EVALS_TABLE, paths.SUMMARY_PAGE, "results/provenance.json", "results/comparisons.csv")
    there = [Path(name).name for name in files if (records.experiment.folder / name).is_file()]
    return {"shared": shared, "differing": differing, "files": there}
