"""The job of an evaluation: run its script, judge the log it left, put the log in place, write the record."""

from __future__ import annotations

import importlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from run_experiment import layout
from run_experiment.evaluation.binding import (
    Logs,
    Wanted,
    log_environment,
    log_folders,
    logs_in,
    own_logs,
    tag,
    the_log,
)
from run_experiment.evaluation.cache import cache_environment
from run_experiment.evaluation.log import EvalError, EvalOutcome, read_outcome, require_success
from run_experiment.identities import CHECKPOINT, checkpoint_hashes
from run_experiment.jobs import (
    Attempt,
    Job,
    JobError,
    attempt,
    failure,
    gpu_facts,
    require_as_planned,
    require_data_set,
    run_job_script,
)
from run_experiment.records import read_record, same_config, write_record
from run_experiment.task_signature import registered_name


@dataclass(frozen=True)
class EvaluationJob(Job):
    """An evaluation: its cell, its task's file and its data file if any (absolute), its checkpoint's manifest if any,
    its cache folder, its epoch if any, the folders of the model that it evaluates.
    """

    cell: str
    task: str
    data: str | None
    manifest: str | None
    cache: str
    epoch: int | None = None
    models: list[str] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """What the job makes, for the user."""
        return f"{self.run}/{self.cell}"


def evaluate(job: EvaluationJob, local_id: str, log: Path) -> None:
    """Evaluate a cell, in the experiment folder. Raises JobError."""
    target, record = Path(layout.eval_log(job.run, job.cell)), Path(job.target)
    with attempt(job, job.cell, local_id, log) as current:
        _require_checkpoint(job)
        _require_inputs(job)
        require_as_planned(job)
        samples = Path(layout.eval_gpu_metrics(job.run, job.cell))
        with _searching(job, current) as search:
            environment = cache_environment(Path(job.cache).absolute())
            environment |= log_environment(current.folder.absolute(), search.wanted.tag)
            with _importing("inspect_ai.log"):
                run_job_script(job, current, environment, samples)
            log_file, outcome = _judged(job, current, search)
            _require_inputs(job)
        # First of all: an old record beside a new log would say that it is of another evaluation.
        record.unlink(missing_ok=True)
        _put(log_file, target, own=(current.folder, target.parent))
    write_record(record, {**current.record(job), **_results(outcome), **gpu_facts(samples)})


@contextmanager
def _importing(module: str) -> Iterator[None]:
    """Import a module beside what is done meanwhile, so that no GPU is held for the seconds which that takes."""

    def load() -> None:
        # An error comes again, and is told, where the module is used.
        with suppress(Exception):
            importlib.import_module(module)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@dataclass(frozen=True)
class _Search:
    """Where the log of an attempt may appear, and what lay there before."""

    wanted: Wanted
    attempt: Path
    folders: tuple[Path, ...]
    trees: tuple[Path, ...]
    before: Logs

    def found(self) -> list[Path]:
        """Logs that the attempt's script left, oldest first. Raises EvalError."""
        return own_logs(self.wanted, self.attempt, self.before, logs_in(self.folders, self.trees))


@contextmanager
def _searching(job: EvaluationJob, current: Attempt) -> Iterator[_Search]:
    """A search for the log of a script that runs meanwhile; where that fails, its logs are kept with the attempt."""
    here, function = Path.cwd(), job.config["task"].get("function")
    wanted = Wanted(
        tag=tag(f"{current.job_id}:{uuid4().hex}"),
        function=registered_name(Path(job.task), function) if function else None,
        epoch=job.epoch,
        models=tuple(here / model for model in job.models),
        experiment=here,
        cell=here / layout.eval_folder(job.run) / job.cell,
    )
    # Where inspect-ai writes by itself: beside where it is started.
    usual = [here / job.folder / "logs", (here / job.script).parent / "logs", here / job.run / "logs", here / "logs"]
    text = Path(job.script).read_text(encoding="utf-8", errors="replace")
    given = log_folders(text, here / job.folder, {**os.environ, "SLURM_SUBMIT_DIR": str(here / job.folder)})
    folders, trees = (current.folder, *given, *usual), (here / layout.eval_folder(job.run),)
    search = _Search(wanted, current.folder, folders, trees, logs_in(folders, trees))
    try:
        yield search
    except BaseException:
        with suppress(EvalError, OSError):
            for log in search.found():
                _put(log, current.folder / log.name, own=(Path(layout.eval_log(job.run, job.cell)).parent,))
        raise


def _put(log: Path, target: Path, own: tuple[Path, ...]) -> None:
    """Put a log in a place: from folders of our own it is moved; elsewhere another tool may read it, so it stays."""
    if log == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if any(log.parent == folder.resolve() for folder in own):
        log.replace(target)
        return
    beside = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copyfile(log, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _require_checkpoint(job: EvaluationJob) -> None:
    """The verified checkpoint must be the one that was planned with. Raises JobError."""
    if job.manifest is None:
        return
    manifest = read_record(Path(job.manifest))
    if manifest is None:
        raise JobError(f"{job.manifest} is missing: the checkpoint was not verified")
    if not same_config(job.config.get(CHECKPOINT), checkpoint_hashes(manifest)):
        raise JobError(f"{job.manifest} is of another checkpoint than this job was planned with; start again")


def _require_inputs(job: EvaluationJob) -> None:
    """Data and task must be what was planned with, before and after. Raises JobError."""
    task = job.config["task"]
    data_set = {"script": task["script"], "imports": task.get("imports", {}), "data": job.config["data"]}
    require_data_set(data_set, job.task, job.data)


def _judged(job: EvaluationJob, current: Attempt, search: _Search) -> tuple[Path, EvalOutcome]:
    """The log that the script left, if it is a success: inspect's exit status does not tell."""
    try:
        logs = search.found()
        if not logs:
            raise EvalError("the script left no inspect-ai log")
        log = the_log(search.wanted, logs)
        outcome = read_outcome(log)
        require_success(outcome)
        if outcome.limited and Path(job.script).name not in job.config:
            raise EvalError("only a part of the data set was evaluated: is INSPECT_EVAL_LIMIT set in a .env file?")
    except EvalError as error:
        raise JobError(failure(str(error), current.log)) from error
    return log, outcome


def _results(outcome: EvalOutcome) -> dict[str, Any]:
    return {"results": asdict(outcome)}
