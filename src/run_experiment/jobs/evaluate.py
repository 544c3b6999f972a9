"""The job of an evaluation: run its script, judge the log it left, put the log in place, write the record.

A rendered script runs `inspect eval-set` in a folder named by all that determines the result, so an attempt continues
the log of the one before it. Other scripts begin anew each time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from run_experiment.attempts.files import Failure
from run_experiment.attempts.turns import begin, is_given_up
from run_experiment.common import paths
from run_experiment.common.json_files import read_record, write_record
from run_experiment.evaluation.dataset_cache import known_settings
from run_experiment.evaluation.environment import job_environment
from run_experiment.evaluation.errors import EvalError
from run_experiment.evaluation.eval_log import load_reader, require_success
from run_experiment.evaluation.partial_log import PartialLog, repeats_itself
from run_experiment.evaluation.settings import require_as_asked
from run_experiment.evaluation.vllm.ranks import RANK, largest_served
from run_experiment.jobs.checks import (
    JobError,
    failure,
    require_as_planned,
    require_checkpoint,
    require_inputs,
)
from run_experiment.jobs.evaluation_logs import UNUSABLE, Left, LogPlace, TornLogError, prepared
from run_experiment.jobs.main import Named, failure_of, leave, parsed
from run_experiment.jobs.max_connections import fitting
from run_experiment.jobs.run import Attempt, ScriptEnd, run_job_script, tried
from run_experiment.jobs.shared_inspect import SharedInspect, shared_inspect
from run_experiment.jobs.specs import EvaluationJob
from run_experiment.jobscripts.script_facts import script_facts
from run_experiment.machine.allocation import PLACE_IN_JOB, own_job_id
from run_experiment.machine.memory import says_out_of_memory
from run_experiment.machine.provenance import with_inspect

_REORDERED = "its samples have no ids, and are in another order now or repeat each other"


def run_evaluations(description: str | None) -> None:
    """Run the evaluations that the command line names, the others also if one fails.

    On failure it says why and exits with 1, or 143 after SIGTERM.
    """
    named = parsed(description, EvaluationJob)
    if len(named) == 1:
        leave(failure_of(named[0], evaluate))
    with shared_inspect(_rank(one.job for one in named)) as shared:
        failures = [_in_turn(place, one, shared) for place, one in enumerate(named, start=1)]
    leave("\n".join(filter(None, failures)) or None)


def _rank(jobs: Iterable[EvaluationJob]) -> dict[str, str]:
    """What a vLLM server that evaluates all adapters of jobs has to be started for."""
    rank = largest_served(Path(folder) for job in jobs for folder in job.models)
    return {RANK: str(rank)} if rank else {}


def _in_turn(place: int, named: Named[EvaluationJob], shared: SharedInspect) -> str | None:
    """Run one of several evaluations; returns why it failed."""
    os.environ[PLACE_IN_JOB] = str(place)
    job_id = own_job_id(named.number)
    try:
        is_wanted = not is_given_up(Path(), named.job.target, job_id) and begin(Path(), job_id)
    except OSError as error:
        return f"{named.job.subject} failed: {error}"
    # SLURM may start a job again that had made some of its records.
    return None if _is_made(named) or not is_wanted else failure_of(named, partial(evaluate, shared=shared))


def _is_made(named: Named[EvaluationJob]) -> bool:
    """Whether this job has made the record."""
    record = read_record(Path(named.job.target)) or {}
    made_by = (record.get("job_id"), record.get("config_hash"))
    return made_by == (own_job_id(named.number), named.job.config_hash)


def evaluate(job: EvaluationJob, local_id: str, log: Path, shared: SharedInspect | None = None) -> None:
    """Evaluate a cell, in the experiment folder; `shared` is the process of several evaluations. Raises JobError."""
    tried(job, job.cell, local_id, log, partial(_make, job, shared))


def _make(job: EvaluationJob, shared: SharedInspect | None, current: Attempt) -> None:
    record, samples = Path(job.target), Path(paths.eval_gpu_metrics(job.run, job.cell))
    require_as_planned(job)
    require_checkpoint(job)
    script = script_facts(Path(job.script), Path(job.folder))
    asked = None if script.sets_max_connections else job.max_connections
    with fitting(asked, current) as connections, prepared(job, script, current) as place:
        tag, unfinished = place.wanted.tag, place.earlier.folder
        environment = job_environment(Path(job.folder), Path(job.cache), current.folder, unfinished, tag)
        # An edited script may do more than to call inspect-ai.
        process = None if Path(job.script).name in job.config else shared
        environment |= process.environment if process else {}
        current.begin(**connections.begun, goes_on=script.continues_logs)
        for entry in filter(None, (connections.oom_entry, place.start_entry)):
            current.tell(*entry)
        programs = [process.programs] if process else []
        environment |= connections.environment()
        ended = run_job_script(job, script, current, environment, samples, programs, [load_reader])
        left = _judged(job, current, place, ended)
    facts = {
        "results": asdict(left.outcome),
        "changes": connections.changes,
        **place.earlier.continued(current, left),
        **ended.gpu,
        # What the shared process used is of all its evaluations.
        **({"usage": None} if shared else {}),
    }
    known = current.record()
    made, elsewhere = left.outcome, script.may_activate
    known["provenance"] = with_inspect(
        known["provenance"], made.inspect_version, made.seed, elsewhere=elsewhere, vllm=made.vllm_version
    )
    # First of all: an old record beside a new log would say that it is of another evaluation.
    record.unlink(missing_ok=True)
    # Right before the new one: without a record the log would be computed again.
    log = place.finish(left.log)
    write_record(record, {**known, **facts, "log": log})


def _judged(job: EvaluationJob, current: Attempt, place: LogPlace, ended: ScriptEnd) -> Left:
    """The log that a script left, if it is of all that was asked for. Raises JobError.

    It counts more than how the script `ended`: one whose log is whole has succeeded, whatever its last command
    returned, like `wait` for a killed sampler.
    """
    left, partial = None, place.earlier.partial
    try:
        left = place.left()
        require_success(left.outcome)
        # What an edited script evaluates is its owner's choice.
        if Path(job.script).name not in job.config:
            require_as_asked(left.outcome.settings, job.config, known_settings(Path(job.cache)), job.arguments)
        require_inputs(job)
        # A training that had to begin again may have replaced it meanwhile.
        require_checkpoint(job)
        if partial and left.reused and repeats_itself(left.log, job.data, job.split):
            raise _give_up(current, partial)
    except EvalError as error:
        raise _failed(error, left, current, ended) from error
    if ended.failed:
        # What may have failed is not said: scripts that end a sampler of GPUs end like this every time.
        print(f"{job.script} ended with exit status {ended.status}, but its evaluation succeeded", file=sys.stderr)
    return left


def _give_up(current: Attempt, partial: PartialLog) -> JobError:
    """Let the next attempt begin anew: eval-set took samples that it numbered itself for others."""
    current.begin(**{UNUSABLE: _REORDERED})
    partial.log.unlink(missing_ok=True)
    return JobError(f"the log of job {partial.job_id} could not be continued: {_REORDERED}", Failure.INTERRUPTED)


def _failed(error: EvalError, left: Left | None, current: Attempt, ended: ScriptEnd) -> JobError:
    """Why the evaluation of a script that `ended` is no success."""
    if ended.failed and left is None:
        return ended.failed
    if left and left.outcome.status == "success":
        # eval-set would leave it as it is.
        current.begin(**{UNUSABLE: str(error)})
    return JobError(failure(str(error), current.log), _kind(error, left, ended))


def _kind(error: EvalError, left: Left | None, ended: ScriptEnd) -> Failure:
    """Kind of the failure of an evaluation that is no success, which decides whether a retry may help."""
    if ended.out_of_memory or (left and left.outcome.error and says_out_of_memory(left.outcome.error)):
        return Failure.OUT_OF_MEMORY
    if ended.failed:
        return ended.failed.failure
    # It was killed, and its script went on.
    was_killed = left.outcome.status == "started" if left else isinstance(error, TornLogError)
    return Failure.INTERRUPTED if was_killed else Failure.ERROR
