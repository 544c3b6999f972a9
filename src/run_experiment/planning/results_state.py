"""What the results are of: the records that are today's, and whether the page tells of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from run_experiment.attempts.history import History
from run_experiment.common import paths
from run_experiment.common.clock import moment_of
from run_experiment.common.json_files import config_hash, read_record
from run_experiment.experiment.model import Evaluation, Experiment, Run
from run_experiment.planning.target import Target

_MARKER = re.compile(r"<!-- experiment (\w+) -->")


class Records:
    """The records that are today's: a stale one is of another experiment, and no result of this one."""

    def __init__(self, experiment: Experiment, targets: Mapping[str, Target]) -> None:
        self.experiment = experiment
        self._targets = targets
        self._attempts = History(experiment.folder)

    def training(self, run: Run) -> dict[str, Any] | None:
        """Record of a run's training."""
        return self._fresh(paths.finetune_record(run.name))

    def evaluation(self, evaluation: Evaluation) -> dict[str, Any] | None:
        """Record of an evaluation."""
        return self._fresh(paths.eval_record(evaluation.run.name, evaluation.cell))

    def trainings(self) -> dict[str, dict[str, Any]]:
        """Records of all trainings, by their run."""
        return {run.name: record for run in self.experiment.fine_tuned if (record := self.training(run))}

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Records of all evaluations, by their subject."""
        return {item.subject: record for item in self.experiment.evaluations if (record := self.evaluation(item))}

    def missing(self) -> list[tuple[str, str]]:
        """Runs and evaluations without a record, each with the reason."""
        missing = [
            (run.name, self._why(paths.finetune_record(run.name)))
            for run in self.experiment.fine_tuned
            if self.training(run) is None
        ]
        missing += [
            (item.subject, self._why(paths.eval_record(item.run.name, item.cell)))
            for item in self.experiment.evaluations
            if self.evaluation(item) is None
        ]
        return missing

    def _fresh(self, path: str) -> dict[str, Any] | None:
        return None if self._targets[path].wanted else read_record(self.experiment.folder / path)

    def _why(self, path: str) -> str:
        """How the last attempt failed, unless the target was made after it: then it is only outdated."""
        left = self._attempts.newest(path)
        made = moment_of((read_record(self.experiment.folder / path) or {}).get("ended"))
        if left is None or (made and (left.moment is None or made >= left.moment)):
            return "not done"
        return left.text


def results_outdated(experiment: Experiment, targets: Mapping[str, Target]) -> bool:
    """Whether the summary page tells something else: other runs, parameters, evaluations, results or question."""
    try:
        found = _MARKER.search((experiment.folder / paths.SUMMARY_PAGE).read_text(encoding="utf-8"))
    except OSError:
        return False
    # It is not ours any more.
    except UnicodeDecodeError:
        return True
    return not found or found[1] != results_identity(Records(experiment, targets))


def results_identity(records: Records) -> str:
    """Short hash of what the results tell."""
    experiment = records.experiment
    made = [*map(records.training, experiment.fine_tuned), *map(records.evaluation, experiment.evaluations)]
    return config_hash(
        {
            "name": experiment.name,
            "question": experiment.question,
            "runs": {run.name: [run.type, run.model.name, run.parameters] for run in experiment.runs},
            "variables": list(experiment.variables),
            "evaluations": {item.subject: item.label for item in experiment.evaluations},
            "made": [record and [record.get("job_id"), record.get("ended")] for record in made],
        }
    )[:16]
