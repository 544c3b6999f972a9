"""Command line of the scripts that run jobs: a specification in, exit status and one message out."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

from run_experiment.jobs.checks import JobError
from run_experiment.jobs.specs import Job
from run_experiment.machine.processes import Terminated, interrupt_once, raise_on_sigterm

J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Named(Generic[J]):
    """A job that the command line names: its specification, its number outside of SLURM, and its script's log."""

    job: J
    number: str
    log: Path


def run_job(description: str | None, job_type: type[J], execute: Callable[[J, str, Path], None]) -> None:
    """Run the job that the command line names; on failure say why and exit with 1, or 143 after SIGTERM."""
    (named,) = parsed(description, job_type)
    leave(failure_of(named, execute))


def leave(why: str | None) -> NoReturn:
    """End this process; with a reason, that is printed and the exit status is 1."""
    # Nothing of what is there is looked through for garbage: the job's GPUs would wait for that.
    gc.freeze()
    sys.exit(why)


def parsed(description: str | None, job_type: type[J]) -> list[Named[J]]:
    """Jobs that the command line names. From then on SIGTERM raises Terminated."""
    parser = argparse.ArgumentParser(description=description)
    append = partial(parser.add_argument, required=True, action="append")
    append("--job", type=job_type.read, help="file that says what was planned; with --id and --log, for each job")
    append("--id", help="number of the job where SLURM gives none")
    append("--log", type=Path, help="file for the output of the job's script")
    given = parser.parse_args()
    if not len(given.job) == len(given.id) == len(given.log):
        parser.error("each --job needs its --id and --log")
    raise_on_sigterm()
    interrupt_once()
    return [Named(*values) for values in zip(given.job, given.id, given.log, strict=True)]


def failure_of(named: Named[J], execute: Callable[[J, str, Path], None]) -> str | None:
    """Run a job; returns why it failed. What ends this process ends all of its jobs: then it exits."""
    job = named.job
    try:
        execute(job, named.number, named.log)
    except (JobError, OSError) as error:
        return f"{job.subject} failed: {error}"
    except Terminated as error:
        print(f"{job.subject} was {error}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(f"{job.subject} was interrupted; run the same command to continue")
    return None
