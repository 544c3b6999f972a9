"""The job of an evaluation: run its script, judge the log it left, put the log in place, write the record."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from run_experiment.attempts.files import Failure
from run_experiment.checkpoints.identities import CHECKPOINT, checkpoint_hashes
from run_experiment.common import paths
from run_experiment.common.json_files import read_record, same_config, write_record
from run_experiment.evaluation.dataset_cache import cache_environment
from run_experiment.evaluation.eval_log import EvalError, EvalOutcome, read_outcome
from run_experiment.evaluation.find_log import log_environment, the_log
from run_experiment.jobs.checks import JobError, failure, gpu_facts, require_as_planned, require_data_set
from run_experiment.jobs.evaluation_logs import Search, put, search
from run_experiment.jobs.evaluation_start import (
    Start,
    beginning,
    fitting,
    is_unusable,
    plan_start,
    require_all,
    require_one_order,
    tell_reused,
)
from run_experiment.jobs.run import Attempt, run_job_script, tried
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.environment import may_activate
from run_experiment.machine.memory import says_out_of_memory
from run_experiment.machine.provenance import with_inspect_version


def evaluate(job: EvaluationJob, local_id: str, log: Path) -> None:
    """Evaluate a cell, in the experiment folder. Raises JobError."""
    tried(job, job.cell, local_id, log, partial(_make, job))


def _make(job: EvaluationJob, current: Attempt) -> None:
    record, samples = Path(job.target), Path(paths.eval_gpu_metrics(job.run, job.cell))
    _require_checkpoint(job)
    _require_inputs(job)
    require_as_planned(job)
    place = search(job, current)
    start = plan_start(job, current, place)
    place = place.for_tag(start.tag)
    earlier = start.earlier
    if earlier and earlier.is_whole:
        log, outcome = earlier.partial.log, earlier.partial.outcome
    else:
        with place.keeping(), fitting(job, current, start), beginning(current, start, place):
            log, outcome = _evaluated(job, current, start, place, samples)
    facts = start.facts(log)
    tell_reused(current, start, facts)
    # First of all: an old record beside a new log would say that it is of another evaluation.
    record.unlink(missing_ok=True)
    own = (current.folder, place.usual.parent, *([earlier.partial.log.parent] if earlier else []))
    put(log, place.usual, own)
    known = current.record(job)
    known["provenance"] = _made_with(job, known["provenance"], outcome)
    write_record(record, {**known, **_results(outcome), **facts, **gpu_facts(samples)})


def _evaluated(
    job: EvaluationJob, current: Attempt, start: Start, place: Search, samples: Path
) -> tuple[Path, EvalOutcome]:
    """The log that the script made, judged."""
    environment = cache_environment(Path(job.cache).absolute())
    environment |= log_environment(current.folder.absolute(), place.wanted.tag) | start.environment()
    with _unchanged(job, current):
        with _importing("inspect_ai.log"):
            killed_for_memory = run_job_script(job, current, environment, samples)
        return _judged(job, current, start, place, killed_for_memory)


@contextmanager
def _unchanged(job: EvaluationJob, current: Attempt) -> Iterator[None]:
    """Have nothing used of what is computed meanwhile, if data or task change. Raises JobError."""
    try:
        yield
    except BaseException:
        _what_changed(job, current)
        raise
    if changed := _what_changed(job, current):
        raise changed


def _what_changed(job: EvaluationJob, current: Attempt) -> JobError | None:
    try:
        _require_inputs(job)
    except JobError as error:
        is_unusable(current, str(error))
        return error
    return None


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


def _judged(
    job: EvaluationJob, current: Attempt, start: Start, place: Search, killed_for_memory: bool
) -> tuple[Path, EvalOutcome]:
    """The log that the script left, if it is a success: inspect's exit status does not tell."""
    kind = Failure.OUT_OF_MEMORY if killed_for_memory else Failure.ERROR
    try:
        logs = place.found()
        if not logs:
            raise EvalError("the script left no inspect-ai log")
        log = the_log(place.wanted, logs)
        if kind is Failure.ERROR and not is_zipfile(log):
            # Torn: what wrote it was killed.
            kind = Failure.INTERRUPTED
        outcome = read_outcome(log)
        kind = Failure.OUT_OF_MEMORY if killed_for_memory else _kind(outcome)
        require_all(job, outcome)
        require_one_order(job, current, start, log)
    except EvalError as error:
        raise JobError(failure(str(error), current.log), kind) from error
    return log, outcome


def _kind(outcome: EvalOutcome) -> Failure:
    """What another try could mend of an evaluation that did not succeed."""
    if outcome.error and says_out_of_memory(outcome.error):
        return Failure.OUT_OF_MEMORY
    # It was killed, and its script went on.
    return Failure.INTERRUPTED if outcome.status == "started" else Failure.ERROR


def _made_with(job: EvaluationJob, facts: dict[str, Any], outcome: EvalOutcome) -> dict[str, Any]:
    """What a job knows of how it made a log, with what the log says itself."""
    known = with_inspect_version(facts, outcome.inspect_version, may_activate(Path(job.script)))
    return known if outcome.seed is None else {**known, "seeds": {"generation": outcome.seed}}


def _results(outcome: EvalOutcome) -> dict[str, Any]:
    return {"results": asdict(outcome)}
