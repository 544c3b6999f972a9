"""Reads the state of an experiment from its folder and one query to SLURM, while it runs or long after.

The plan decides what is fresh. Nothing is written into the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.attempts.files import BEGUN
from run_experiment.checkpoints.identities import CHECKPOINT
from run_experiment.common import paths
from run_experiment.common.clock import now
from run_experiment.common.json_files import config_hash
from run_experiment.estimate.cost import Estimate, Job, judge_of
from run_experiment.estimate.seconds import Seconds
from run_experiment.estimate.sizes import training_size
from run_experiment.experiment.model import Evaluation, Run
from run_experiment.experiment.records import JobRecord
from run_experiment.experiment.settings import Settings
from run_experiment.inputs.file_hashes import HashMemory
from run_experiment.planning.build import make_plan
from run_experiment.planning.plan import Plan
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.target import State as Freshness
from run_experiment.planning.target import Target
from run_experiment.status.items import EVALUATION, TRAINING, VERIFICATION, Item, RunStatus, State, Status
from run_experiment.status.jobs import Evidence, Jobs
from run_experiment.status.progress import Progress, evaluation_progress, training_progress
from run_experiment.status.sources import full_queue
from run_experiment.summary.read import read_experiment

# By how much the time that is left may differ from what the last steps or samples took.
_WIDER = 1.25


def read_status(folder: Path, memory: HashMemory) -> Status:
    """The state of the experiment in `folder` (absolute). Raises InputError, and OSError if files vanish meanwhile."""
    experiment = read_experiment(folder / paths.SUMMARY)
    snapshot = Snapshot(folder)
    # Before the records are read, so that a job that ends in between has its record.
    jobs = Jobs(snapshot)
    plan = make_plan(experiment, Settings(experiment_dir=folder), memory, snapshot)
    status = status_of(plan, jobs)
    return replace(status, left=_left(plan, status))


def status_of(plan: Plan, jobs: Jobs) -> Status:
    """The state of a plan's experiment, with what is known of its jobs."""
    reader, seen = _Reader(plan, jobs), plan.snapshot.sighting
    return Status(
        experiment=plan.experiment.name,
        folder=plan.experiment.folder,
        time=now(),
        owner=seen.owner,
        followed=seen.at_work,
        asked=jobs.answer.source,
        notes=tuple(filter(None, [jobs.answer.note, full_queue(plan.experiment.folder) if seen.at_work else None])),
        runs=tuple(reader.run(run) for run in plan.experiment.runs),
    )


def _left(plan: Plan, status: Status) -> Estimate:
    """What is still to be computed."""
    wanted = {target.path for target in plan.targets.values() if target.wanted}
    if not wanted:
        return Estimate([])
    items = {item.subject: item for run in status.runs for item in (run.training, *run.evaluations)}
    whole = judge_of(plan).estimate(wanted)
    return Estimate([_rest(job, items[job.subject], status.time) for job in whole.jobs])


def _rest(job: Job, item: Item, moment: datetime) -> Job:
    """A job with the time that it still takes."""
    if item.state is not State.RUNNING:
        return job
    left = item.progress.seconds_left if item.progress else None
    if left is not None:
        return replace(job, seconds=Seconds(left, left / _WIDER, left * _WIDER))
    elapsed = (moment - item.since).total_seconds() if item.since else 0
    return replace(job, seconds=job.seconds and job.seconds.after(elapsed))


class _Reader:
    """Joins the plan with what is known of the jobs."""

    def __init__(self, plan: Plan, jobs: Jobs) -> None:
        self._plan = plan
        self._jobs = jobs
        self._folder = plan.experiment.folder
        self._snapshot = plan.snapshot
        self._of_run: dict[str, list[Evaluation]] = {}
        for evaluation in plan.experiment.evaluations:
            self._of_run.setdefault(evaluation.run.name, []).append(evaluation)

    def run(self, run: Run) -> RunStatus:
        evaluations = self._of_run.get(run.name, [])
        training = self._training(run)
        checkpoints = {epoch: self._verification(run, epoch, training) for epoch in run.verified}
        return RunStatus(
            name=run.name,
            type=run.type,
            training=training,
            verifications=tuple(checkpoints.values()),
            evaluations=tuple(self._evaluation(item, training, checkpoints.get(item.epoch)) for item in evaluations),
        )

    def _training(self, run: Run) -> Item:
        item = Item(TRAINING, run.name, run.name, None, None, State.SKIPPED, "")
        if run.training is None:
            return replace(item, reason=run.why_untrained)
        target = self._plan[paths.finetune_record(run.name)]
        item = self._job(item, target, paths.training_log(run.name), target.config)
        if item.state is not State.RUNNING:
            return item
        size, begun = training_size(self._plan, run), self._begun(item, target.path)
        return _with_progress(item, training_progress(self._folder, run, size, begun)) if begun else item

    def _verification(self, run: Run, epoch: int | None, training: Item) -> Item:
        target = self._plan[paths.manifest(run.name, epoch)]
        name = Path(target.path).stem
        item = Item(VERIFICATION, f"{run.name}/{name}", run.name, None, epoch, _unmade(target), target.why)
        if not target.wanted:
            manifest = self._snapshot.manifest(run.name, epoch)
            return replace(item, state=State.DONE, since=manifest.verified if manifest else None)
        if not training.is_made:
            return replace(item, reason=_held_up_by_training(training) or target.why)
        if target.optional and not self._is_needed(target):
            return replace(item, state=State.SKIPPED, reason=f"{target.why}, and nothing needs it")
        if target.failed:
            return replace(item, state=State.FAILED, reason=target.failed.error, read_on=target.failed.log)
        return item

    def _evaluation(self, evaluation: Evaluation, training: Item, checkpoint: Item | None) -> Item:
        run, cell = evaluation.run.name, evaluation.cell
        target = self._plan[paths.eval_record(run, cell)]
        item = Item(
            EVALUATION, evaluation.subject, run, evaluation.task.name, evaluation.epoch, _unmade(target), target.why
        )
        log, config = paths.evaluation_log(run, cell), dict(target.config)
        if evaluation.needs_checkpoint and (manifest := self._snapshot.manifest(run, evaluation.epoch)):
            config[CHECKPOINT] = manifest.hashes
        item = self._job(item, target, log, config)
        if item.state is State.RUNNING:
            begun = self._begun(item, target.path)
            return _with_progress(item, evaluation_progress(self._folder, run, cell, begun)) if begun else item
        if item.state in (State.DONE, State.PENDING):
            return item
        if checkpoint and (held_up := _held_up_by_training(training) or _held_up_by_checkpoint(checkpoint)):
            return replace(item, state=_unmade(target), reason=held_up, job_id=None, since=None, read_on=None)
        return item

    def _job(self, item: Item, target: Target, log: str, config: Mapping[str, Any]) -> Item:
        """The item of a target that a job makes."""
        if not target.wanted:
            return self._done(item, target)
        if live := self._jobs.live(target.path, log):
            live = replace(live, reason=live.reason if _is_of(live, config) else _outdated(live.reason))
            return _with(item, live)
        if target.attempt:
            return _with(item, self._jobs.ended(target.attempt, log))
        read_on = target.failed.log if target.failed else None
        return replace(item, state=_unmade(target), reason=target.why, read_on=read_on)

    def _begun(self, item: Item, target: str) -> Path | None:
        """The file that the attempt of a running job wrote before its script began; None if it has not."""
        attempts = [one for one in self._snapshot.history.at(target) if item.job_id in (None, one.job_id)]
        return attempts[-1].folder / BEGUN if attempts and not attempts[-1].is_over else None

    def _done(self, item: Item, target: Target) -> Item:
        record = self._snapshot.record(target.kind, target.path)
        done = replace(item, state=State.DONE, reason=target.why)
        if not isinstance(record, JobRecord):
            return done
        made_in = str(record.taken_from.get("experiment", ""))
        return replace(done, job_id=record.job_id, since=record.end, seconds=record.seconds, taken_from=made_in)

    def _is_needed(self, target: Target) -> bool:
        return any(target.path in other.needs for other in self._plan.targets.values())


def _unmade(target: Target) -> State:
    return State.STALE if target.state is Freshness.STALE else State.MISSING


def _with(item: Item, found: Evidence) -> Item:
    return replace(
        item,
        state=found.state,
        reason=found.reason,
        job_id=found.job_id,
        slurm_state=found.slurm_state,
        since=found.since,
        read_on=found.read_on,
        certain=found.certain,
        attempt=found.attempt,
        is_stuck=found.is_stuck,
        seconds=found.seconds,
    )


def _with_progress(item: Item, progress: Progress | None) -> Item:
    """A running item with how far it is, which its reason says in words."""
    if progress is None:
        return item
    return replace(item, progress=progress, reason="; ".join(filter(None, [item.reason, progress.text])))


def _is_of(found: Evidence, config: Mapping[str, Any]) -> bool:
    """Whether a job has today's configuration, as far as is known: a comment contains only the beginning of a hash."""
    return not found.config_hash or config_hash(config).startswith(found.config_hash)


def _outdated(reason: str) -> str:
    why = "its configuration is outdated; running the same command cancels and resubmits it"
    return f"{reason}; {why}" if reason else why


def _held_up_by_training(training: Item) -> str:
    """Why targets that need this training cannot be made now; empty if they can."""
    job = f" as job {training.job_id}" if training.job_id else ""
    match training.state:
        case State.RUNNING:
            return f"its run is being trained{job}"
        case State.PENDING:
            return f"its training is pending{job}"
        case State.FAILED:
            # Every job has an id.
            return f"its training failed{job}" if job else "its training was not submitted"
        case State.CANCELLED:
            return f"its training was cancelled{job}"
    return ""


def _held_up_by_checkpoint(checkpoint: Item) -> str:
    """Why a checkpoint that failed verification cannot be evaluated; else empty."""
    failed = checkpoint.state is State.FAILED
    return f"its checkpoint failed verification: {checkpoint.reason}" if failed else ""
