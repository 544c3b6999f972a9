"""Runs a command of inspect-ai beside a vLLM server that lives as long as the command:

    python -m run_experiment.evaluation.vllm.server --model-path DIR --tokenizer-path DIR -- inspect eval-set …

The server listens on a socket in a folder that only this user can open, so it needs neither a port nor a key, and no
other user of the node can ask it anything. It may run in an environment of its own, since vLLM needs a torch of its
own: `--environment` is a line that activates it. Options that are not known here are given to `vllm serve`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from run_experiment.evaluation.command import model_argument
from run_experiment.evaluation.shared_client import PLACE
from run_experiment.evaluation.vllm.serving import (
    ADAPTER,
    BASE,
    Served,
    ServerError,
    own_folder,
    running,
    server_environment,
    shell,
    version_once_ready,
)
from run_experiment.evaluation.vllm.shared import shared_server
from run_experiment.machine.processes import Terminated, raise_on_sigterm, wait_for

# Where our provider finds the server, and the name that it asks the model by.
SOCKET, MODEL = "RUN_EXPERIMENT_VLLM_SOCKET", "RUN_EXPERIMENT_VLLM_MODEL"
_RUN_INSPECT = "from run_experiment.evaluation.vllm.provider import main; main()"


def main() -> None:
    """Start the server, run the command, end the server, and end as the command ended."""
    raise_on_sigterm()
    asked, options, command = _arguments(sys.argv[1:])
    try:
        status = _beside_server(asked, options, command)
    except ServerError as error:
        sys.exit(f"vLLM: {error}")
    except (Terminated, KeyboardInterrupt) as error:
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 143)
    sys.exit(status if status >= 0 else 128 - status)


def _arguments(words: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
    """What was asked for, further options of `vllm serve`, and the command."""
    parser = argparse.ArgumentParser(prog="run_experiment.evaluation.vllm.server", allow_abbrev=False)
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--tokenizer-path", required=True)
    parser.add_argument("--environment")
    parser.add_argument("--seed", default="0")
    at = words.index("--") if "--" in words else len(words)
    command = list(words[at + 1 :])
    if command[:1] != ["inspect"]:
        parser.error("expected -- and a command of inspect")
    asked, options = parser.parse_known_args(words[:at])
    return asked, options, command


def _beside_server(asked: argparse.Namespace, options: list[str], command: list[str]) -> int:
    """The exit status of the command, with a server on a socket. Raises ServerError."""
    served = Served.of(Path(asked.model_path))
    serve = [
        *("serve", str(served.base), "--tokenizer", str(Path(asked.tokenizer_path).absolute()), "--seed", asked.seed),
        # A line for each sample would hide what matters in the job's log.
        *("--uvicorn-log-level", "warning"),
        *options,
    ]
    with _server(served, asked.environment, serve) as (socket, version, model):
        facts = {"model_path": asked.model_path, "tokenizer_path": asked.tokenizer_path, "vllm_version": version}
        inspect = [*command[1:], *(word for name, value in facts.items() for word in model_argument(name, value))]
        environment = {**os.environ, SOCKET: socket, MODEL: model}
        with running([sys.executable, "-c", _RUN_INSPECT, *inspect], environment) as process:
            return wait_for(process)


@contextmanager
def _server(served: Served, environment: str | None, serve: list[str]) -> Iterator[tuple[str, str, str]]:
    """Socket and version of a server, and the model's name there: the one of the job if its evaluations share one."""
    if place := os.environ.get(PLACE):
        with shared_server(Path(place), served, shell(environment, serve)) as found:
            yield found
        return
    with own_folder() as folder:
        socket = folder / "vllm.sock"
        command = shell(environment, [*serve, *served.options, "--uds", str(socket)])
        with running(command, server_environment(), own_group=True) as process:
            version = version_once_ready(socket, process)
            yield str(socket), version, ADAPTER if served.adapter else BASE


if __name__ == "__main__":
    main()
