"""The program `inspect` of jobs that share a process: hands its call to that process, which it starts if there is none.

It runs without this package, since it has to start in no time.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

# Folder with the sockets of the job (`job`) and of the process (`inspect`).
PLACE = "RUN_EXPERIMENT_SHARED"
# Models whose process can evaluate one after the other.
_PROVIDERS = ("hf/", "mockllm/")
# Answer of a process that cannot take this call: it is gone, and another one can.
AGAIN = "again"
# Seconds for the process to listen.
_PATIENCE = 60.0
# What a shell makes of a child that was killed.
_KILLED = 137


def main() -> None:
    """Make the call in the shared process, else in one of its own, and end as it ended."""
    arguments = sys.argv[1:]
    while _may_share(arguments) and (connection := _connected()):
        with connection:
            answer = _answer(connection, arguments)
        if answer != AGAIN:
            sys.exit(int(answer or _KILLED))
    program = str(Path(sys.executable).with_name("inspect"))
    os.execv(program, [program, *arguments])


def _may_share(arguments: list[str]) -> bool:
    model = arguments[arguments.index("--model") + 1] if "--model" in arguments[:-1] else ""
    return PLACE in os.environ and model.startswith(_PROVIDERS)


def _answer(connection: socket.socket, arguments: list[str]) -> str:
    """The exit status of the call; empty if the process died of it."""
    call = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    try:
        socket.send_fds(connection, [b"\0"], [0, 1, 2])
        connection.sendall(json.dumps(call).encode() + b"\n")
        return connection.makefile(encoding="utf-8").readline().strip()
    except ConnectionError:
        return ""


def _connected() -> socket.socket | None:
    """A connection to the process, which is started if it is not there; None if it cannot be."""
    place = os.environ[PLACE]
    if found := connect(place, "inspect"):
        return found
    process = subprocess.Popen(
        [sys.executable, "-m", "run_experiment.evaluation.shared_process", place],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        if found := connect(place, "inspect"):
            return found
        time.sleep(0.02)
    return None


def connect(place: str, name: str) -> socket.socket | None:
    """A connection to a socket in a folder, from there: the path of a socket may have only some 100 bytes."""
    here, found = os.getcwd(), socket.socket(socket.AF_UNIX)
    try:
        os.chdir(place)
        found.connect(name)
    except OSError:
        found.close()
        return None
    finally:
        os.chdir(here)
    return found


if __name__ == "__main__":
    main()
