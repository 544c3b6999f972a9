"""torchrun that ends as the process ended that failed, so that the job knows whether a retry may help.

    python -m run_experiment.trainers.torchrun --standalone --nproc-per-node=4 -m TRAINER --config RUN/finetune.yaml

Its options are torchrun's. torchrun itself ends with exit status 1 whatever happened, with a report of its own as the
last lines of the log.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Collection

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure


def exit_status(failures: Collection[ProcessFailure]) -> int:
    """The exit status of a job whose processes failed.

    Those that failed within a second count, as the others lost them. Of these one that was killed counts first, except
    by SIGTERM: with that torchrun ends the others.
    """
    first = min(failure.timestamp for failure in failures)
    codes = [failure.exitcode for failure in failures if failure.timestamp <= first + 1]
    killed = [-code for code in codes if code < 0 and code != -signal.SIGTERM]
    failed = [code for code in codes if code > 0]
    return 128 + killed[0] if killed else next(iter(failed), 128 + signal.SIGTERM)


def main(arguments: list[str]) -> None:
    """Run torchrun; exits with the status of the process that failed."""
    given = run.parse_args(arguments)  # type: ignore[no-untyped-call]
    # The processes' own messages are to be the last in the log.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    _share_cores(int(given.nproc_per_node))
    try:
        run.run(given)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        sys.exit(exit_status(error.failures.values()))
    except SignalException as error:
        sys.exit(128 + error.sigval)


def _share_cores(processes: int) -> None:
    """Divide the job's cores among its processes: each would take all of them."""
    if cores := os.environ.get("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(cores) // processes))


if __name__ == "__main__":
    main(sys.argv[1:])
