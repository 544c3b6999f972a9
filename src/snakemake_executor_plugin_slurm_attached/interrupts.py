"""Signals that end the main process: it stops at once, its jobs do not."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Turns the first signal into SystemExit with the status that shells give, 128 and its number."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._installed = False

    def install(self) -> None:
        """Take the signals, but for those that are ignored (`nohup`). Snakemake sets its own when it begins."""
        if self._installed:
            return
        self._installed = True
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        # A second Ctrl-C must not cut off what the first one began.
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)
