"""The job of an evaluation: run its script, judge the log it left, put the log in place, write the record."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from run_experiment import layout
from run_experiment.determinants import CHECKPOINT, checkpoint_hashes
from run_experiment.evaluation.cache import cache_environment
from run_experiment.evaluation.log import EvalError, EvalOutcome, newest_log, read_outcome, require_success
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
from run_experiment.records import read_record, write_record


@dataclass(frozen=True)
class EvaluationJob(Job):
    """An evaluation: its cell, its task's file and its data file if any (absolute), its checkpoint's manifest if any,
    its cache folder.
    """

    cell: str
    task: str
    data: str | None
    manifest: str | None
    cache: str

    @property
    def subject(self) -> str:
        """What the job makes, for the user."""
        return f"{self.run}/{self.cell}"


def evaluate(job: EvaluationJob, local_id: str, log: Path) -> None:
    """Evaluate a cell, in the experiment folder. Raises JobError."""
    with attempt(job, job.cell, local_id, log) as current:
        job = _with_checkpoint(job)
        _require_inputs(job)
        require_as_planned(job)
        environment = cache_environment(Path(job.cache).absolute())
        environment["INSPECT_LOG_DIR"] = str(current.folder.absolute())
        samples = Path(layout.eval_gpu_metrics(job.run, job.cell))
        run_job_script(layout.eval_script(job.run, job.cell), current, environment, samples)
        log_file, outcome = _judged(job, current)
        _require_inputs(job)
        target = Path(layout.eval_log(job.run, job.cell))
        target.parent.mkdir(parents=True, exist_ok=True)
        log_file.replace(target)
    record = {**current.record(job), **_results(outcome), **gpu_facts(samples)}
    write_record(Path(layout.eval_record(job.run, job.cell)), record)


def _with_checkpoint(job: EvaluationJob) -> EvaluationJob:
    """The job with its configuration completed by the checkpoint that it evaluates."""
    if job.manifest is None:
        return job
    manifest = read_record(Path(job.manifest))
    if manifest is None:
        raise JobError(f"{job.manifest} is missing: the checkpoint was not verified")
    return replace(job, config={**job.config, CHECKPOINT: checkpoint_hashes(manifest)})


def _require_inputs(job: EvaluationJob) -> None:
    """Data and task must be what was planned with, before and after. Raises JobError."""
    task = job.config["task"]
    data_set = {"script": task["script"], "imports": task.get("imports", {}), "data": job.config["data"]}
    require_data_set(data_set, job.task, job.data)


def _judged(job: EvaluationJob, current: Attempt) -> tuple[Path, EvalOutcome]:
    """The log that the script left, if it is a success: inspect's exit status does not tell."""
    log = newest_log(current.folder)
    if log is None:
        raise JobError(failure("the script left no inspect-ai log", current.log))
    try:
        outcome = read_outcome(log)
        require_success(outcome)
        if outcome.limited and Path(layout.eval_script(job.run, job.cell)).name not in job.config:
            raise EvalError("only a part of the data set was evaluated: is INSPECT_EVAL_LIMIT set in a .env file?")
    except EvalError as error:
        raise JobError(failure(str(error), current.log)) from error
    return log, outcome


def _results(outcome: EvalOutcome) -> dict[str, Any]:
    return {"results": asdict(outcome)}
