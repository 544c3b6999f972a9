"""A signal ends the session whatever the main thread is doing when it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The session's main thread waits for a job in `wait`, as Snakemake's scheduler does.
BEGIN = """
import logging, os, signal, sys, threading, time
from snakemake_executor_plugin_slurm_attached import interrupts
interrupts._REMINDER = 0.1
session = interrupts.Interrupts()
session.install()
wait = threading.Semaphore(0).acquire
"""
SWALLOWED_BY_THE_TERMINAL = """
from snakemake.logging import ColorizingTextHandler
class Terminal:
    def write(self, text):
        os.kill(os.getpid(), signal.{name})
    def flush(self):
        pass
handler = ColorizingTextHandler(False, Terminal(), formatter=logging.Formatter())
handler.emit(logging.LogRecord("snakemake", logging.INFO, "", 0, "Select jobs to execute...", (), None))
wait()
"""
SWALLOWED_BY_A_FINALIZER = """
class Job:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
job = Job()
del job
wait()
"""
SWALLOWED_BY_CODE = """
try:
    os.kill(os.getpid(), signal.{name})
except BaseException:
    pass
wait()
"""
# The kernel chooses the thread; the handler runs in the main one, once that wakes.
TAKEN_BY_ANOTHER_THREAD = """
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.{name}}})
threading.Timer(0.3, os.kill, (os.getpid(), signal.{name})).start()
wait()
"""


def session(code: str, name: str = "SIGINT") -> subprocess.CompletedProcess[str]:
    """A session that a signal is to end, as a process with the signals that a shell gives it."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code.format(name=name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (SWALLOWED_BY_THE_TERMINAL, "SIGINT"),
        (SWALLOWED_BY_A_FINALIZER, "SIGTERM"),
        (SWALLOWED_BY_CODE, "SIGHUP"),
        (TAKEN_BY_ANOTHER_THREAD, "SIGINT"),
    ],
    ids=["terminal", "finalizer", "code", "another thread"],
)
def test_a_signal_whose_exception_is_lost_ends_the_session(code: str, name: str) -> None:
    ended = session(code, name)
    assert ended.returncode == 128 + getattr(signal, name), ended.stderr


def test_an_end_that_has_begun_is_not_cut_off_by_reminders_nor_by_another_ctrl_c() -> None:
    code = """
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    time.sleep(0.3)
    session.heed()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
    print("ended in order")
"""
    ended = session(code)
    assert (ended.returncode, ended.stdout) == (130, "ended in order\n"), ended.stderr


def test_a_signal_waits_for_what_must_not_be_left_half_done() -> None:
    code = """
with session.deferred():
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.3)
    print("done", flush=True)
print("more", flush=True)
"""
    ended = session(code)
    assert (ended.returncode, ended.stdout) == (130, "done\n"), ended.stderr


def test_another_signal_ends_a_session_whose_end_hangs() -> None:
    code = """
interrupts._PATIENCE = 0.2
threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGTERM)).start()
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    session.heed()
    wait()
"""
    assert session(code).returncode == -signal.SIGTERM
