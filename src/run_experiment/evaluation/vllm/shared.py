"""A vLLM server that evaluations of one job share: the first one starts it, and it ends with the job.

A process of its own keeps it, since all that a script started ends with the script. Evaluations come one after the
other. Each has its own adapter loaded while it lasts; one that asks for another base model or other options, or finds a
server that does not answer any more, gets a new server.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from run_experiment.common.json_files import read_record, write_record
from run_experiment.common.process_identity import is_alive, start_ticks
from run_experiment.evaluation.shared_client import connect
from run_experiment.evaluation.vllm.ranks import RANK, SERVER
from run_experiment.evaluation.vllm.serving import (
    BASE,
    GRACE_OF_SERVER,
    POLL,
    Served,
    ServerError,
    client,
    own_folder,
    running,
    server_environment,
    version_once_ready,
    why_ended,
)
from run_experiment.machine.processes import Terminated, raise_on_sigterm

# In the folder of the job: what its server says.
_OUTPUT = "vllm.log"
# Adapters are loaded while it runs; it listens where only this user can ask.
_MAY_LOAD = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


@dataclass(frozen=True)
class Kept:
    """A server that a process keeps: its command, its socket (after `--uds`), its version once it is ready."""

    command: list[str]
    socket: str
    pid: int
    ticks: int | None
    version: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the process that keeps it lives."""
        return is_alive(self.pid, self.ticks)


@contextmanager
def shared_server(place: Path, served: Served, command: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The job's server for a model, started if there is none: its socket, its version, and the model's name there.

    `command` is that of the server without what the model needs. Raises ServerError.
    """
    rank = max(served.served_rank, int(os.environ.get(RANK, "0")))
    with _relayed(place / _OUTPUT):
        kept = _kept(place, [*command, *served.options_to_load(rank)])
        with _loaded(kept, served) as name:
            yield kept.socket, kept.version, name


def end_server(place: Path) -> None:
    """End the server of a job, if there is one, and wait until it has freed its GPU."""
    if (kept := _read(place)) is None:
        return
    with suppress(ProcessLookupError):
        if kept.is_kept:
            os.kill(kept.pid, signal.SIGTERM)
    end = time.monotonic() + 2 * GRACE_OF_SERVER
    while kept.is_kept and time.monotonic() < end:
        time.sleep(0.05)
    (place / SERVER).unlink(missing_ok=True)


def _kept(place: Path, command: list[str]) -> Kept:
    """The job's server if it has this command and answers, else a new one."""
    found = _read(place)
    if found and found.is_kept and found.command == command and _answers(found):
        return found
    end_server(place)
    with (place / _OUTPUT).open("ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "run_experiment.evaluation.vllm.shared", str(place), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while keeper.poll() is None:
            found = _read(place)
            if found and found.pid == keeper.pid and found.version:
                return found
            time.sleep(POLL)
    except BaseException:
        keeper.terminate()
        raise
    raise ServerError(why_ended(keeper.returncode))


def _read(place: Path) -> Kept | None:
    facts = read_record(place / SERVER)
    return Kept(**facts) if facts else None


def _answers(kept: Kept) -> bool:
    with suppress(httpx.HTTPError), client(kept.socket) as server:
        return bool(kept.version) and server.get("/health").is_success
    return False


@contextmanager
def _loaded(kept: Kept, served: Served) -> Iterator[str]:
    """The name that a model is asked by; an adapter is loaded meanwhile. Raises ServerError.

    Each time under another name: what is cached of one adapter must not answer for another.
    """
    if served.adapter is None:
        yield BASE
        return
    name = f"adapter-{secrets.token_hex(4)}"
    with client(kept.socket) as server:
        reply = server.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(served.adapter)})
    if not reply.is_success:
        raise ServerError(f"it cannot load the adapter {served.adapter}: {reply.text[:2000]}")
    try:
        yield name
    finally:
        # It may be gone.
        with suppress(httpx.HTTPError), client(kept.socket) as server:
            server.post("/v1/unload_lora_adapter", json={"lora_name": name})


@contextmanager
def _relayed(file: Path) -> Iterator[None]:
    """Meanwhile, what is written to a file also goes to standard output: the log of this evaluation."""
    file.touch()
    done = threading.Event()

    def relay() -> None:
        with file.open("rb") as output:
            output.seek(0, os.SEEK_END)
            is_last = False
            while not is_last:
                is_last = done.wait(POLL)
                sys.stdout.buffer.write(output.read())
                sys.stdout.buffer.flush()

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Keep the server of a job until the job has ended, or the server."""
    place, command = Path(sys.argv[1]), sys.argv[2:]
    raise_on_sigterm()
    if (job := connect(str(place), "job")) is None:
        return
    try:
        with own_folder() as folder, running(_with_socket(command, folder), _environment(), own_group=True) as server:
            socket = str(folder / "vllm.sock")
            facts: dict[str, Any] = {"command": command, "socket": socket}
            kept = Kept(**facts, pid=os.getpid(), ticks=start_ticks(os.getpid()))
            write_record(place / SERVER, asdict(kept))
            version = version_once_ready(Path(socket), server)
            write_record(place / SERVER, {**asdict(kept), "version": version or "unknown"})
            # Nothing ever arrives: it becomes readable once the job is gone.
            while server.poll() is None and not select.select([job], [], [], POLL)[0]:
                pass
    except ServerError:
        sys.exit(server.returncode if server.returncode > 0 else 1)
    except Terminated:
        sys.exit(128 + signal.SIGTERM)


def _with_socket(command: Sequence[str], folder: Path) -> list[str]:
    return [*command, "--uds", str(folder / "vllm.sock")]


def _environment() -> dict[str, str]:
    return {**server_environment(), **_MAY_LOAD}


if __name__ == "__main__":
    main()
