"""What the test cluster needs before its daemons start: packages, configuration, database, accounts."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from cluster_place import CONF, MARKER, NODES, PATH, PORTS, ROOT, ClusterError, cluster_name, demand, say

POLICY = Path("/usr/sbin/policy-rc.d")
GPUS_PER_NODE = 4
ACCOUNTS = ("lab", "guests")
PACKAGES = {
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "slurmdbd": "slurmdbd",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
}
# The system, or another test, may be installing something.
WAIT = "-oDPkg::Lock::Timeout=600"


def install() -> None:
    """Install the packages of commands that are missing, without starting their services."""
    packages = sorted({package for command, package in PACKAGES.items() if shutil.which(command, path=PATH) is None})
    if not packages:
        return
    if shutil.which("apt-get", path=PATH) is None:
        raise ClusterError(f"missing, and this is not Debian: {', '.join(packages)}")
    say(f"installing {', '.join(packages)}")
    with services_not_started():
        try:
            apt_install(packages)
        except ClusterError:
            # The package lists may be old, or not there.
            demand("apt-get", WAIT, "update", timeout=900)
            apt_install(packages)


def apt_install(packages: list[str]) -> None:
    """Install packages without a question; never at the price of one that is there."""
    options = ("--yes", "--no-install-recommends", "--no-remove")
    demand("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", WAIT, "install", *options, *packages, timeout=1_500)


@contextmanager
def services_not_started() -> Iterator[None]:
    """Keep packages from starting their services as they are installed."""
    kept = POLICY.with_name("policy-rc.d.kept")
    if POLICY.exists() and not kept.exists():
        POLICY.rename(kept)
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
        if kept.exists():
            kept.rename(POLICY)


def make_state() -> None:
    """Make folders, configuration, key, GPUs and database; what is there stays."""
    # Others have to reach the configuration and munge's socket.
    ROOT.chmod(0o755)
    for folder in ("etc", "run", "log", "state", "spool/n1", "spool/n2", "munge", "database"):
        (ROOT / folder).mkdir(parents=True, exist_ok=True)
    if not CONF.exists():
        render_configuration()
    make_key()
    for node in NODES:
        make_gpus(ROOT / "dev" / node)
    make_database()


def render_configuration() -> None:
    """Write the configuration; slurm.conf comes last, as it says that all are there."""
    ports = free_ports()
    values = {
        "root": str(ROOT),
        "host": socket.gethostname().partition(".")[0],
        # Unlike that of any other such cluster on this machine.
        "cluster": f"test{ports[0]}",
        **{f"port_{name}": str(port) for name, port in zip(("slurmctld", "slurmdbd", *NODES), ports, strict=True)},
    }
    for name in ("slurmdbd.conf", "gres.conf", "slurm.conf"):
        template = Template((Path(__file__).resolve().parent / f"{name}.in").read_text())
        write_whole(ROOT / "etc" / name, template.substitute(values).encode(), 0o600 if "dbd" in name else 0o644)


def free_ports() -> list[int]:
    """Ports that nobody listens on and no other cluster has, below those that the kernel hands out."""
    for first in range(17000, 18000, 10):
        ports = list(range(first, first + 2 + len(NODES)))
        if all(is_free(port) for port in ports) and take(first):
            return ports
    raise ClusterError("no free ports between 17000 and 18000")


def take(first_port: int) -> bool:
    """Keep ports for this cluster until it is removed: nobody listens on them while its daemons are down."""
    owner = PORTS / str(first_port)
    if owner.exists():
        return False
    PORTS.mkdir(exist_ok=True)
    # One that is gone.
    owner.unlink(missing_ok=True)
    owner.symlink_to(MARKER)
    return True


def is_free(port: int) -> bool:
    """Whether a port can be listened on."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("", port))
        except OSError:
            return False
    return True


def make_key() -> None:
    """Make a munge key of this cluster's own."""
    key = ROOT / "munge/key"
    if not key.exists():
        write_whole(key, os.urandom(128), 0o400)


def make_gpus(folder: Path) -> None:
    """Make device nodes that stand for GPUs; each is another /dev/null."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(GPUS_PER_NODE):
        path = folder / f"gpu{number}"
        if not path.exists():
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def make_database() -> None:
    """Make an empty database that only root gets to: its socket's folder is closed to others."""
    data, folder = ROOT / "database/data", ROOT / "database"
    if data.exists():
        return
    shutil.chown(folder, "mysql", "mysql")
    folder.chmod(0o700)
    made = folder / "data.new"
    shutil.rmtree(made, ignore_errors=True)
    options = ("--user=mysql", f"--datadir={made}", "--auth-root-authentication-method=normal", "--skip-test-db")
    demand("mariadb-install-db", "--no-defaults", *options)
    made.rename(data)


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is whole as soon as it is there."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    part.chmod(mode)
    part.rename(path)


def register() -> None:
    """Let root and the people of this machine submit, on account `lab` by default or on `guests`.

    They may use QOS `brief`, too, in which a job that asks for more than a minute waits for ever.
    """
    if cluster_name() not in listed("cluster", "cluster"):
        demand("sacctmgr", "-i", "add", "cluster", cluster_name())
    if missing := set(ACCOUNTS) - listed("account", "account"):
        demand("sacctmgr", "-i", "add", "account", ",".join(sorted(missing)))
    people = {user.pw_name for user in pwd.getpwall() if user.pw_uid == 0 or user.pw_uid >= 1000}
    if missing := people - listed("association", "user", "where", "account=lab"):
        users = ",".join(sorted(missing))
        demand("sacctmgr", "-i", "add", "user", users, f"account={','.join(ACCOUNTS)}")
        # Accounting knows root from the start, with an account of its own.
        demand("sacctmgr", "-i", "modify", "user", users, "set", "defaultaccount=lab")
    if "brief" not in listed("qos", "name"):
        demand("sacctmgr", "-i", "add", "qos", "brief", "set", "maxwall=1")
        demand("sacctmgr", "-i", "modify", "user", ",".join(sorted(people)), "set", "qos+=brief")


def listed(kind: str, column: str, *conditions: str) -> set[str]:
    """What a column holds in accounting's list of clusters, accounts or associations."""
    return set(demand("sacctmgr", "-nP", "list", kind, f"format={column}", *conditions).split())
