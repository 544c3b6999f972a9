"""Where the log of an evaluation's attempt may appear, which one it is, and how it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import is_zipfile

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.common import paths
from run_experiment.common.json_files import config_hash
from run_experiment.common.text import counted
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.eval_log import EvalOutcome, read_outcome
from run_experiment.evaluation.find_log import Logs, Wanted, logs_in, own_logs, tag, the_log
from run_experiment.evaluation.partial_log import PartialLog, keep_best, reused_samples
from run_experiment.jobs.run import Attempt
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
class Search:
    """Where the log of an attempt may appear, and what lay there before; `usual` is the place of the evaluation's log.

    `unfinished` is the folder in which eval-set continues `partial`, the log of an earlier attempt, if there is one;
    `given_up` is why another one is not continued. Only a script that `continues` writes to that folder.
    """

    wanted: Wanted
    attempt: Path
    unfinished: Path
    usual: Path
    folders: tuple[Path, ...]
    trees: tuple[Path, ...]
    before: Logs
    partial: PartialLog | None
    given_up: str
    continues: bool

    def left(self) -> Left:
        """The log that the script left, and what it says. Raises EvalError, TornLogError if it was cut off."""
        logs = self.found()
        if not logs:
            raise EvalError("the script left no inspect-ai log")
        log = the_log(self.wanted, logs)
        try:
            return Left(log, read_outcome(log), reused_samples(self.partial, log) if self.partial else 0)
        except EvalError as error:
            raise (error if is_zipfile(log) else TornLogError(str(error))) from error

    def found(self) -> list[Path]:
        """Logs that the attempt's script left, oldest first. Raises EvalError."""
        own = [self.attempt.absolute(), self.unfinished.absolute()]
        new = own_logs(self.wanted, own, self.before, logs_in(self.folders, self.trees))
        # eval-set leaves a complete log as it is.
        return new or ([self.partial.log] if self.partial and self.partial.is_success else [])

    @contextmanager
    def keeping(self, is_usable: Callable[[], bool]) -> Iterator[None]:
        """If what is done meanwhile fails, keep the logs it left with the attempt; the next continues usable ones."""
        try:
            yield
        except BaseException:
            with suppress(EvalError, OSError):
                usable = is_usable()
                for log in self.found():
                    self._keep(log, usable)
            raise

    def _keep(self, log: Path, usable: bool) -> None:
        kept = self.attempt / log.name
        if usable and log.resolve().parent == self.unfinished.resolve():
            _link(log, kept)
        else:
            put(log, kept, own=(self.usual.parent, self.unfinished))

    def start_entry(self, earlier: Sequence[history.Attempt]) -> tuple[Action, str, str] | None:
        """Entry for the action log: how many samples of an earlier attempt are reused, or why none; else None."""
        partial = self.partial
        if partial and partial.completed and self.continues:
            done, total = partial.outcome.completed_samples, partial.outcome.total_samples
            details, rest = f"Continuing attempt of job {partial.job_id} (inspect eval-set)", total - done or "none"
            return Action.EVAL_RETRY, details, f"{counted(done, 'sample', of=total)} reused, {rest} to do"
        left = next((one for one in earlier if any(one.folder.glob("*.eval"))), None)
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
        return "" if self.partial else f"its log is not in {self.unfinished}"

    def continued(self, current: Attempt, left: Left) -> dict[str, Any]:
        """A record's entry on samples that were reused; logs if eval-set computed some of them again."""
        earlier = self.partial
        if earlier is None or not earlier.completed:
            return {}
        if left.reused < len(earlier.completed):
            details = f"inspect-ai computed samples of job {earlier.job_id} again"
            count = counted(left.reused, "sample", of=len(earlier.completed))
            current.tell(Action.EVAL_RETRY, details, f"{count} were reused")
        return {"continued": {"job_id": earlier.job_id, "reused_samples": left.reused}}

    def finish(self, log: Path) -> None:
        """Put the finished log in its place; what was needed to continue it goes."""
        put(log, self.usual, own=(self.attempt, self.usual.parent, self.unfinished))
        # What cannot be removed now must not cost the result.
        shutil.rmtree(self.unfinished, ignore_errors=True)


def search(job: EvaluationJob, script: ScriptFacts, current: Attempt) -> Search:
    """A search for the log of an attempt's script, which has not begun; of earlier logs the best one is left."""
    here = Path.cwd()
    wanted = Wanted(
        tag=tag(f"{current.job_id}:{uuid4().hex}"),
        function=job.task_name,
        epoch=job.epoch,
        models=tuple(here / model for model in job.models),
        experiment=here,
        cell=here / paths.eval_folder(job.run) / job.cell,
        epoch_is_told=script.gives_epoch,
    )
    unfinished = Path(paths.unfinished_eval(job.run, job.cell, _name(job)))
    # The folder in which eval-set continues what is there.
    if script.continues_logs:
        unfinished.mkdir(parents=True, exist_ok=True)
    partial, given_up = keep_best(unfinished)
    # By default inspect-ai writes beside where it is started.
    usual = (here / job.folder / "logs", (here / job.script).parent / "logs", here / job.run / "logs", here / "logs")
    folders = (current.folder, unfinished, *script.log_folders, *usual)
    trees = (here / paths.eval_folder(job.run),)
    return Search(
        wanted=wanted,
        attempt=current.folder,
        unfinished=unfinished,
        usual=Path(paths.eval_log(job.run, job.cell)),
        folders=folders,
        trees=trees,
        before=logs_in(folders, trees),
        partial=partial,
        given_up=given_up,
        continues=script.continues_logs,
    )


def _name(job: EvaluationJob) -> str:
    """Name by all that determines the result: eval-set itself does not notice data or tasks that changed."""
    # In this form, so that what an older version left is continued.
    return config_hash({"config": job.config, "redo": ""})[:16]


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
