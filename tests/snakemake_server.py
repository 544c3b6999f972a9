"""Runs Snakemake in forks of a process that has imported it: most of a short start is imports.

Each line of stdin asks for one run, as JSON; a line of stdout answers with its process id. Its exit status is written
to a file once it has ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

# What every start imports, beside `snakemake.cli` and the plugins.
IMPORTED = (
    "jinja2",
    "nbformat",
    "run_experiment.planning.build",
    "run_experiment.session.log",
    "smart_open",
    "snakemake_logger_plugin_action_log",
)


def serve() -> None:
    """Answer requests until stdin ends. In a fork it returns, once the fork is as a new process would be."""
    for line in sys.stdin.buffer:
        # A keeper of its own waits for each run, so that runs may overlap.
        if os.fork() == 0:
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                prepare(request)
                return
            keep(pid, request["status"])
        reap()
    sys.exit()


def keep(pid: int, path: str) -> NoReturn:
    """Write the exit status of a run to a file at its end."""
    _, status = os.waitpid(pid, 0)
    with open(f"{path}.new", "w") as file:
        file.write(str(os.waitstatus_to_exitcode(status)))
    os.rename(f"{path}.new", path)
    os._exit(0)


def reap() -> None:
    """Forget keepers that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def prepare(request: dict[str, Any]) -> None:
    """Give this fork the working directory, environment, output and arguments that are asked for.

    As a shell starts it, it gets a process group of its own, which Ctrl-C reaches whole.
    """
    os.setsid()
    answer = os.dup(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if request["ignores_hangup"] else signal.SIG_DFL)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    with open(request["output"], "wb") as output, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv[1:] = request["arguments"]
    # From here on it may be sent signals.
    os.write(answer, f"{os.getpid()}\n".encode())
    os.close(answer)


if __name__ == "__main__":
    import snakemake.cli

    for name in IMPORTED:
        import_module(name)
    # This finds the plugins and imports them.
    snakemake.cli.get_argument_parser()
    gc.freeze()
    serve()
    # Only a fork comes here; at the top of the stack it ends as any process does.
    snakemake.cli.main()
