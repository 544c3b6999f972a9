"""The records that the results are made from, and whether the summary page is up to date with them."""

from __future__ import annotations

import re

from run_experiment.common import paths
from run_experiment.common.json_files import config_hash
from run_experiment.experiment.model import Evaluation, Experiment, Run
from run_experiment.experiment.records import EvaluationRecord, TrainingRecord
from run_experiment.planning.plan import Plan

_MARKER = re.compile(r"<!-- experiment (\w+) -->")


class Records:
    """The fresh records: a stale one is not a result of today's experiment."""

    def __init__(self, plan: Plan) -> None:
        self.experiment = plan.experiment
        self.plan = plan

    def training(self, run: Run) -> TrainingRecord | None:
        """Record of a run's training; None if it is stale or missing."""
        wanted = self.plan[paths.finetune_record(run.name)].wanted
        return None if wanted else self.plan.snapshot.training(run.name)

    def evaluation(self, evaluation: Evaluation) -> EvaluationRecord | None:
        """Record of an evaluation; None if it is stale or missing."""
        run, cell = evaluation.run.name, evaluation.cell
        return None if self.plan[paths.eval_record(run, cell)].wanted else self.plan.snapshot.evaluation(run, cell)

    def trainings(self) -> dict[str, TrainingRecord]:
        """Records of all trainings, by their run."""
        return {run.name: record for run in self.experiment.fine_tuned if (record := self.training(run))}

    def evaluations(self) -> dict[str, EvaluationRecord]:
        """Records of all evaluations, by their subject."""
        return {item.subject: record for item in self.experiment.evaluations if (record := self.evaluation(item))}

    def missing(self) -> list[tuple[str, str]]:
        """Runs and evaluations that have to be made, each with the reason."""
        targets = [(run.name, self.plan[paths.finetune_record(run.name)]) for run in self.experiment.fine_tuned]
        targets += [
            (item.subject, self.plan[paths.eval_record(item.run.name, item.cell)])
            for item in self.experiment.evaluations
        ]
        return [(subject, target.why) for subject, target in targets if target.wanted]


def results_outdated(plan: Plan) -> bool:
    """Whether the summary page shows other runs, parameters, evaluations, results or another question than today's."""
    try:
        found = _MARKER.search((plan.experiment.folder / paths.SUMMARY_PAGE).read_text(encoding="utf-8"))
    except OSError:
        return False
    # The user has replaced it with something else.
    except UnicodeDecodeError:
        return True
    return not found or found[1] != results_identity(Records(plan))


def results_identity(records: Records) -> str:
    """Short hash of everything that the summary page is made from."""
    experiment = records.experiment
    made = [*map(records.training, experiment.fine_tuned), *map(records.evaluation, experiment.evaluations)]
    return config_hash(
        {
            "name": experiment.name,
            "question": experiment.question,
            "runs": {run.name: [run.type, run.model.name, run.parameters] for run in experiment.runs},
            "variables": list(experiment.variables),
            "evaluations": {item.subject: item.label for item in experiment.evaluations},
            "shown": _shown(experiment),
            "made": [record and [record.job_id, record.ended] for record in made],
        }
    )[:16]


def _shown(experiment: Experiment) -> list[object]:
    """What the summary says of the results alone."""
    tasks = [[task.name, task.metric and task.metric.model_dump(), task.cluster] for task in experiment.tasks]
    return [tasks, experiment.reference, experiment.select_on]
