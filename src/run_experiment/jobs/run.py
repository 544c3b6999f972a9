"""Runs a job, with retries while another attempt may help; each attempt has a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from run_experiment.actionlog.entry import Action
from run_experiment.attempts import history
from run_experiment.attempts.files import BEGUN, ENDED, LOG, Failure
from run_experiment.attempts.redone import last_redo
from run_experiment.common import paths
from run_experiment.common.clock import now, stamp
from run_experiment.common.files import stamps
from run_experiment.common.json_files import same_config, write_record
from run_experiment.common.places import no_space
from run_experiment.common.process_identity import started_at
from run_experiment.jobs.checks import JobError, failure, make_unused
from run_experiment.jobs.script_process import run_script
from run_experiment.jobs.specs import Job
from run_experiment.jobscripts.script_facts import ScriptFacts
from run_experiment.machine.allocation import own_job_id, own_restarts
from run_experiment.machine.exit_status import status_meaning, with_hint
from run_experiment.machine.gpu_samples import gpu_facts, sampling
from run_experiment.machine.memory import log_says_out_of_memory, memory_kills
from run_experiment.machine.process_usage import ProcessUsage, counted_usage
from run_experiment.machine.processes import Terminated, last_lines, locked
from run_experiment.machine.provenance import provenance
from run_experiment.trainers.trainer import failed_process

# What ends a script, or its command, from outside: another attempt may finish. SIGUSR1, SIGUSR2 and SIGHUP are those of
# `#SBATCH --signal` in a script without a trap for them.
_CUT_BY = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_KILLED = {status for number in _CUT_BY for status in (-number, 128 + number)}
# Seconds that a job on a cluster waits for another process to release the lock of its target.
_LOCK_PATIENCE = 180.0
# Last lines of a log among which is the one that says which process of a training failed: those of other nodes follow.
_LINES = 1000
# Facts of an attempt that its record has too.
_IDENTITY = ("experiment", "run", "job_id", "config", "config_hash", "started", "host")

# Of the action log: what was done, the details, the result.
Entry = tuple[Action, str, str]
_Provenance = Callable[[], Future[dict[str, Any]]]
# What the attempts at a job have in common, as an `Attempt` has it.
_Facts = tuple[list[dict[str, str]], Executor, _Provenance, Future[datetime | None], ProcessUsage]


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job: its id, its log (`output` is the open file), its lock, and its folder.

    `earlier` are the attempts before it at the same result, newest first. `begun` are the facts recorded when it
    begins, `events` the job's entries for the action log. `provenance` is found out from its first call on, by the
    threads `aside`.
    """

    job_id: str
    log: Path
    output: BinaryIO
    lock: BinaryIO
    folder: Path
    started: datetime
    clock: float
    earlier: list[history.Attempt]
    begun: dict[str, Any]
    events: list[dict[str, str]]
    aside: Executor
    provenance: _Provenance
    started_by_slurm: Future[datetime | None]
    usage: ProcessUsage

    def begin(self, **facts: Any) -> None:
        """Record facts about the attempt at once, since a killed one cannot do so later."""
        self.begun.update(facts)
        # A full disk must not fail the job itself.
        with suppress(OSError):
            write_record(self.folder / BEGUN, {**self.begun, "events": self.events})

    def tell(self, action: Action, details: str, result: str) -> None:
        """Add an entry for the action log."""
        self.events.append({"time": stamp(now()), "action": action.value, "details": details, "result": result})
        self.begin()

    def prepare_end(self, *more: Callable[[], object]) -> None:
        """Begin what the end of the job needs, beside its script: before and after that, the job's GPUs wait for it."""
        self.provenance()
        for call in more:
            self.aside.submit(call)

    def record(self) -> dict[str, Any]:
        """The part of a record that all jobs share."""
        return {
            **{name: self.begun[name] for name in _IDENTITY},
            "allocation": self.allocation(),
            "ended": stamp(now()),
            "seconds": round(time.monotonic() - self.clock, 1),
            "usage": self.usage.figures(),
            "provenance": self.provenance().result(),
            "attempts": [_in_short(one) for one in reversed(self.earlier)],
            "events": self.events,
        }

    def allocation(self, *, failed: bool = False) -> dict[str, Any]:
        """Which start of the SLURM job this is, and its own times; the attempt may be the second one within it.

        A job that SLURM started again, or may start again after it `failed`, also says when, by SLURM: accounting may
        show that start after this record, and has its times by another clock.
        """
        restarts, started = own_restarts(), started_at(os.getpid()) or self.started
        # At the end once more, if SLURM did not answer at the beginning.
        by_slurm = self.started_by_slurm.result() or _start_by_slurm(self.job_id, failed=failed)
        times = {"started": stamp(by_slurm or started), "ended": stamp(now())}
        return {"restarts": restarts, **times, "start_known_to_slurm": by_slurm is not None}


@dataclass(frozen=True)
class ScriptEnd:
    """How a job's script ended: its exit status, and what it `failed` with, if it did.

    `out_of_memory`: the kernel killed one of its processes for lack of memory, although the script may have succeeded.
    `gpu` is a record's entry on the job's GPUs.
    """

    status: int
    failed: JobError | None
    out_of_memory: bool
    gpu: dict[str, Any]


def _start_by_slurm(job_id: str, *, failed: bool = False) -> datetime | None:
    """When SLURM last started this job; None if it neither started it again nor `failed`, or SLURM does not answer."""
    if not (own_restarts() or failed):
        return None
    # Here, since a job starts faster without them.
    from run_experiment.slurm.clients import query_start
    from run_experiment.slurm.errors import SlurmError

    try:
        return query_start(job_id)
    except (SlurmError, ValueError):
        return None


def tried(job: Job, name: str, local_id: str, log: Path, make: Callable[[Attempt], None]) -> None:
    """Run a job, and retry it up to `job.retries` times if that may help.

    `make` makes the target in one attempt, and resumes earlier ones if it can. `local_id` identifies the job outside of
    SLURM; `name` is the target's name in attempts' records. Raises JobError if all attempts fail, or if another process
    is working on the target, such as a job that outlived a killed Snakemake.
    """
    with ExitStack() as stack:
        lock = _alone(stack, job, local_id, log)
        events: list[dict[str, str]] = []
        # In parallel, since a driver may take seconds to list the GPUs, and SLURM to answer.
        aside = stack.enter_context(ThreadPoolExecutor(3))
        made_with = cache(partial(aside.submit, _made_with, job))
        started = aside.submit(_start_by_slurm, own_job_id(local_id))
        facts = (events, aside, made_with, started, stack.enter_context(counted_usage()))
        for rest in range(job.retries, -1, -1):
            try:
                with _attempt(job, name, local_id, (log, lock), facts) as current:
                    make(current)
                return
            except JobError as error:
                if error.failure is Failure.ERROR:
                    raise
                if not rest:
                    raise JobError(f"{error}\nRetries used up: {job.retries} (setting `retries`).") from error
            print(f"retrying {job.subject}", file=sys.stderr)


def _alone(stack: ExitStack, job: Job, local_id: str, log: Path) -> BinaryIO:
    """The lock that lets only one process work on a target. Raises JobError if another one holds it.

    On a cluster the holder may be a node that died, whose locks the file server releases some time later.
    """
    end = time.monotonic() + (0 if own_job_id(local_id).startswith("local-") else _LOCK_PATIENCE)
    while True:
        try:
            return stack.enter_context(locked(Path(paths.lock(job.target))))
        except BlockingIOError as error:
            if time.monotonic() >= end:
                text = f"another process is working on it and writes to {log}: wait for it, or stop it"
                raise JobError(text) from error
        time.sleep(1)


def run_job_script(
    job: Job,
    script: ScriptFacts,
    attempt: Attempt,
    environment: Mapping[str, str],
    samples: Path,
    programs: Sequence[Path] = (),
    prepare: Sequence[Callable[[], object]] = (),
) -> ScriptEnd:
    """Run a job's script and sample the GPUs, unless the script does that itself; `prepare` are calls beside it.

    The message of what it failed with has the last lines of its log.
    """
    kills, sampled = memory_kills(), (samples, *script.sample_files)
    before = stamps(sampled)
    with nullcontext() if script.samples_itself else sampling(samples):
        status = run_script(
            Path(job.script),
            attempt.output,
            environment,
            Path(job.folder),
            attempt.lock,
            is_rendered=script.is_rendered,
            programs=programs,
            meanwhile=partial(attempt.prepare_end, *prepare),
        )
    out_of_memory, gpu = memory_kills() > kills, gpu_facts(sampled, before)
    if not status:
        return ScriptEnd(status, None, out_of_memory, gpu)
    what = f"{job.script} ended with exit status {status}{_explained(status, attempt.log)}"
    kind = _kind(status, attempt.log, out_of_memory)
    return ScriptEnd(status, JobError(failure(what, attempt.log), kind), out_of_memory, gpu)


def _explained(status: int, log: Path) -> str:
    """What an exit status stands for, and the line of a log that says what failed."""
    lines = last_lines(log, _LINES)
    # Of several nodes the status may be that of one that lost the others.
    meaning = "" if (named := failed_process(lines)) else status_meaning(status)
    said = "".join(map(with_hint, [named] if named else lines[-1:])).strip() or str(no_space(log.parent) or "")
    return (meaning and f" ({meaning})") + (said and f": {said}")


def _kind(status: int, log: Path, out_of_memory: bool) -> Failure:
    """Kind of a script's failure, which decides whether a retry may help."""
    if out_of_memory or log_says_out_of_memory(log):
        return Failure.OUT_OF_MEMORY
    return Failure.INTERRUPTED if status in _KILLED else Failure.ERROR


@contextmanager
def _attempt(
    job: Job,
    name: str,
    local_id: str,
    files: tuple[Path, BinaryIO],
    facts: _Facts,
) -> Iterator[Attempt]:
    """An attempt at a job; if it fails, its folder keeps its files, with a record that says why."""
    job_id = own_job_id(local_id)
    folder = make_unused(Path(paths.attempts(job.run)) / job_id)
    log, lock = files
    output = _new_log(log, folder / LOG)
    earlier = _earlier(job, name, folder)
    current = Attempt(job_id, log, output, lock, folder, now(), time.monotonic(), earlier, {}, *facts)
    current.begin(
        target=name,
        experiment=os.getcwd(),
        run=job.run,
        job_id=job_id,
        restarts=own_restarts(),
        config=job.config,
        config_hash=job.config_hash,
        started=stamp(current.started),
        clock=current.started.timestamp(),
        host=socket.gethostname(),
    )
    try:
        yield current
    except BaseException as error:
        known = isinstance(error, JobError | Terminated)
        reason = str(error) if known else f"{type(error).__name__}: {error}".rstrip(": ")
        _keep(current, {"error": reason, "failure": _failure(error).value, **current.begun})
        raise
    finally:
        output.close()
    # Leftovers that cannot be removed must not fail the job. The parent folder stays, as another job may need it.
    shutil.rmtree(folder, ignore_errors=True)


def _earlier(job: Job, target: str, folder: Path) -> list[history.Attempt]:
    """The attempts before the one in `folder` at the same result, newest first.

    Attempts made before the experiment was copied or moved do not count: their logs name files of the other folder;
    nor do those from before a `redo=`.
    """
    redone = last_redo(Path(), job.target)
    found = [
        one
        for one in history.read(Path(), job.run)
        if one.target == target
        and one.folder != folder
        and one.begun.get("experiment") == os.getcwd()
        and same_config(one.config, job.config)
        and not (redone and one.folder.name in redone.before)
    ]
    if len(found) < 2:
        return found
    # Here, since most jobs start without it: the ledger of a large experiment is long.
    from run_experiment.slurm.ledger import accepted_jobs

    return history.in_order(found, accepted_jobs(Path()))[::-1]


def _new_log(log: Path, kept: Path) -> BinaryIO:
    """A new log, linked from the attempt's folder too: a killed job cannot save it, and the next one replaces it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    output = log.open("ab")
    # If the file system has no hard links, it is copied at the end.
    with suppress(OSError):
        kept.hardlink_to(log)
    return output


def _made_with(job: Job) -> dict[str, Any]:
    """Provenance of the result; a failure to determine it must not fail the job."""
    try:
        return provenance(job.task_files, job.seeds)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _in_short(attempt: history.Attempt) -> dict[str, Any]:
    """Summary of an earlier attempt for a record."""
    facts = {name: attempt.begun.get(name) for name in ("started", "ended", "host")}
    return {"job_id": attempt.job_id, "failure": attempt.failure.value, **facts}


def _failure(error: BaseException) -> Failure:
    """Kind of a failure, which decides whether a retry may help; interrupted jobs may be started again."""
    if isinstance(error, JobError):
        return error.failure
    return Failure.ERROR if isinstance(error, Exception) else Failure.INTERRUPTED


def _keep(attempt: Attempt, why: dict[str, Any]) -> None:
    """Keep the files of a failed attempt; a problem with that must not hide the error itself."""
    with suppress(Exception):
        if not (kept := attempt.folder / LOG).exists():
            shutil.copy(attempt.log, kept)
        record = {**why, **attempt.record()}
        write_record(attempt.folder / ENDED, record)
        (attempt.folder / BEGUN).unlink(missing_ok=True)
        # Last of all, since SLURM may be slow to answer, and to kill this job.
        write_record(attempt.folder / ENDED, record | {"allocation": attempt.allocation(failed=True)})
