"""Runs a job script, and ends all processes that it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from run_experiment.jobscripts.environment import script_command, script_environment
from run_experiment.machine.processes import ending_deferred, signal_group, wait_for

# Seconds that a script may take to end after SIGTERM; SLURM kills the whole job after 30 s.
_GRACE = 15.0
# Signals that a script may have a trap for; SIGTERM ends the job.
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
# Exit status of a shell that does not find a command.
_NOT_FOUND = 127
# Seconds for processes that outlive the script.
_GRACE_OF_REST = 3.0


def run_script(
    script: Path,
    output: BinaryIO,
    environment: Mapping[str, str],
    folder: Path = Path(),
    lock: BinaryIO | None = None,
    *,
    is_rendered: bool,
    programs: Sequence[Path] = (),
    meanwhile: Callable[[], object] = lambda: None,
) -> int:
    """Run a job script in a folder, with its output in a log; returns its exit status.

    The script inherits the lock, in case this process is killed and the script survives. `python` and the tools beside
    it are those of this environment, unless the script activates another; programs in the folders `programs` come
    before them. Of a script that is not `is_rendered`, lines of other sites are skipped. All processes that it started
    end with it, as in a SLURM job, even if this process is interrupted or terminated. `meanwhile` is called once the
    script runs; it returns at once.
    """
    with tempfile.TemporaryDirectory(prefix="run-experiment-") as own:
        inherited = script_environment(
            os.environ, folder, Path(own), script, is_rendered=is_rendered, programs=programs
        )
        command = script_command(script.absolute(), inherited["PATH"])
        if not shutil.which(command[0], path=inherited["PATH"]):
            output.write(f"its first line names {command[0]}, which this machine does not have\n".encode())
            return _NOT_FOUND
        # Before the script can be ready for them.
        signals = _Signals()
        with ending_deferred() as end_now:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**inherited, **environment},
                process_group=0,
                pass_fds=[lock.fileno()] if lock else [],
            )
            try:
                end_now()
                signals.pass_on_to(process)
                meanwhile()
                status = wait_for(process)
            except BaseException as error:
                _end(process, signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
                raise
        # Processes that outlive the script would run beside the next job.
        _end(process, signal.SIGTERM)
        return status


class _Signals:
    """Sends the script what `#SBATCH --signal=B:…` and `scancel --batch` send to its job, for it to save its state.

    Once the script has ended nothing happens by them: the job has yet to write its record.
    """

    def __init__(self) -> None:
        self._script: subprocess.Popen[bytes] | None = None
        # Those that came before the script was known.
        self._early: list[int] = []
        for number in _PASSED_ON if "SLURM_JOB_ID" in os.environ else ():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)

    def _receive(self, number: int, _: object) -> None:
        if self._script:
            self._script.send_signal(number)
        else:
            self._early.append(number)

    def pass_on_to(self, script: subprocess.Popen[bytes]) -> None:
        """From now on the script gets them."""
        self._script = script
        for number in self._early:
            script.send_signal(number)


def _end(process: subprocess.Popen[bytes], by: signal.Signals) -> None:
    """End a script and everything that it started, so that its log is complete.

    What it started has as long as the script itself if that is interrupted: a training saves its state.
    """
    last = time.monotonic() + (_GRACE if process.poll() is None else _GRACE_OF_REST)
    signal_group(process.pid, by)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_GRACE)
    # Background processes of a shell ignore SIGINT.
    if by != signal.SIGTERM:
        signal_group(process.pid, signal.SIGTERM)
    last = max(last, time.monotonic() + _GRACE_OF_REST)
    while signal_group(process.pid, 0) and time.monotonic() < last:
        time.sleep(0.05)
    signal_group(process.pid, signal.SIGKILL)
    process.wait()
