"""Signals that end the main process: it stops at once, its jobs do not."""

from __future__ import annotations

import atexit
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds between two reminders of a signal that has not ended the session yet.
_REMINDER = 1.0
# Seconds after the first signal from which on another one ends the process, whatever it is doing.
_PATIENCE = 10.0


class Interrupts:
    """Turns a signal into SystemExit with the status that shells give, 128 and its number, until the session heeds it.

    The exception alone is not enough: it is raised wherever the main thread happens to be, and Snakemake's terminal
    output, finalizers and callbacks swallow it. Python also runs no handler while the main thread waits for a lock
    unless the signal interrupts that very wait. A timer cures both: it interrupts the wait, and raises again.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._received_at = 0.0
        self._is_heeded = False
        self._is_deferred = False
        self._is_installed = False

    def install(self) -> None:
        """Take the signals, but for those that are ignored (`nohup`). Snakemake sets its own when it begins."""
        if self._is_installed:
            return
        self._is_installed = True
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, lambda number, frame: self._remind())
        signal.setitimer(signal.ITIMER_REAL, _REMINDER, _REMINDER)
        # Python gives up its handlers before the process ends: by then a reminder would kill it.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A short time in which a signal is only noted, for what must not be left half done; raises it at the end."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        self._remind()

    def heed(self) -> None:
        """The session ends now: no more reminders."""
        self._is_heeded = True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = signal.Signals(number), now
        elif now - self._received_at > _PATIENCE:
            # What should have ended the session hangs. The next session copes with this, as with `kill -9`.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        # A second Ctrl-C must not cut off what the first one began.
        self._remind()

    def _remind(self) -> None:
        is_on_its_way = isinstance(sys.exc_info()[1], SystemExit)
        if self.received and not (self._is_heeded or self._is_deferred or is_on_its_way):
            raise SystemExit(128 + self.received)
