"""A vLLM server: what it serves, the command and the environment that start it, and that it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from run_experiment.common.json_files import read_record
from run_experiment.common.paths import ADAPTER_CONFIG
from run_experiment.evaluation.vllm.missing import no_vllm
from run_experiment.evaluation.vllm.ranks import LARGEST_RANK, adapter_rank, served_rank
from run_experiment.machine.processes import end_with_parent, signal_group

# Names that the base model and the adapter of a server's command are served by.
BASE, ADAPTER = "base", "adapter"
# Longer paths than some 100 bytes are no sockets.
_LONGEST_FOLDER = 60
# Seconds that inspect-ai gets to save its log, and the server to free its GPU: SLURM and the job wait little longer.
_GRACE, GRACE_OF_SERVER = 8.0, 5.0
POLL = 0.2
# Variables that would change the server: a key of the user's, and where it reports its use to.
_DROPPED = ("VLLM_API_KEY",)
_SET = {"VLLM_NO_USAGE_STATS": "1"}
# Where vLLM keeps what it compiled: the script's own cache folder is that of one data set.
_CACHE = "VLLM_CACHE_ROOT"
# conda's function, which a shell that is not interactive lacks.
_CONDA = 'eval "$("${CONDA_EXE:-conda}" shell.bash hook)" || exit; '


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
        lora = {"name": ADAPTER, "path": str(self.adapter), "base_model_name": BASE}
        modules = ["--lora-modules", json.dumps(lora)] if self.adapter else []
        return [*self.options_to_load(self.served_rank), *modules]

    @property
    def served_rank(self) -> int:
        """What `--max-lora-rank` has to be; 0 without an adapter."""
        return served_rank(self.rank) if self.adapter else 0

    def options_to_load(self, rank: int) -> list[str]:
        """Options of `vllm serve` for the base model, and adapters up to a rank that are loaded later; 0 for none."""
        dtype = _saved_dtype(self.base)
        return [
            *("--served-model-name", BASE),
            # As hf loads it: vLLM would compute a model in fp32 with half the bits.
            *(("--dtype", dtype) if dtype else ()),
            *(("--enable-lora", "--max-lora-rank", str(rank)) if rank else ()),
        ]


def _saved_dtype(model: Path) -> str | None:
    """Number format that a model's weights were saved in, as its config says; None if it does not."""
    config = read_record(model / "config.json") or {}
    known = config.get("dtype") or config.get("torch_dtype")
    return known if isinstance(known, str) else None


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that only this user can open, with a short path."""
    usual = tempfile.gettempdir()
    place = usual if len(usual.encode()) <= _LONGEST_FOLDER else "/tmp"
    with tempfile.TemporaryDirectory(prefix="run-experiment-", dir=place) as name:
        yield Path(name)


def shell(environment: str | None, serve: Sequence[str]) -> list[str]:
    """The command that starts the server, in an environment of its own if a line activates one."""
    line = f"{environment} || exit; " if environment else ""
    conda = _CONDA if environment and "conda" in shlex.split(environment, comments=True)[:1] else ""
    return ["bash", "-c", f'{conda}{line}exec vllm "$@"', "vllm", *serve]


def server_environment() -> dict[str, str]:
    """Environment of a server."""
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    return {_CACHE: str(Path("~/.cache/vllm").expanduser()), **kept, **_SET}


@contextmanager
def running(
    command: list[str], environment: dict[str, str], *, own_group: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this block, and with this process, however that ends."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        process_group=0 if own_group else None,
        preexec_fn=partial(end_with_parent, signal.SIGTERM),
    )
    try:
        yield process
    finally:
        _end(process, own_group)


def _end(process: subprocess.Popen[bytes], own_group: bool) -> None:
    """End a process that may have ended, and all of its group if it has one of its own."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_OF_SERVER if own_group else _GRACE)
    if own_group:
        # vLLM computes in processes of its own, which hold the GPU.
        signal_group(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
    process.wait()


def client(socket: str) -> httpx.Client:
    """What asks a server on a socket."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://vllm", timeout=60)


def version_once_ready(socket: Path, server: subprocess.Popen[bytes]) -> str:
    """Wait until a server answers; its version. How long that takes only the job's time limit bounds.

    Raises ServerError if it ends before.
    """
    with client(str(socket)) as asked:
        while server.poll() is None:
            with suppress(httpx.TransportError):
                if asked.get("/health").is_success:
                    return str(asked.get("/version").json().get("version", ""))
            time.sleep(POLL)
    raise ServerError(why_ended(server.returncode))


def why_ended(status: int) -> str:
    """Why a server that ended before it could answer did so."""
    if status == 127:
        return no_vllm("in this environment")
    return f"the server ended with exit status {status} before it could answer; what it said is above"
