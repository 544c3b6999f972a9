"""A process that makes `inspect` calls one after the other: inspect-ai and torch are imported once, and a model that
several calls evaluate is loaded once.

Each call has its own environment, folder and output, as in a process of its own. What a call leaves that could change
the next one is undone; if that is not possible the process ends, and the next call gets a new one. The process also
ends after a call that failed, with the job that it belongs to, and with the program that waits for its answer.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from run_experiment.evaluation.shared_client import AGAIN, connect

# What may differ between calls: options of inspect-ai and ours are read at each call; the others are the shell's.
_OWN = ("INSPECT_", "RUN_EXPERIMENT_")
_OF_CALLS = frozenset({"PATH", "PWD", "OLDPWD", "SHLVL", "_", "PYTHONHASHSEED", "XDG_DATA_HOME", "XDG_CACHE_HOME"})
# `datasets` reads it once, when it is imported.
_OF_DATA_SETS = "HF_DATASETS_CACHE"
# Module of the program `inspect`.
_INSPECT = "inspect_ai._cli.main"


@dataclass(frozen=True)
class Call:
    """A call of `inspect`: its arguments, and the folder and the environment that it is made in."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]

    @property
    def model(self) -> list[str]:
        """What decides which model is loaded, and how."""
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        return [value for option, value in pairs if option in ("--model", "-M", "--seed")]


def serve(place: str) -> None:
    """Make the calls that arrive at the socket in a folder, until one of them fails or cannot be made here."""
    job = connect(place, "job")
    if job is None:
        return
    _end_with(job, threading.Event())
    began_with, kept = dict(os.environ), list[str]()
    listener = _listener(place)
    while True:
        connection, _ = listener.accept()
        with connection:
            call, files = _received(connection)
            answer, done = AGAIN, threading.Event()
            if _fits(began_with, call.environment):
                _end_with(connection, done)
                answer, kept = str(_made(call, files, kept, place)), call.model
            done.set()
            if answer != "0":
                # Before the answer: the next call must not find it.
                listener.close()
                Path(place, "inspect").unlink(missing_ok=True)
            connection.sendall(f"{answer}\n".encode())
            if answer != "0":
                os._exit(0)


def _listener(place: str) -> socket.socket:
    os.chdir(place)
    Path("inspect").unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("inspect")
    listener.listen()
    return listener


def _end_with(connection: socket.socket, done: threading.Event) -> None:
    """End this process, and what it started, once the other side of a connection is gone before it is `done`."""

    def watch() -> None:
        with suppress(OSError):
            connection.recv(1)
        if not done.is_set():
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _received(connection: socket.socket) -> tuple[Call, list[int]]:
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile(encoding="utf-8") as said:
        return Call(**json.loads(said.readline())), files


def _fits(began_with: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a call in an environment may be made in a process that began with another one."""
    names = {name for name in {**began_with, **wanted} if name not in _OF_CALLS and not name.startswith(_OWN)}
    if "datasets" not in sys.modules:
        names.discard(_OF_DATA_SETS)
    return all(began_with.get(name) == wanted.get(name) for name in names)


def _made(call: Call, files: list[int], kept: list[str], place: str) -> int:
    """Make a call with these files as standard input, output and errors; `kept` is the model of the call before.

    Returns its exit status.
    """
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(call.environment)
    os.chdir(call.folder)
    try:
        # Sampled answers depend on what was drawn before, also while a model is loaded.
        if call.model != kept or "do_sample=true" in call.model:
            _drop_models()
        return _inspect(call)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.close(nothing)
        os.chdir(place)


def _inspect(call: Call) -> int:
    sys.argv = ["inspect", *call.arguments]
    try:
        if _INSPECT not in sys.modules:
            _import_inspect(call.model)
        with _own_modules():
            import_module(_INSPECT).main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _import_inspect(model: list[str]) -> None:
    """Import inspect-ai and what runs its models, none of which is searched for garbage, now or later.

    The search takes a third of the time of importing, and half a second of CPU time whenever a model is dropped.
    """
    gc.disable()
    try:
        # As its `main` does before it imports the rest, which reads some of these variables only then.
        import_module("inspect_ai._util.dotenv").init_dotenv()
        import_module(_INSPECT)
        if any(value.startswith("hf/") for value in model):
            # inspect-ai says it better if something is missing.
            with suppress(ImportError):
                import_module("inspect_ai.model._providers.hf")
        gc.freeze()
    finally:
        gc.enable()


def _drop_models() -> None:
    """Free the memory of loaded models."""
    if (_model := sys.modules.get("inspect_ai.model._model")) is None:
        return
    for model in _model._models.values():
        model.api.close()
    _model._models.clear()
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _own_modules() -> Iterator[None]:
    """Forget the user's modules that were imported meanwhile, and what they registered: another task's may have the
    same names.
    """
    from inspect_ai._util import registry

    modules, path, registered = set(sys.modules), list(sys.path), dict(registry._registry)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if not _is_installed(sys.modules[name]):
                del sys.modules[name]
        registry._registry.update(registered)


def _is_installed(module: Any) -> bool:
    """Whether a module is a part of Python or of an installed package; one that is not known to be of a file is."""
    file = getattr(module, "__file__", None)
    if file is None:
        return getattr(module, "__path__", None) is None
    return "site-packages" in file or file.startswith((sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)))


if __name__ == "__main__":
    serve(sys.argv[1])
