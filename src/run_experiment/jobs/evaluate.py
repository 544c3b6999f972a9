"""The job of an evaluation: run its script, judge the log it left, put the log in place, write the record.

A rendered script runs `inspect eval-set` in a folder named by all that determines the result, so an attempt continues
the log of the one before it. Other scripts begin anew each time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from run_experiment.attempts.files import Failure
from run_experiment.checkpoints.identities import CHECKPOINT
from run_experiment.common import paths
from run_experiment.common.json_files import same_config, write_record
from run_experiment.evaluation.dataset_cache import known_facts
from run_experiment.evaluation.environment import job_environment
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.eval_log import EvalOutcome, read_outcome, require_success
from run_experiment.evaluation.find_log import the_log
from run_experiment.evaluation.partial_log import PartialLog, repeats_itself, reused_samples
from run_experiment.evaluation.settings import require_as_asked
from run_experiment.experiment.records import read_manifest
from run_experiment.inputs.data_files import DataError, Row, read_splits
from run_experiment.jobs.checks import JobError, failure, gpu_facts, require_as_planned, require_inputs
from run_experiment.jobs.evaluation_logs import UNUSABLE, Search, search
from run_experiment.jobs.max_connections import Connections, fitting, plan_connections
from run_experiment.jobs.run import Attempt, run_job_script, tried
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.environment import may_activate
from run_experiment.machine.memory import says_out_of_memory
from run_experiment.machine.provenance import with_inspect_version

_REORDERED = "its samples have no ids, and are in another order now or repeat each other"


def evaluate(job: EvaluationJob, local_id: str, log: Path) -> None:
    """Evaluate a cell, in the experiment folder. Raises JobError."""
    tried(job, job.cell, local_id, log, partial(_make, job))


def _make(job: EvaluationJob, current: Attempt) -> None:
    record, samples = Path(job.target), Path(paths.eval_gpu_metrics(job.run, job.cell))
    _require_checkpoint(job)
    require_as_planned(job)
    connections = plan_connections(job, current)
    place = search(job, current)
    current.begin(goes_on=place.continues)
    place.report_start(current)
    with place.keeping(lambda: _is_usable(job, current)), fitting(current, connections):
        log, outcome = _evaluated(job, current, connections, place, samples)
    facts = {"changes": connections.changes, **place.reused(current, log)}
    known = current.record()
    known["provenance"] = _made_with(job, known["provenance"], outcome)
    # First of all: an old record beside a new log would say that it is of another evaluation.
    record.unlink(missing_ok=True)
    # Right before the new one: without a record the log would be computed again.
    place.finish(log)
    write_record(record, {**known, "results": asdict(outcome), **facts, **gpu_facts(job, samples, current.started)})


def _evaluated(
    job: EvaluationJob, current: Attempt, connections: Connections, place: Search, samples: Path
) -> tuple[Path, EvalOutcome]:
    """The log that the script made, judged."""
    folder, cache = Path(job.folder), Path(job.cache)
    environment = job_environment(folder, cache, current.folder, place.unfinished, place.wanted.tag)
    environment |= connections.environment()
    killed_for_memory = _run_script(job, current, environment, place, samples)
    require_inputs(job)
    return _judged(job, current, place, killed_for_memory)


def _run_script(
    job: EvaluationJob, current: Attempt, environment: dict[str, str], place: Search, samples: Path
) -> bool:
    """Run the script; returns whether memory ran out in one that succeeded.

    A script whose log is whole has succeeded, whatever its last command returned, like `wait` for a killed sampler.
    """
    try:
        return run_job_script(job, current, environment, samples)
    except JobError as error:
        if not _left_a_whole_log(job, current, place):
            raise _explained(error, current, place) from error
        print(f"{str(error).partition(';')[0]}, but its evaluation succeeded", file=sys.stderr)
        return False


def _left_a_whole_log(job: EvaluationJob, current: Attempt, place: Search) -> bool:
    try:
        _require_all(job, current, read_outcome(the_log(place.wanted, place.found())))
    except (EvalError, IndexError):
        return False
    return True


def _explained(error: JobError, current: Attempt, place: Search) -> JobError:
    """The failure of a script, with the reason that its log gives: inspect-ai's exit status has none."""
    try:
        outcome = read_outcome(the_log(place.wanted, place.found()))
    except (EvalError, IndexError):
        return error
    try:
        require_success(outcome)
    except EvalError as reason:
        kind = _kind(outcome)
        text = failure(str(reason), current.log)
        return JobError(text, kind if kind is Failure.OUT_OF_MEMORY else error.failure)
    return error


def _is_usable(job: EvaluationJob, current: Attempt) -> bool:
    """Whether what an attempt computed may be continued: not if data or task changed meanwhile."""
    try:
        require_inputs(job)
    except JobError as error:
        current.begin(**{UNUSABLE: str(error)})
    return UNUSABLE not in current.begun


def _require_checkpoint(job: EvaluationJob) -> None:
    """The verified checkpoint must be the one that was planned with. Raises JobError."""
    if job.manifest is None:
        return
    manifest = read_manifest(Path(job.manifest))
    if manifest is None:
        raise JobError(f"{job.manifest} is missing: the checkpoint was not verified")
    if not same_config(job.config.get(CHECKPOINT), manifest.hashes):
        raise JobError(f"{job.manifest} is of another checkpoint than this job was planned with; start again")


def _judged(job: EvaluationJob, current: Attempt, place: Search, killed_for_memory: bool) -> tuple[Path, EvalOutcome]:
    """The log that the script left, if it is a success: inspect-ai's exit status does not tell."""
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
        _require_all(job, current, outcome)
        _require_one_order(job, current, place.partial, log)
    except EvalError as error:
        raise JobError(failure(str(error), current.log), kind) from error
    return log, outcome


def _require_all(job: EvaluationJob, current: Attempt, outcome: EvalOutcome) -> None:
    """Raise EvalError unless an evaluation computed all that was to be, with the settings that were asked for."""
    try:
        require_success(outcome)
        # What an edited script evaluates is its owner's choice.
        if Path(job.script).name not in job.config:
            facts = known_facts(Path(job.cache))
            require_as_asked(outcome.settings, job.config, facts.settings if facts else {}, _given_arguments(job))
    except EvalError as error:
        if outcome.status == "success":
            # eval-set would leave it as it is.
            current.begin(**{UNUSABLE: str(error)})
        raise


def _given_arguments(job: EvaluationJob) -> list[str] | None:
    """Names of the arguments in the file that a rendered script gives to the task; None without such a file."""
    # Here, since a job holds its GPU while it imports.
    import yaml

    path = next((path for path in job.files if path.endswith(".args.yaml")), None)
    if path is None:
        return None
    values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return list(values) if isinstance(values, dict) else []


def _require_one_order(job: EvaluationJob, current: Attempt, earlier: PartialLog | None, log: Path) -> None:
    """Raise JobError if eval-set took samples that it numbered itself for others; the next attempt begins anew.

    Raises EvalError if a log cannot be read.
    """
    if earlier and reused_samples(earlier, log) and repeats_itself(log, _rows(job)):
        current.begin(**{UNUSABLE: _REORDERED})
        earlier.log.unlink(missing_ok=True)
        raise JobError(f"the log of job {earlier.job_id} could not be continued: {_REORDERED}", Failure.INTERRUPTED)


def _rows(job: EvaluationJob) -> Sequence[Row]:
    """Rows of its data, of all splits if it is not known which one it reads; none if they are not known."""
    data = job.config["data"]
    try:
        splits = read_splits(Path(job.data)) if job.data and data else {}
    except DataError:
        return []
    chosen = splits if data.get("split") is None else [data["split"]]
    return [row for split in chosen for row in splits.get(split, [])]


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
