"""A clock: calls again and again, in a thread of its own, until it is stopped."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable


class Ticker:
    """Calls `call` every so many seconds; what that raises is printed, and the next one is made all the same."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._seconds = seconds
        self._call = call
        self._over = threading.Event()
        threading.Thread(target=self._tick, name="ticker", daemon=True).start()

    def stop(self) -> None:
        """Call no more."""
        self._over.set()

    def _tick(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self._call()
            except Exception:
                traceback.print_exc()
