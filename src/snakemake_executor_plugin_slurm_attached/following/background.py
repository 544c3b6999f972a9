"""Calls that may take long, made beside the thread that needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """One call at a time in a thread of its own, which does not keep the process from ending."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._result: T | None = None
        self._error: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether a call is under way or its result was not taken."""
        return self._thread is not None

    def start(self, call: Callable[[], T]) -> None:
        """Begin a call; the one before must have been taken."""
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def take(self) -> T | None:
        """The result of the call, once; None if there is none yet. Raises what the call raised."""
        if self._thread is None or self._thread.is_alive():
            return None
        result, error = self._result, self._error
        self._thread = self._result = self._error = None
        if error:
            raise error
        return result

    def _run(self, call: Callable[[], T]) -> None:
        try:
            self._result = call()
        except Exception as error:
            self._error = error
