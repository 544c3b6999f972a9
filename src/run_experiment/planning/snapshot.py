"""The experiment folder as one command sees it: records, manifests, attempts and the ledger, each read once.

Of a target whose configuration is known it says whether it is fresh, stale or missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from run_experiment.attempts.files import Failure
from run_experiment.attempts.history import Attempt, History
from run_experiment.attempts.redone import last_redo
from run_experiment.common import paths
from run_experiment.common.experiment_lock import observe
from run_experiment.common.json_files import describe_change, same_config
from run_experiment.experiment.records import (
    CheckRecord,
    EvaluationRecord,
    JobRecord,
    Manifest,
    Record,
    TrainingRecord,
    read_check,
    read_config,
    read_evaluation,
    read_manifest,
    read_training,
)
from run_experiment.inputs.configuration import Config
from run_experiment.machine.file_locks import FileLocks
from run_experiment.planning.redone.older import OlderRedos
from run_experiment.planning.target import REDONE, Kind, State, Target
from run_experiment.slurm.ledger import PATH, Ledger, Noted, Settled
from run_experiment.slurm.states import succeeded

T = TypeVar("T")


class Snapshot:
    """The contents of an experiment `folder`; a file is read when first needed, and never again.

    `sighting` is who was at work there before any of it was read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sighting = observe(folder)
        self.history = History(folder, lambda: self._noted.accepted)
        self._read: dict[str, Any] = {}

    def training(self, run: str) -> TrainingRecord | None:
        """Record of a run's training."""
        return self._once(paths.finetune_record(run), read_training)

    def evaluation(self, run: str, cell: str) -> EvaluationRecord | None:
        """Record of an evaluation."""
        return self._once(paths.eval_record(run, cell), read_evaluation)

    def manifest(self, run: str, epoch: int | None) -> Manifest | None:
        """Manifest of a checkpoint."""
        return self._once(paths.manifest(run, epoch), read_manifest)

    def check(self, name: str) -> CheckRecord | None:
        """Record of a model's check."""
        return self._once(paths.model_check(name), read_check)

    def record(self, kind: Kind, path: str) -> Record | None:
        """Record of a target."""
        reader: dict[Kind, Callable[[Path], Record | None]] = {
            Kind.TRAINING: read_training,
            Kind.EVALUATION: read_evaluation,
            Kind.VERIFICATION: read_manifest,
            Kind.CHECK: read_check,
        }
        return self._once(path, reader.get(kind, read_config))

    def compared(
        self, kind: Kind, path: str, config: Config, data: Sequence[Path] = (), script: Path | str | None = None
    ) -> Target:
        """The target of a known configuration, with its state; `data` and `script` are files hashed in it."""
        record = self.record(kind, path)
        if record is None:
            state = self.unmade(path)
            if state is State.STALE:
                return Target(kind, path, state, "its record cannot be read", config)
            return self._tried(Target(kind, path, state, "not done yet", config), None)
        if not same_config(record.config, config):
            why = describe_change(record.config, config, data, script)
            return self._tried(Target(kind, path, State.STALE, why, config), record)
        return Target(kind, path, State.FRESH, "done", config)

    def unmade(self, path: str) -> State:
        """State of a target without a readable record: stale if a file is there, which Snakemake would accept."""
        return State.STALE if (self.folder / path).exists() else State.MISSING

    def _tried(self, target: Target, record: Record | None) -> Target:
        """The target with its last attempt, if that had this configuration and is newer than the record."""
        if target.kind not in (Kind.TRAINING, Kind.EVALUATION):
            return target
        last = self.last_attempt(target.path)
        redone = None if record else last_redo(self.folder, target.path)
        if redone and (last is None or last.folder.name in redone.before):
            return replace(target, why=f"{REDONE} on {redone.moment.astimezone():%Y-%m-%d %H:%M}", redone=True)
        if last is None or not last.is_of(target.config):
            return target
        if isinstance(record, JobRecord) and not self._is_later(last, record.job_id, record.end):
            return target
        holder = None if last.is_over else self.holder(target.path)
        why = f"running on this machine as process {holder}" if holder else last.why
        return replace(target, attempt=last, why=why)

    @cached_property
    def ledger(self) -> Noted:
        """Jobs that were submitted. Raises OSError."""
        return Ledger(self.folder / PATH).read()

    @cached_property
    def older_redos(self) -> OlderRedos:
        """What older versions remembered of `redo=`."""
        return OlderRedos(self.folder)

    @cached_property
    def locks(self) -> FileLocks:
        """Locks that processes of this machine hold."""
        return FileLocks()

    def holder(self, target: str) -> int | None:
        """PID of the process on this machine that is making a record; None if there is none."""
        return self.locks.holder(self.folder / paths.lock(target))

    def last_attempt(self, target: str) -> Attempt | None:
        """The last attempt at a record, with SLURM's verdict, even if only the ledger knows it."""
        last, settled = self.history.newest(target), self._noted.settled.get(target)
        if settled is None or succeeded(settled.state):
            return last
        if last and last.job_id == settled.job_id:
            return replace(last, slurm_state=settled.state)
        if last and self._is_later(last, settled.job_id, settled.time):
            return last
        return self._only_settled(target, settled)

    def attempts_at(self, target: str) -> set[str]:
        """Names of the folders of jobs' attempts at a record, and ids of its last jobs, which may have left none."""
        jobs = (self._noted.open.get(target), self._noted.settled.get(target))
        ids = {job.job_id for job in jobs if job and job.job_id}
        return ids | {attempt.folder.name for attempt in self.history.at(target) if attempt.was_submitted}

    def _is_later(self, attempt: Attempt, job_id: str | None, end: datetime | None) -> bool:
        """Whether an attempt is later than a job: in the order of the ledger, or by their times where that lacks one.

        Times are of the clocks of the machines where they were noted.
        """
        own, other = (self._noted.accepted.get(one or "") for one in (attempt.job_id, job_id))
        if own is not None and other is not None:
            return own > other
        return end is None or (attempt.moment is not None and attempt.moment > end)

    def is_being_made(self, target: str) -> bool:
        """Whether a job may be making a record: one on this machine, or one in the queue that has not made it."""
        if self.holder(target) is not None:
            return True
        return target in self._noted.open and not (self.folder / target).exists()

    @cached_property
    def _noted(self) -> Noted:
        """What the ledger has; nothing if it is unreadable, which the submitter reports."""
        try:
            return self.ledger
        except OSError:
            return Noted({}, {})

    def _only_settled(self, target: str, settled: Settled) -> Attempt:
        """The attempt of a job that left no files of its own."""
        run, name = paths.target_of(target)
        return Attempt(
            folder=self.folder / paths.attempts(run) / settled.job_id,
            target=name,
            job_id=settled.job_id,
            failure=Failure.INTERRUPTED,
            ended=settled.time,
            config_hash=settled.config_hash or "",
            slurm_state=settled.state,
        )

    def _once(self, path: str, read: Callable[[Path], T]) -> T:
        if path not in self._read:
            self._read[path] = read(self.folder / path)
        found: T = self._read[path]
        return found
