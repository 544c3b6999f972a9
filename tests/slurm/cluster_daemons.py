"""The daemons of the test cluster, and the processes of its jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster_place import CONF, DATABASE_SOCKET, ENVIRONMENT, MUNGE_SOCKET, NODES, ROOT, ClusterError, cluster_name, run

START_SECONDS = 60


@dataclass(frozen=True)
class Daemon:
    """A daemon kept in the foreground, so that the process id is the one that was started.

    `complaint` says what is wrong with it, in nothing if it answers.
    """

    name: str
    command: tuple[str, ...]
    complaint: Callable[[], str]

    @property
    def log(self) -> Path:
        """What the daemon says in the foreground; SLURM's write a file with times beside it."""
        return ROOT / "log" / f"{self.name}.err"

    @property
    def pid_file(self) -> Path:
        """Holds the id of the process started last, which may long be another's."""
        return ROOT / "run" / f"{self.name}.pid"

    def pid(self) -> int | None:
        """The id of this daemon's process, if it lives."""
        try:
            pid = int(self.pid_file.read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            return None
        is_daemon = Path(arguments.partition("\0")[0]).name == self.command[0]
        return pid if is_daemon and (str(ROOT) in arguments or has_environment(pid, "SLURM_CONF", str(CONF))) else None

    def start(self) -> None:
        """Start the process; it writes its own pid file, so that none runs without one."""
        with self.log.open("ab") as log:
            subprocess.Popen(
                ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.pid_file), *self.command],
                env=ENVIRONMENT,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def last_lines(self) -> str:
        """The end of the log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line}" for line in lines[-15:])


def check(*command: str) -> Callable[[], str]:
    """A check that a command succeeds; the complaint is what it says otherwise."""

    def complaint() -> str:
        result = run(*command, timeout=3)
        return "" if result.returncode == 0 else result.stdout.strip() or "does not answer"

    return complaint


def check_node(name: str) -> Callable[[], str]:
    """A check that the controller would send jobs to a node; the complaint is the node's state."""

    def complaint() -> str:
        state = node_state(name)
        return "" if re.fullmatch("(idle|mixed|allocated|completing|planned)-?", state) else state

    return complaint


def node_state(name: str) -> str:
    """State of a node as sinfo has it; a `*` means that it does not answer."""
    return run("sinfo", "-h", "-n", name, "-p", "gpu", "-o", "%T", timeout=3).stdout.strip()


MARIADBD = (
    "mariadbd",
    "--no-defaults",
    "--user=mysql",
    f"--datadir={ROOT}/database/data",
    f"--socket={DATABASE_SOCKET}",
    f"--tmpdir={ROOT}/database",
    f"--pid-file={ROOT}/database/mariadbd.pid",
    "--skip-networking",
    "--innodb-buffer-pool-size=64M",
    # slurmdbd asks for it.
    "--innodb-lock-wait-timeout=900",
    # The accounts of a test cluster may get lost with the machine, not with the process.
    "--innodb-flush-log-at-trx-commit=2",
    # Not there in every container.
    "--innodb-use-native-aio=0",
)

MUNGED = (
    "munged",
    "--foreground",
    f"--key-file={ROOT}/munge/key",
    f"--socket={MUNGE_SOCKET}",
    f"--pid-file={ROOT}/munge/munged.pid",
    f"--seed-file={ROOT}/munge/seed",
)

# In the order of their start.
DAEMONS = (
    Daemon("munged", MUNGED, check("munge", "-n", "-S", str(MUNGE_SOCKET))),
    Daemon("mariadbd", MARIADBD, check("mariadb-admin", "--no-defaults", f"--socket={DATABASE_SOCKET}", "ping")),
    Daemon("slurmdbd", ("slurmdbd", "-D"), check("sacctmgr", "-n", "list", "cluster")),
    Daemon("slurmctld", ("slurmctld", "-D", "-f", str(CONF)), check("scontrol", "ping")),
    *(Daemon(name, ("slurmd", "-D", "-f", str(CONF), "-N", name), check_node(name)) for name in NODES),
)


def has_environment(pid: int, name: str, value: str) -> bool:
    """Whether a process was started with a variable of this value."""
    try:
        return f"{name}={value}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return any(os.readlink(link.path) == str(path) for link in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def is_step(pid: int, node: str) -> bool:
    """Whether a process follows a job on a node of this cluster."""
    try:
        program = Path(os.readlink(f"/proc/{pid}/exe")).name
    except OSError:
        return False
    return program.startswith("slurmstepd") and has_open(pid, ROOT / "log" / f"{node}.log")


def is_job(pid: int, node: str) -> bool:
    """Whether a process belongs to a job on a node of this cluster."""
    of_cluster = has_environment(pid, "SLURM_CLUSTER_NAME", cluster_name())
    return of_cluster and has_environment(pid, "SLURMD_NODENAME", node)


def processes(condition: Callable[[int, str], bool], node: str) -> list[int]:
    """Ids of the processes of a node for which a condition holds."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if condition(pid, node)]


def kill(daemon: Daemon) -> None:
    """End a daemon at once; with a node its jobs, and first what would tell of their end."""
    end(lambda: [pid for pid in [daemon.pid()] if pid is not None])
    if daemon.name in NODES:
        end(lambda: processes(is_step, daemon.name))
        end(lambda: processes(is_job, daemon.name))


def end(pids: Callable[[], list[int]], by: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to processes until none is found."""
    deadline = time.monotonic() + 20
    while found := pids():
        if time.monotonic() > deadline:
            raise ClusterError(f"these processes do not end: {found}")
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, by)
        time.sleep(0.1)


def wait_for(daemon: Daemon) -> None:
    """Wait until a daemon answers."""
    deadline = time.monotonic() + START_SECONDS
    while complaint := daemon.complaint():
        if time.monotonic() > deadline:
            state = complaint if daemon.pid() else "ended"
            raise ClusterError(f"{daemon.name}: {state}\nThe end of {daemon.log}:\n{daemon.last_lines()}")
        time.sleep(0.1)
