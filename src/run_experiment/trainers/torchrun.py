"""torchrun that ends as the process ended that failed, and names it, so that the job knows whether a retry may help.

    python -m run_experiment.trainers.torchrun --standalone --nproc-per-node=4 -m TRAINER --config RUN/finetune.yaml

Its options are torchrun's. torchrun itself ends with exit status 1 whatever happened, with a report of its own as the
last lines of the log.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from torch.distributed import DistNetworkError, run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError

from run_experiment.machine.exit_status import signal_meaning
from run_experiment.trainers.trainer import RANK_ENDED, RANK_FAILED


def decisive(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """Rank and failure of the process that ended a job.

    Those that failed within a second count, as the others lost them. Of these one that was killed counts first, except
    by SIGTERM: with that torchrun ends the others. Next is one that said itself what failed, then the one that left its
    error first: an error of the others may be that they lost it.
    """
    first = min(failure.timestamp for failure in failures.values())
    early = [(rank, failure) for rank, failure in failures.items() if failure.timestamp <= first + 1]

    def order(one: tuple[int, ProcessFailure]) -> tuple[int, float, int]:
        rank, failure = one
        kind = 1 if failure.exitcode > 0 else 2 if failure.exitcode == -signal.SIGTERM else 0
        return kind, _told_at(failure) or 0, rank

    return min(early, key=order)


def exit_status(failure: ProcessFailure) -> int:
    """The exit status of a job which a process's failure ended."""
    return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode


def what_failed(rank: int, failure: ProcessFailure) -> str | None:
    """Which process failed and how, in one line; None if it said so itself."""
    host = socket.gethostname()
    if failure.exitcode < 0:
        meaning = signal_meaning(-failure.exitcode)
        return RANK_ENDED.format(rank=rank, host=host, signal=failure.signal_name()) + (meaning and f" ({meaning})")
    if _told_at(failure) is None:
        return None
    return RANK_FAILED.format(rank=rank, host=host, error=(failure.message.strip().splitlines() or [""])[-1])


def _told_at(failure: ProcessFailure) -> float | None:
    """When a process told of the error that ended it, in seconds; None if it told of none."""
    try:
        return Path(failure.error_file).stat().st_mtime
    except OSError:
        return None


def main(arguments: list[str]) -> None:
    """Run torchrun; exits with the status of the process that failed."""
    given = run.parse_args(arguments)  # type: ignore[no-untyped-call]
    # What failed is said in one line, the last of the log.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    _share_cores(int(given.nproc_per_node))
    try:
        run.run(given)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = decisive(error.failures)
        if line := what_failed(rank, failure):
            print(line, file=sys.stderr)
        sys.exit(exit_status(failure))
    except (DistNetworkError, RendezvousError) as error:
        sys.exit(f"lost the other nodes: {error}")
    except SignalException as error:
        sys.exit(128 + error.sigval)


def _share_cores(processes: int) -> None:
    """Divide the job's cores among its processes: each would take all of them."""
    if cores := os.environ.get("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(cores) // processes))


if __name__ == "__main__":
    main(sys.argv[1:])
