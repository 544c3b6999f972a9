"""Waiting for processes, whatever signals come meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import pytest

from run_experiment.machine.processes import wait_for


class Heeded(Exception):
    """The signal was."""


def test_a_signal_that_another_thread_takes_is_heeded_while_the_process_runs() -> None:
    """As one is that comes just before the wait: neither cuts off a system call of the main thread."""

    def heed(*_: object) -> None:
        raise Heeded

    def take() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        os.kill(os.getpid(), signal.SIGUSR1)

    process, before = subprocess.Popen(["sleep", "60"]), signal.signal(signal.SIGUSR1, heed)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        threading.Timer(0.5, take).start()
        with pytest.raises(Heeded):
            wait_for(process)
        assert process.poll() is None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGUSR1, before)
        process.kill()
        process.wait()
