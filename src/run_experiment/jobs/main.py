"""Command line of the scripts that run jobs: a specification in, exit status and one message out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from run_experiment.jobs.checks import JobError
from run_experiment.jobs.specs import Job
from run_experiment.machine.processes import Terminated, interrupt_at_hangup, raise_on_sigterm

J = TypeVar("J", bound=Job)


def run_job(description: str | None, job_type: type[J], execute: Callable[[J, str, Path], None]) -> None:
    """Parse the command line and run the job; on failure say why and exit with 1, or 143 after SIGTERM."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--job", required=True, type=job_type.read, help="file that says what was planned")
    parser.add_argument("--id", required=True, help="number of the job where SLURM gives none")
    parser.add_argument("--log", required=True, type=Path, help="file for the output of the job's script")
    arguments = parser.parse_args()
    raise_on_sigterm()
    # On a cluster the script gets this signal.
    if "SLURM_JOB_ID" not in os.environ:
        interrupt_at_hangup()
    try:
        execute(arguments.job, arguments.id, arguments.log)
    except (JobError, OSError) as error:
        sys.exit(f"{arguments.job.subject} failed: {error}")
    except Terminated as error:
        print(f"{arguments.job.subject} was {error}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(f"{arguments.job.subject} was interrupted; run the same command to continue")
