"""A closed terminal ends Snakemake on one machine as Ctrl-C does."""

from __future__ import annotations

import atexit
import signal
import sys
from types import FrameType

# Seconds between two looks at whether the interrupt was lost.
_REMINDER = 1.0
# Where Snakemake waits for jobs.
_FILE, _FUNCTION = "job_scheduler.py", "schedule"


def interrupt_at_hangup() -> None:
    """Make SIGHUP raise KeyboardInterrupt while Snakemake waits for jobs, unless it is ignored (`nohup`).

    One exception is not enough: it is raised wherever the main thread happens to be, and Snakemake's terminal output
    and finalizers swallow it. Python also runs no handler while that thread waits for a lock unless the signal
    interrupts that very wait. So a timer looks again whether it has to be raised.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        return
    received = False

    def hang_up(_: int, frame: FrameType | None) -> None:
        nonlocal received
        # A terminal sends two: the second must not cut off what the first one began.
        is_first, received = not received, True
        if is_first:
            raise KeyboardInterrupt
        remind(_, frame)

    def remind(_: int, frame: FrameType | None) -> None:
        if received and _waits(frame) and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            raise KeyboardInterrupt

    signal.signal(signal.SIGHUP, hang_up)
    signal.signal(signal.SIGALRM, remind)
    signal.setitimer(signal.ITIMER_REAL, _REMINDER, _REMINDER)
    # Python gives up its handlers before the process ends: by then a reminder would kill it.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


def _waits(frame: FrameType | None) -> bool:
    """Whether Snakemake is in its loop of waiting for jobs and starting others."""
    while frame:
        if frame.f_code.co_name == _FUNCTION and frame.f_code.co_filename.endswith(_FILE):
            return True
        frame = frame.f_back
    return False
