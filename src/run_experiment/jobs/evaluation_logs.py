"""Where the log of an evaluation's attempt may appear, which one it is, and how it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import is_zipfile

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.common import paths
from run_experiment.common.files import Stamps
from run_experiment.common.json_files import config_hash
from run_experiment.common.text import counted
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.eval_log import EvalOutcome, read_outcome
from run_experiment.evaluation.find_log import Wanted, logs_in, own_logs, tag, the_log
from run_experiment.evaluation.partial_log import PartialLog, keep_best, reused_samples
from run_experiment.inputs.file_hashes import file_facts
from run_experiment.jobs.checks import JobError, require_checkpoint, require_inputs
from run_experiment.jobs.run import Attempt, Entry
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.script_facts import ScriptFacts

# Fact of an attempt: why nothing that it computed may be used.
UNUSABLE = "unusable"


class TornLogError(EvalError):
    """A log is not whole: what wrote it was killed."""


@dataclass(frozen=True)
class Left:
    """The log of an attempt, what it came to, and how many samples it reused of the log that it continued."""

    log: Path
    outcome: EvalOutcome
    reused: int


@dataclass(frozen=True)
class Earlier:
    """The folder in which eval-set continues `partial`, the log of an earlier attempt, if there is one.

    `given_up` is why another one is not continued. Only a script that `continues` writes to that folder.
    """

    folder: Path
    partial: PartialLog | None
    given_up: str
    continues: bool

    def entry(self, attempts: Sequence[history.Attempt]) -> Entry | None:
        """Entry for the action log: how many samples of an earlier attempt are reused, or why none; else None."""
        partial = self.partial
        if partial and partial.completed and self.continues:
            done, total = partial.outcome.completed_samples, partial.outcome.total_samples
            details, rest = f"Continuing attempt of job {partial.job_id} (inspect eval-set)", total - done or "none"
            return Action.EVAL_RETRY, details, f"{counted(done, 'sample', of=total)} reused, {rest} to do"
        left = next((one for one in attempts if any(one.folder.glob("*.eval"))), None)
        if reason := self.given_up or (left and self._why_anew(left)):
            job_id = f"job {left.job_id}" if left else "an earlier job"
            return Action.EVAL_RETRY, f"Attempt of {job_id} cannot be continued: {reason}", "started fresh"
        return None

    def _why_anew(self, left: history.Attempt) -> str:
        """Why nothing of an attempt that left a log is reused; empty if the log had no samples."""
        if unusable := left.begun.get(UNUSABLE):
            return str(unusable)
        if not self.continues:
            return "its script does not use the job's folder for `inspect eval-set`"
        return "" if self.partial else f"its log is not in {self.folder}"

    def continued(self, current: Attempt, left: Left) -> dict[str, Any]:
        """A record's entry on samples that were reused; logs if eval-set computed some of them again."""
        partial = self.partial
        if partial is None or not partial.completed:
            return {}
        if left.reused < len(partial.completed):
            details = f"inspect-ai computed samples of job {partial.job_id} again"
            count = counted(left.reused, "sample", of=len(partial.completed))
            current.tell(Action.EVAL_RETRY, details, f"{count} were reused")
        return {"continued": {"job_id": partial.job_id, "reused_samples": left.reused}}


@dataclass(frozen=True)
class LogPlace:
    """Where the log of an attempt may appear, and what lay there before; `usual` is the place of the evaluation's log.

    `start_entry` is for the action log: what of an earlier attempt is continued, or why nothing is.
    """

    wanted: Wanted
    attempt: Path
    usual: Path
    folders: tuple[Path, ...]
    trees: tuple[Path, ...]
    before: Stamps
    earlier: Earlier
    start_entry: Entry | None

    def left(self) -> Left:
        """The log that the script left, and what it says. Raises EvalError, TornLogError if it was cut off."""
        logs = self.found()
        if not logs:
            raise EvalError("the script left no inspect-ai log")
        log = the_log(self.wanted, logs)
        partial = self.earlier.partial
        try:
            return Left(log, read_outcome(log), reused_samples(partial, log) if partial else 0)
        except EvalError as error:
            raise (error if is_zipfile(log) else TornLogError(str(error))) from error

    def found(self) -> list[Path]:
        """Logs that the attempt's script left, oldest first. Raises EvalError."""
        own = [self.attempt.absolute(), self.earlier.folder.absolute()]
        new = own_logs(self.wanted, own, self.before, logs_in(self.folders, self.trees))
        partial = self.earlier.partial
        # eval-set leaves a complete log as it is.
        return new or ([partial.log] if partial and partial.is_success else [])

    def keep(self, usable: bool) -> None:
        """Keep the logs of a failed attempt with it; the next one continues usable ones. Raises EvalError, OSError."""
        for log in self.found():
            kept = self.attempt / log.name
            if usable and log.resolve().parent == self.earlier.folder.resolve():
                _link(log, kept)
            else:
                put(log, kept, own=(self.usual.parent, self.earlier.folder))

    def finish(self, log: Path) -> dict[str, int | str]:
        """Put the finished log in its place and return its facts; what was needed to continue it goes."""
        facts = file_facts(log)
        put(log, self.usual, own=(self.attempt, self.usual.parent, self.earlier.folder))
        # What cannot be removed now must not cost the result.
        shutil.rmtree(self.earlier.folder, ignore_errors=True)
        return facts


@contextmanager
def prepared(job: EvaluationJob, script: ScriptFacts, current: Attempt) -> Iterator[LogPlace]:
    """The place of the log of an attempt's script, which has not begun.

    If what is done meanwhile fails, the logs that it left are kept, for the next attempt to continue them.
    """
    place = _prepare(job, script, current)
    try:
        yield place
    except BaseException:
        with suppress(EvalError, OSError):
            _mark_if_changed(job, current)
            place.keep(usable=UNUSABLE not in current.begun)
        raise


def _mark_if_changed(job: EvaluationJob, current: Attempt) -> None:
    """Mark what an attempt computed as unusable if data, task or checkpoint changed meanwhile."""
    try:
        require_inputs(job)
        require_checkpoint(job)
    except JobError as error:
        current.begin(**{UNUSABLE: str(error)})


def _prepare(job: EvaluationJob, script: ScriptFacts, current: Attempt) -> LogPlace:
    here = Path.cwd()
    earlier = _prepare_earlier(job, script.continues_logs)
    wanted = Wanted(
        tag=tag(f"{current.job_id}:{uuid4().hex}"),
        function=job.task_name,
        epoch=job.epoch,
        models=tuple(here / model for model in job.models),
        experiment=here,
        cell=here / paths.eval_folder(job.run) / job.cell,
        epoch_is_told=script.gives_epoch,
    )
    # By default inspect-ai writes beside where it is started.
    usual = (here / job.folder / "logs", (here / job.script).parent / "logs", here / job.run / "logs", here / "logs")
    folders = (current.folder, earlier.folder, *script.log_folders, *usual)
    trees = (here / paths.eval_folder(job.run),)
    return LogPlace(
        wanted=wanted,
        attempt=current.folder,
        usual=Path(paths.eval_log(job.run, job.cell)),
        folders=folders,
        trees=trees,
        before=logs_in(folders, trees),
        earlier=earlier,
        start_entry=earlier.entry(current.earlier),
    )


def _prepare_earlier(job: EvaluationJob, continues: bool) -> Earlier:
    """The folder for eval-set, in which of the logs of earlier attempts only the best one is left.

    It is named by all that determines the result: eval-set itself does not notice data or tasks that changed.
    """
    # In this form, so that what an older version left is continued.
    name = config_hash({"config": job.config, "redo": ""})[:16]
    folder = Path(paths.unfinished_eval(job.run, job.cell, name))
    if continues:
        folder.mkdir(parents=True, exist_ok=True)
    return Earlier(folder, *keep_best(folder), continues)


def put(log: Path, target: Path, own: tuple[Path, ...]) -> None:
    """Put a log in a place: from folders of our own it is moved; elsewhere another tool may read it, so it stays."""
    if log == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if any(log.parent.resolve() == folder.resolve() for folder in own):
        log.replace(target)
        return
    beside = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copyfile(log, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _link(log: Path, kept: Path) -> None:
    try:
        kept.hardlink_to(log)
    # Not all file systems know links.
    except OSError:
        shutil.copyfile(log, kept)
