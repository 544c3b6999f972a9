"""Runs Snakemake in forks of a process that has imported it: most of a short start is imports.

Each line of stdin asks for one run, as JSON; a line of stdout answers with its exit status.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

# What every start imports, beside `snakemake.cli` and the plugins.
IMPORTED = (
    "jinja2",
    "nbformat",
    "run_experiment.planning.build",
    "run_experiment.session.log",
    "smart_open",
    "snakemake_logger_plugin_action_log",
)
LIMIT_SECONDS = 600


def serve() -> None:
    """Answer requests until stdin ends. In a fork it returns, once the fork is as a new process would be."""
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            prepare(json.loads(line))
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def prepare(request: dict[str, Any]) -> None:
    """Give this fork the working directory, environment, output and arguments that are asked for."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    with open(request["output"], "wb") as output, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv[1:] = request["arguments"]
    # One that hangs is killed.
    signal.alarm(LIMIT_SECONDS)


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
