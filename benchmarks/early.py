"""Early evaluation on the test cluster: how long the workflow takes with it, and if evaluations wait for trainings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cluster import GPUS, BenchmarkError, StampedLines, run_workflow
from sleeping_experiment import Work, make_sleeping
from tables import Figure

from run_experiment.slurm.ledger import PATH as LEDGER

# Seconds of a training and of an evaluation.
TRAINING, EVALUATION = 60, 6
WORK = Work([TRAINING] * 4, EVALUATION, epochs=4, tasks=("shout", "cry", "sing", "talk"))
# No order of jobs is done sooner: from the end of the first epochs on, GPUs without a training evaluate, and all of
# them once the trainings have ended.
EVALUATED = EVALUATION * len(WORK.cells) * len(WORK.runs)
MEANWHILE = (GPUS - len(WORK.runs)) * (TRAINING - TRAINING / WORK.epochs)
BOUND = TRAINING + (EVALUATED - MEANWHILE) / GPUS

# Goal.
MAKESPAN = 1.2


def early_figures(folder: Path) -> list[Figure]:
    """Run the experiment with early evaluation and without. Raises BenchmarkError if not every job was done, once."""
    early, late = (_makespan_of(folder / value, value) for value in ("true", "false"))
    return [
        Figure("makespan with early evaluation", early, "s"),
        Figure(f"makespan over its bound of {BOUND:g} s", early / BOUND, goal=MAKESPAN),
        Figure("makespan if evaluations wait for trainings", late, "s"),
    ]


def makespan(ledger: Iterable[tuple[float, str]], jobs: int) -> float:
    """Seconds from the first submission to the last end noticed, of a ledger's lines with their times."""
    moments: dict[str, list[float]] = {"intended": [], "settled": []}
    for moment, line in ledger:
        if (event := json.loads(line)["event"]) in moments:
            moments[event].append(moment)
    if not len(moments["intended"]) == len(moments["settled"]) == jobs:
        counts = {event: len(found) for event, found in moments.items()}
        raise BenchmarkError(f"{counts['intended']} jobs were submitted and {counts['settled']} noticed, not {jobs}")
    return max(moments["settled"]) - min(moments["intended"])


def _makespan_of(folder: Path, early: str) -> float:
    experiment, log = make_sleeping(folder, WORK), folder / "snakemake.log"
    ledger = StampedLines(experiment.path / LEDGER)
    ledger.start()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    status = run_workflow(experiment.path, log, environment, f"early_evaluation={early}")
    lines = ledger.stop()
    if status:
        raise BenchmarkError("\n".join(log.read_text().splitlines()[-40:]))
    return makespan(lines, len(WORK.records))
