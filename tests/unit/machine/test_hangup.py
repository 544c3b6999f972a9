"""A closed terminal ends Snakemake on one machine, wherever the interrupt is raised first."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The main thread waits for a job in `schedule`, as Snakemake's does; after an interrupt it ends in order.
BEGIN = """
import os, signal, threading, time
from run_experiment.machine import hangup
hangup._REMINDER = 0.1
hangup.interrupt_at_hangup()
def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)
SCHEDULE = '''
def schedule():
    try:
        threading.Semaphore(0).acquire()
    except KeyboardInterrupt:
        hang_up()
        time.sleep(0.3)
    print("ended in order")
'''
exec(compile(SCHEDULE, "job_scheduler.py", "exec"))
"""
LOST = {
    "swallowed": "try:\n    hang_up()\nexcept BaseException:\n    pass\n",
    "while it waits": "threading.Timer(0.3, hang_up).start()\n",
    "taken by another thread": "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})\nthreading.Timer(0.3, hang_up).start()\n",
}


@pytest.mark.parametrize("lost", LOST)
def test_a_hangup_ends_the_session_once(lost: str) -> None:
    """Also if more than one is sent: the second does not cut off the end."""
    ended = session(f"{LOST[lost]}schedule()\ntime.sleep(0.3)\n")
    assert (ended.returncode, ended.stdout) == (0, "ended in order\n"), ended.stderr


def test_a_session_that_does_not_wait_for_jobs_is_interrupted_at_once() -> None:
    ended = session("hang_up()\nprint('more')\n")
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, ""), ended.stderr


def session(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
