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

from run_experiment.attempts.files import Failure
from run_experiment.common import paths
from run_experiment.common.json_files import write_record
from run_experiment.evaluation.dataset_cache import known_facts
from run_experiment.evaluation.environment import job_environment
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.eval_log import EvalOutcome, require_success
from run_experiment.evaluation.partial_log import PartialLog, repeats_itself
from run_experiment.evaluation.settings import require_as_asked
from run_experiment.inputs.data_files import DataError, Row, read_splits
from run_experiment.jobs.checks import (
    JobError,
    failure,
    require_as_planned,
    require_checkpoint,
    require_inputs,
)
from run_experiment.jobs.evaluation_logs import UNUSABLE, Left, Search, TornLogError, search
from run_experiment.jobs.max_connections import Connections, fitting, plan_connections
from run_experiment.jobs.run import Attempt, run_job_script, tried
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.script_facts import ScriptFacts, script_facts
from run_experiment.machine.gpu_samples import gpu_facts
from run_experiment.machine.memory import says_out_of_memory
from run_experiment.machine.provenance import with_inspect

_REORDERED = "its samples have no ids, and are in another order now or repeat each other"


def evaluate(job: EvaluationJob, local_id: str, log: Path) -> None:
    """Evaluate a cell, in the experiment folder. Raises JobError."""
    tried(job, job.cell, local_id, log, partial(_make, job))


def _make(job: EvaluationJob, current: Attempt) -> None:
    record, samples = Path(job.target), Path(paths.eval_gpu_metrics(job.run, job.cell))
    require_as_planned(job)
    require_checkpoint(job)
    script = script_facts(Path(job.script), Path(job.folder))
    asked = plan_connections(job.max_connections, current.earlier)
    connections = Connections(None, None) if script.sets_max_connections else asked
    place = search(job, script, current)
    current.begin(**connections.begun, goes_on=place.continues)
    for entry in filter(None, (connections.oom_entry, place.start_entry(current.earlier))):
        current.tell(*entry)
    with place.keeping(lambda: _is_usable(job, current)), fitting(current, connections):
        left = _evaluated(job, script, current, connections, place, samples)
    facts = {
        "results": asdict(left.outcome),
        "changes": connections.changes,
        **place.continued(current, left),
        **gpu_facts((samples, *script.sample_files), current.started),
    }
    known = current.record()
    version, seed = left.outcome.inspect_version, left.outcome.seed
    known["provenance"] = with_inspect(known["provenance"], version, seed, elsewhere=script.may_activate)
    # First of all: an old record beside a new log would say that it is of another evaluation.
    record.unlink(missing_ok=True)
    # Right before the new one: without a record the log would be computed again.
    place.finish(left.log)
    write_record(record, {**known, **facts})


def _evaluated(
    job: EvaluationJob,
    script: ScriptFacts,
    current: Attempt,
    connections: Connections,
    place: Search,
    samples: Path,
) -> Left:
    """Run the script, and judge the log that it left, which counts more than the exit status.

    A script whose log is whole has succeeded, whatever its last command returned, like `wait` for a killed sampler.
    """
    folder, cache = Path(job.folder), Path(job.cache)
    environment = job_environment(folder, cache, current.folder, place.unfinished, place.wanted.tag)
    killed_for_memory, failed, left = False, None, None
    try:
        killed_for_memory = run_job_script(job, script, current, environment | connections.environment(), samples)
    except JobError as error:
        failed = error
    try:
        left = place.left()
        _require_all(job, current, left.outcome)
        require_inputs(job)
        # A training that had to begin again may have replaced it meanwhile.
        require_checkpoint(job)
        _require_one_order(job, current, place.partial, left)
    except EvalError as error:
        if failed and left is None:
            raise failed from error
        raise JobError(failure(str(error), current.log), _kind(error, left, failed, killed_for_memory)) from error
    if failed:
        print(f"{str(failed).partition(';')[0]}, but its evaluation succeeded", file=sys.stderr)
    return left


def _kind(error: EvalError, left: Left | None, failed: JobError | None, killed_for_memory: bool) -> Failure:
    """Kind of the failure of an evaluation that is no success, which decides whether a retry may help."""
    if killed_for_memory or (left and left.outcome.error and says_out_of_memory(left.outcome.error)):
        return Failure.OUT_OF_MEMORY
    if failed:
        return failed.failure
    # It was killed, and its script went on.
    was_killed = left.outcome.status == "started" if left else isinstance(error, TornLogError)
    return Failure.INTERRUPTED if was_killed else Failure.ERROR


def _is_usable(job: EvaluationJob, current: Attempt) -> bool:
    """Whether what an attempt computed may be continued: not if data, task or checkpoint changed meanwhile."""
    try:
        require_inputs(job)
        require_checkpoint(job)
    except JobError as error:
        current.begin(**{UNUSABLE: str(error)})
    return UNUSABLE not in current.begun


def _require_all(job: EvaluationJob, current: Attempt, outcome: EvalOutcome) -> None:
    """Raise EvalError unless an evaluation computed all that was to be, with the settings that were asked for."""
    try:
        require_success(outcome)
        # What an edited script evaluates is its owner's choice.
        if Path(job.script).name not in job.config:
            facts = known_facts(Path(job.cache))
            require_as_asked(outcome.settings, job.config, facts.settings if facts else {}, job.arguments)
    except EvalError as error:
        if outcome.status == "success":
            # eval-set would leave it as it is.
            current.begin(**{UNUSABLE: str(error)})
        raise


def _require_one_order(job: EvaluationJob, current: Attempt, earlier: PartialLog | None, left: Left) -> None:
    """Raise JobError if eval-set took samples that it numbered itself for others; the next attempt begins anew.

    Raises EvalError if a log cannot be read.
    """
    if not (earlier and left.reused):
        return
    rows = _rows(job)
    if repeats_itself(left.log, rows):
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
