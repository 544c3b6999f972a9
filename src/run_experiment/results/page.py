"""Results of an experiment: the table of evaluations and the page that summarises them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from run_experiment.common import paths
from run_experiment.common.json_files import write_atomically
from run_experiment.common.text import harmless
from run_experiment.planning.results_state import Records, results_identity
from run_experiment.results.markdown import inert, markdown_table
from run_experiment.results.tables import comparisons_csv, evals_table
from run_experiment.results.task_results import answer_part, notes, task_part
from run_experiment.results.versions import provenance_file, shared_and_differing, training_note, versions_note

if TYPE_CHECKING:
    from run_experiment.results.analysis.analyse import Analysis

PROVENANCE = "results/provenance.json"


def write_results(records: Records) -> None:
    """Write `results/`: the tables, the page, and what all was made with; also if some records are missing."""
    folder, analysis = records.experiment.folder, _analysis(records)
    table = evals_table(records, analysis)
    provenance = provenance_file(records.trainings(), records.evaluations())
    write_atomically(folder / PROVENANCE, json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / paths.EVALS_TABLE, table.to_csv(index=False))
    write_atomically(folder / paths.COMPARISONS_TABLE, comparisons_csv(analysis))
    write_atomically(folder / paths.SUMMARY_PAGE, harmless(summary_page(records, analysis, table)))


def _analysis(records: Records) -> Analysis | None:
    """The analysis of the scores; None if it fails, which must not cost the other results."""
    try:
        # Here, since scipy takes a while.
        from run_experiment.results.analysis.analyse import analyse

        return analyse(records)
    except Exception as error:
        print(f"The scores could not be analysed: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def summary_page(records: Records, analysis: Analysis | None, table: pd.DataFrame) -> str:
    """The page: the question and its answer, scores by run and epoch, losses, what made it all, what is missing."""
    experiment = records.experiment
    parts = [
        f"# {experiment.name}",
        experiment.question,
        *answer_part(analysis),
        *_evaluations_part(records, analysis, table),
        *_training_part(records),
        *_provenance_part(records),
        *_missing_part(records),
        f"<!-- experiment {results_identity(records)} -->",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _evaluations_part(records: Records, analysis: Analysis | None, table: pd.DataFrame) -> list[str]:
    experiment = records.experiment
    parts = ["## Evaluations", f"{len(table)} of {len(experiment.evaluations)} evaluations are done."]
    if analysis is None:
        parts.append(f"Their scores could not be analysed; they are in `{Path(paths.EVALS_TABLE).name}`.")
    else:
        for task in experiment.tasks:
            parts += task_part(analysis, task.name)
        parts += notes(analysis)
    return [*parts, versions_note(list(table["versions"]))]


def _training_part(records: Records) -> list[str]:
    lines = []
    for run in records.experiment.fine_tuned:
        if record := records.training(run):
            both = [_loss(record.losses, name) for name in ("train_loss", "validation_loss")]
            time = "" if record.total_seconds is None else f"{record.total_seconds:.0f} s"
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
    lines = [f"- `{subject}`: {inert(why)}" for subject, why in records.missing()]
    return ["## Missing", "\n".join(lines)] if lines else []
