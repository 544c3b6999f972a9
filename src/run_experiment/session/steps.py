"""The steps between training and evaluation, as a session goes through them: how far each run and data set is."""

from __future__ import annotations

from collections.abc import Callable

from run_experiment.actionlog.entry import Entry, Log
from run_experiment.common import paths
from run_experiment.common.json_files import read_record
from run_experiment.session.entries import steps as step_entries
from run_experiment.session.jobs import FollowedJob
from run_experiment.session.plan import SessionCheckpoint, SessionJob, SessionPlan
from run_experiment.slurm.states import is_live

Write = Callable[[Log, Entry], bool]


class Steps:
    """What became of the session's checkpoints and caches; `failed` are those that cannot be used."""

    def __init__(self, plan: SessionPlan, write: Write) -> None:
        self._plan = plan
        self._write = write
        self.failed: set[str] = set()
        self._made: set[str] = set()
        self._runs: set[str] = set()
        # Why trainings failed, of runs whose missing checkpoints are not logged yet.
        self._untrained: dict[str, str] = {}
        self._caches = [path for path in plan.caches if path in plan.wanted]
        self._caching = False

    def started(self, target: str) -> None:
        """A step begins."""
        if target in self._plan.checkpoints:
            self._verify_earlier_training(self._plan.checkpoints[target].run)
        if target in self._caches and not self._caching:
            self._caching = True
            self._write(Log.INSPECT, step_entries.prebuild_started(len(self._caches), self._cached_before))

    def ended(self, target: str, succeeded: bool) -> None:
        """A step made what it was to make, or failed."""
        (self._made if succeeded else self.failed).add(target)
        if not succeeded:
            self._miss_trainings(target)
        if target in self._plan.epochs:
            self._see_what_is_missing(paths.run_of_epoch(target))
        if target in self._plan.checkpoints:
            self._see_whether_verified(self._plan.checkpoints[target].run)
        if target in self._caches and all(path in {*self._made, *self.failed} for path in self._caches):
            ready = sum(path in self._made for path in self._caches)
            entry = step_entries.prebuild_ended(len(self._caches), self._cached_before, ready)
            self._write(Log.INSPECT, entry)

    def training_ended(self, followed: FollowedJob, attached: bool) -> None:
        """Log how a run's training ended, before its checkpoints are looked at or instead of that."""
        run, job_id, finished = followed.job.run, followed.job_id, followed.finished
        if not attached:
            details = f"Job {job_id} via its exit status"
        elif followed.accounted is None or is_live(followed.accounted.state):
            details = f"Job {job_id} via its record, before sacct shows its end"
        else:
            details = f"Job {job_id} via sacct"
        self._verified(run, details, followed.verdict)
        if finished and not finished.succeeded:
            self._miss(run, f"job {job_id}: {followed.failure(None)}".partition("\n")[0])

    def training_missing(self, job: SessionJob, reason: str) -> None:
        """A run's training was not submitted."""
        if job.log is Log.TORCHTUNE:
            self._verified(job.run, "No job: it was not submitted", f"failed: {reason}")
            self._miss(job.run, f"it was not submitted: {reason}")

    def _miss_trainings(self, failed: str) -> None:
        """Log that the trainings which need a failed step are not submitted."""
        for path, needs in self._plan.needs.items():
            if failed in needs and path in self._plan.jobs:
                self.training_missing(self._plan.jobs[path], "its model failed the check")

    @property
    def _cached_before(self) -> int:
        return len(self._plan.caches) - len(self._caches)

    def _verify_earlier_training(self, run: str) -> None:
        """Log how a training ended that this session did not follow."""
        target = paths.finetune_record(run)
        # One of this session may still be training later epochs.
        if run in self._runs or target not in self._plan.jobs or target in self._plan.wanted:
            return
        record = read_record(self._plan.folder / target) or {}
        self._verified(run, f"Job {record.get('job_id')} via its record of {record.get('ended')}", "COMPLETED")

    def _verified(self, run: str, details: str, result: str) -> None:
        # Without a checkpoint to look at nothing has to be known of it.
        if run not in self._runs and self._checkpoints(run):
            self._runs.add(run)
            self._write(Log.INSPECT, step_entries.finetuning_verified(run, details, result))

    def _checkpoints(self, run: str) -> list[SessionCheckpoint]:
        """The checkpoints of a run that this session looks at."""
        return [one for one in self._plan.checkpoints.values() if one.run == run and one.target in self._plan.wanted]

    def _miss(self, run: str, why: str) -> None:
        """Log the checkpoints that a failed training leaves missing, once it is known which ones are whole."""
        self._untrained[run] = why
        self._see_what_is_missing(run)

    def _see_what_is_missing(self, run: str) -> None:
        checkpoints = self._checkpoints(run)
        epochs = {one.target: self._plan.epochs.intersection(self._plan.needs[one.target]) for one in checkpoints}
        awaited = {epoch for found in epochs.values() for epoch in found}
        lost = awaited & (self.failed | self._plan.blocked_by(self.failed))
        if run not in self._untrained or not (lost or awaited <= self._made):
            return
        why = self._untrained.pop(run)
        for one in checkpoints:
            if epochs[one.target] and epochs[one.target] <= self._made:
                continue
            self._write(Log.INSPECT, step_entries.checkpoint_of_failed(run, one.name, one.folder, why))

    def _see_whether_verified(self, run: str) -> None:
        checkpoints = self._checkpoints(run)
        if all(one.target in {*self._made, *self.failed} for one in checkpoints):
            missing = [one.name for one in checkpoints if one.target in self.failed]
            entry = step_entries.checkpoints_verified(run, [one.name for one in checkpoints], missing)
            self._write(Log.INSPECT, entry)
