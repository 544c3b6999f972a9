"""`run-experiment view`: inspect-ai's viewer on exactly the logs that are in the results."""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.errors import CommandError, InputError
from run_experiment.common.text import counted, harmless
from run_experiment.machine.processes import Terminated, ending_deferred, raise_on_sigterm
from run_experiment.planning.results_state import Records
from run_experiment.results.collect import read_records

HOST, PORT = "127.0.0.1", 7575
# Seconds between looks for evaluations that were finished meanwhile.
REFRESH_SECONDS = 30.0
# Linux's request to share the blocks of a file with another one.
_FICLONE = 0x40049409
# Seconds that the viewer may take to end.
_GRACE = 5.0


def view(records: Records, port: int = PORT) -> int:
    """Serve the logs of an experiment's results until Ctrl-C; returns the viewer's exit status. Raises CommandError."""
    logs, command = result_logs(records), _inspect()
    _require_logs(records, logs)
    _require_free(port)
    with _own_folder(records.experiment.folder) as folder:
        shown = ShownLogs(Path(folder))
        shown.update(logs)
        found = f"{counted(len(logs), 'log')} of {harmless(records.experiment.name)}"
        print(f"{found}: http://{HOST}:{port}. Ctrl-C ends this.", flush=True)
        place = ["--log-dir", folder, "--host", HOST, "--port", str(port)]
        return _served([command, "view", "start", *place], records.experiment.folder, shown)


def result_logs(records: Records) -> dict[str, Path]:
    """The log of every evaluation in the results that is there, by its name in the viewer: `r8/shout_epoch1.eval`."""
    made, folder = records.evaluations(), records.experiment.folder
    logs = {
        f"{item.run.name}/{item.cell}.eval": folder / paths.eval_log(item.run.name, item.cell)
        for item in records.experiment.evaluations
        if item.subject in made
    }
    return {name: log for name, log in logs.items() if log.is_file()}


def _require_logs(records: Records, logs: Mapping[str, Path]) -> None:
    if not logs:
        folder = records.experiment.folder
        raise CommandError(
            f"{folder}: no evaluation is done yet, so there is no log to show.\n"
            f"What runs or failed: run-experiment status {folder}"
        )


def _inspect() -> str:
    """inspect-ai's command: the one of this environment, else the first on PATH."""
    beside = Path(sys.executable).with_name("inspect")
    found = str(beside) if beside.exists() else shutil.which("inspect")
    if found is None:
        raise CommandError("inspect-ai is not installed here, and its viewer is a part of it: pip install inspect-ai")
    return found


def _require_free(port: int) -> None:
    """Refuse a port that is in use: inspect-ai would end the user's viewer that has it."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise CommandError(
                f"Port {port} of {HOST} cannot be used ({reason}): choose another one, --port N"
            ) from error


def _own_folder(experiment: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder of this viewer alone, on the logs' file system if the user may write there."""
    with suppress(OSError):
        memory = experiment / paths.MEMORY
        memory.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="view-", dir=memory)
    return tempfile.TemporaryDirectory(prefix="run-experiment-view-")


class ShownLogs:
    """Copies of the results' logs in a folder: the viewer lists no symbolic links, and edits what it shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # When each log was written that is copied, by its name.
        self._copied: dict[str, int] = {}

    def update(self, logs: Mapping[str, Path]) -> None:
        """Copy what is new or was made again, and remove what is no result any more."""
        for name, log in logs.items():
            written = log.stat().st_mtime_ns
            if self._copied.get(name) != written:
                _clone(log, self.folder / name)
                self._copied[name] = written
        for name in self._copied.keys() - logs.keys():
            (self.folder / name).unlink(missing_ok=True)
            del self._copied[name]


def _clone(log: Path, place: Path) -> None:
    """Copy a file, at no cost if the file system can share its blocks; the viewer never sees half of it."""
    place.parent.mkdir(exist_ok=True)
    part = place.with_suffix(".part")
    with log.open("rb") as source, part.open("wb") as target:
        try:
            fcntl.ioctl(target, _FICLONE, source.fileno())
        except OSError:
            shutil.copyfileobj(source, target, 1 << 20)
    shutil.copystat(log, part)
    part.chmod(0o600)
    part.replace(place)


def _served(command: list[str], experiment: Path, shown: ShownLogs) -> int:
    """Run the viewer until it or this process is ended; returns its exit status, 0 if the user ended it."""
    raise_on_sigterm()
    # A terminal that is closed ends the viewer, too.
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    # Not in the user's folder, whose `.env` it would read.
    with ending_deferred() as end_now:
        viewer = subprocess.Popen(command, cwd=shown.folder, stdin=subprocess.DEVNULL)
        try:
            end_now()
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return viewer.wait(timeout=REFRESH_SECONDS)
                _refresh(experiment, shown)
        except (KeyboardInterrupt, Terminated):
            return 0
        finally:
            _end(viewer)


def _refresh(experiment: Path, shown: ShownLogs) -> None:
    """Show what was evaluated meanwhile; while the summary is being edited, or a disk is full, all stays as it is."""
    with suppress(InputError, OSError):
        shown.update(result_logs(read_records(experiment)))


def _end(viewer: subprocess.Popen[bytes]) -> None:
    for end in (viewer.terminate, viewer.kill):
        end()
        with suppress(subprocess.TimeoutExpired):
            viewer.wait(timeout=_GRACE)
            return
