"""Runs a command of inspect-ai beside a vLLM server that lives as long as the command:

    python -m run_experiment.evaluation.vllm.server --model-path DIR --tokenizer-path DIR -- inspect eval-set …

The server listens on a socket in a folder that only this user can open, so it needs neither a port nor a key, and no
other user of the node can ask it anything. It may run in an environment of its own, since vLLM needs a torch of its
own: `--environment` is a line that activates it. Options that are not known here are given to `vllm serve`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from run_experiment.common.json_files import read_record
from run_experiment.common.paths import ADAPTER_CONFIG
from run_experiment.evaluation.command import model_argument
from run_experiment.evaluation.vllm.ranks import LARGEST_RANK, adapter_rank, served_rank
from run_experiment.machine.processes import Terminated, raise_on_sigterm, signal_group

# Where our provider finds the server, and the names that it serves the base model and the adapter by.
SOCKET, BASE, ADAPTER = "RUN_EXPERIMENT_VLLM_SOCKET", "base", "adapter"
# Longer paths than some 100 bytes are no sockets.
_LONGEST_FOLDER = 60
# Seconds that inspect-ai gets to save its log, and the server to free its GPU: SLURM and the job wait little longer.
_GRACE, _GRACE_OF_SERVER = 8.0, 5.0
_POLL = 0.2
# Variables that would change the server: a key of the user's, and where it reports its use to.
_DROPPED = ("VLLM_API_KEY",)
_SET = {"VLLM_NO_USAGE_STATS": "1"}
# Where vLLM keeps what it compiled: the script's own cache folder is that of one data set.
_CACHE = "VLLM_CACHE_ROOT"
# conda's function, which a shell that is not interactive lacks.
_CONDA = 'eval "$("${CONDA_EXE:-conda}" shell.bash hook)" || exit; '
_PR_SET_PDEATHSIG = 1
_RUN_INSPECT = "from run_experiment.evaluation.vllm.provider import main; main()"


class ServerError(Exception):
    """vLLM cannot serve the model; the message says why."""


@dataclass(frozen=True)
class Served:
    """What is served: a base model's folder, and an adapter's with its rank, if there is one (absolute)."""

    base: Path
    adapter: Path | None = None
    rank: int = 0

    @classmethod
    def of(cls, folder: Path) -> Served:
        """What a folder holds: a whole model, or an adapter that names its base model. Raises ServerError."""
        config = read_record(folder / ADAPTER_CONFIG)
        if config is None:
            return cls(folder.absolute())
        base, rank = config.get("base_model_name_or_path"), adapter_rank(config)
        if not isinstance(base, str) or not Path(base).is_dir():
            raise ServerError(f"{folder / ADAPTER_CONFIG} names no folder of a base model: {base}")
        if rank is None or rank > LARGEST_RANK:
            raise ServerError(f"vLLM serves adapters of rank 1 to {LARGEST_RANK}, and {folder} is of rank {rank}")
        return cls(Path(base).absolute(), folder.absolute(), rank)

    @property
    def options(self) -> list[str]:
        """Options of `vllm serve`."""
        dtype = _saved_dtype(self.base)
        lora = {"name": ADAPTER, "path": str(self.adapter), "base_model_name": BASE}
        return [
            *("--served-model-name", BASE),
            # As hf loads it: vLLM would compute a model in fp32 with half the bits.
            *(("--dtype", dtype) if dtype else ()),
            *(
                ("--enable-lora", "--max-lora-rank", str(served_rank(self.rank)), "--lora-modules", json.dumps(lora))
                if self.adapter
                else ()
            ),
        ]


def _saved_dtype(model: Path) -> str | None:
    """Number format that a model's weights were saved in, as its config says; None if it does not."""
    config = read_record(model / "config.json") or {}
    known = config.get("dtype") or config.get("torch_dtype")
    return known if isinstance(known, str) else None


def main() -> None:
    """Start the server, run the command, end the server, and end as the command ended."""
    raise_on_sigterm()
    asked, options, command = _arguments(sys.argv[1:])
    try:
        with _folder() as folder:
            status = _beside_server(folder / "vllm.sock", asked, options, command)
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


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that only this user can open, with a short path."""
    usual = tempfile.gettempdir()
    place = usual if len(usual.encode()) <= _LONGEST_FOLDER else "/tmp"
    with tempfile.TemporaryDirectory(prefix="run-experiment-", dir=place) as name:
        yield Path(name)


def _beside_server(socket: Path, asked: argparse.Namespace, options: list[str], command: list[str]) -> int:
    """The exit status of the command, with a server on a socket. Raises ServerError."""
    served = Served.of(Path(asked.model_path))
    serve = [
        *("serve", str(served.base), "--uds", str(socket)),
        *("--tokenizer", str(Path(asked.tokenizer_path).absolute()), "--seed", asked.seed),
        *served.options,
        # A line for each sample would hide what matters in the job's log.
        *("--uvicorn-log-level", "warning"),
        *options,
    ]
    with _running(_shell(asked.environment, serve), _server_environment(), own_group=True) as server:
        version = _version_once_ready(socket, server)
        facts = {"model_path": asked.model_path, "tokenizer_path": asked.tokenizer_path, "vllm_version": version}
        inspect = [*command[1:], *(word for name, value in facts.items() for word in model_argument(name, value))]
        environment = {**os.environ, SOCKET: str(socket)}
        with _running([sys.executable, "-c", _RUN_INSPECT, *inspect], environment) as process:
            return process.wait()


def _shell(environment: str | None, serve: list[str]) -> list[str]:
    """The command that starts the server, in an environment of its own if a line activates one."""
    line = f"{environment} || exit; " if environment else ""
    conda = _CONDA if environment and "conda" in shlex.split(environment, comments=True)[:1] else ""
    return ["bash", "-c", f'{conda}{line}exec vllm "$@"', "vllm", *serve]


def _server_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    return {_CACHE: str(Path("~/.cache/vllm").expanduser()), **kept, **_SET}


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], *, own_group: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this block, and with this process, however that ends."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        process_group=0 if own_group else None,
        preexec_fn=_end_with_parent,
    )
    try:
        yield process
    finally:
        _end(process, own_group)


def _end_with_parent() -> None:
    """Have the kernel end this process once its parent is gone, even by SIGKILL; Linux alone can."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], own_group: bool) -> None:
    """End a process that may have ended, and all of its group if it has one of its own."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_OF_SERVER if own_group else _GRACE)
    if own_group:
        # vLLM computes in processes of its own, which hold the GPU.
        signal_group(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
    process.wait()


def _version_once_ready(socket: Path, server: subprocess.Popen[bytes]) -> str:
    """Wait until a server answers; its version. How long that takes only the job's time limit bounds.

    Raises ServerError if it ends before.
    """
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://vllm", timeout=60) as client:
        while server.poll() is None:
            with suppress(httpx.TransportError):
                if client.get("/health").is_success:
                    return str(client.get("/version").json().get("version", ""))
            time.sleep(_POLL)
    raise ServerError(_why_ended(server.returncode))


def _why_ended(status: int) -> str:
    if status == 127:
        return (
            "there is no program `vllm` in this environment; install vLLM, in an environment of its own since it needs "
            "another torch, and name that in the setting vllm_environment, or use `backend: hf`"
        )
    return f"the server ended with exit status {status} before it could answer; what it said is above"


if __name__ == "__main__":
    main()
