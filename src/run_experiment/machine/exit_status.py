"""What exit statuses of scripts and the last lines of their logs stand for, with what to do."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from contextlib import suppress

_STATUSES = {
    126: "a command in it cannot be executed: is it a program for this machine, with the right to be executed?",
    127: "a command in it was not found: load it in `modules` or `environment`",
}
_SIGNALS: dict[int, str] = {
    signal.SIGHUP: "the session that it belonged to was closed",
    signal.SIGINT: "interrupted",
    signal.SIGILL: "illegal instruction: a program or library is built for another kind of CPU",
    signal.SIGABRT: "a program aborted itself; its reason is in the lines before",
    signal.SIGBUS: "bus error: is /dev/shm or the temporary folder full?",
    signal.SIGFPE: "arithmetic error in a program",
    signal.SIGKILL: "killed; if nobody did, its memory ran out: request more with `mem`",
    signal.SIGUSR1: "SIGUSR1, for which its script has no trap",
    signal.SIGSEGV: "segmentation fault: a program or library crashed; do the versions of its libraries fit together?",
    signal.SIGUSR2: "SIGUSR2, for which its script has no trap",
    signal.SIGPIPE: "a program wrote to a pipe that nobody reads",
    signal.SIGTERM: "SIGTERM: cancelled, preempted, or near its time limit",
    signal.SIGXCPU: "it used more CPU time than `ulimit -t` allows",
    signal.SIGXFSZ: "a file became larger than `ulimit -f` allows",
}
# Of errors that stand for something else than they say, or for something to be done outside of the script.
_HINTS = {
    r"No space left on device|\[Errno 28\]": "the disk is full: make room, or set TMPDIR to a larger one",
    r"Disk quota exceeded|\[Errno 122\]": "your quota is used up: remove files, or use another file system",
    r"Read-only file system|\[Errno 30\]": "the node cannot write there",
    r"Too many open files|\[Errno 24\]": "raise `ulimit -n`",
    r"Stale file handle|\[Errno 116\]": "the file server had a problem: run the same command again",
    r"CUDA driver version is insufficient|driver on your system is too old": "torch needs a newer driver of the "
    "node's GPUs: choose other nodes with `constraint`, or an older build of torch",
    r"no kernel image is available": "this build of torch does not support the node's GPU: choose others with "
    "`constraint`",
    r"uncorrectable ECC error|unspecified launch failure|GPU is lost": "the node's GPU may be broken: leave the node "
    "out with `#SBATCH --exclude`",
    r"Lmod has detected|Unable to locate a modulefile|module: (command )?not found": "correct `modules` in the "
    "settings: `module avail` lists those of the cluster",
    r"EnvironmentNameNotFound|EnvironmentLocationNotFound|conda: command not found": "correct `environment` in the "
    "settings",
    r"ModuleNotFoundError|No module named": "install it in the environment that jobs run in",
    r"GLIBC(XX)?_[\d.]+.? not found|cannot open shared object file": "a library of the node is missing or too old: "
    "load it in `modules`",
}


def status_meaning(status: int) -> str:
    """What an exit status of a shell or of `subprocess` stands for; empty if that is up to the program."""
    if status < 0:
        return signal_meaning(-status)
    # Batch systems count from 256 what a signal ended, shells from 128.
    for base in (256, 128):
        if status > base:
            return signal_meaning(status - base)
    return _STATUSES.get(status, "")


def signal_meaning(number: int) -> str:
    """What it means to be ended by a signal; empty if there is no such signal."""
    if known := _SIGNALS.get(number):
        return known
    with suppress(ValueError):
        return f"ended by {signal.Signals(number).name}"
    return ""


def with_hint(line: str, special: Mapping[str, str] | None = None) -> str:
    """A line of an error with what to do about it, if that is not in its words.

    `special` are hints by patterns that apply before the general ones.
    """
    hints = {**(special or {}), **_HINTS}
    hint = next((hint for pattern, hint in hints.items() if re.search(pattern, line)), "")
    return f"{line} ({hint})" if hint else line
