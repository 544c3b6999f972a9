"""vLLM's server beside a command of inspect-ai: how it is started, who can ask it, and that it ends with the command.

The command is a Python that sleeps or ends; tests/train/test_vllm.py has inspect-ai evaluate.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_server_stand_in import PROGRAMS, StandIn

from run_experiment.evaluation.shared_client import PLACE
from run_experiment.evaluation.vllm.ranks import LARGEST_RANK, RANK, largest_served, served_rank
from run_experiment.evaluation.vllm.serving import Served, ServerError
from run_experiment.jobs.shared_inspect import shared_inspect

# In place of inspect-ai: it says its number and arguments, and then waits to be ended.
WAITS = "import os, sys, time; print(os.getpid(), sys.argv[1:], flush=True); time.sleep(600)"
SOCKET = "import os; s = os.environ['RUN_EXPERIMENT_VLLM_SOCKET']; print(oct(os.stat(os.path.dirname(s)).st_mode), s)"
PATIENCE = 30


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model's folder as far as the server looks at it; inspect-ai's own provider would cut its path."""
    folder = tmp_path / "models: all of us" / "base"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def write_adapter(folder: Path, base: Path, **config: Any) -> Path:
    folder.mkdir()
    values = {"r": 8, "base_model_name_or_path": str(base), **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "records.jsonl")


@pytest.fixture
def start(base: Path, stand_in: StandIn) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the server's program with a command in place of inspect-ai."""
    started: list[subprocess.Popen[str]] = []

    def begin(command: str, *options: str, model: Path = base, **environment: str) -> subprocess.Popen[str]:
        # Whoever runs the tests in the background has them ignore SIGINT.
        program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        program += f"import run_experiment.evaluation.vllm.server as program; program._RUN_INSPECT = {command!r}"
        given = ["--model-path", str(model), "--tokenizer-path", str(base), *options, "--", "inspect", "eval-set", "t"]
        process = subprocess.Popen(
            [sys.executable, "-c", f"{program}; program.main()", *given],
            env={**os.environ, **stand_in.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    until(lambda: not stand_in.alive())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ranks_are_rounded_up_to_those_that_vllm_takes() -> None:
    asked = [1, 2, 4, 8, 9, 64, 65, 128, 200, 256, 257, 320, 321, 512]
    assert [served_rank(rank) for rank in asked] == [
        1,
        8,
        8,
        8,
        16,
        64,
        128,
        128,
        256,
        256,
        320,
        320,
        512,
        LARGEST_RANK,
    ]


def test_an_adapter_is_served_with_its_base_model(start: Any, stand_in: StandIn, base: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "epoch=0: a b", base, r=4, rank_pattern={"layers.1": 12})
    process = start("import sys; print(sys.argv)", "--seed", "7", "--gpu-memory-utilization=0.5", model=adapter)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    [given] = stand_in.recorded("start")
    assert given["arguments"][:2] == ["serve", str(base)]
    options = stand_in.options
    assert (options["--max-lora-rank"], options["--dtype"], options["--seed"]) == ("16", "bfloat16", "7")
    assert json.loads(options["--lora-modules"])["path"] == str(adapter)
    assert "--gpu-memory-utilization=0.5" in given["arguments"]
    # The rest of the command is as it was, with what only the server's program knows behind it.
    assert f"['-c', 'eval-set', 't', '-M', 'model_path=\"{adapter}\"'" in output or f"model_path={adapter}" in output
    assert "vllm_version=0.33.0" in output
    assert not stand_in.alive()


def test_only_this_user_can_ask_it(start: Any, stand_in: StandIn) -> None:
    output, _ = start(SOCKET, VLLM_API_KEY="a key of the user's own").communicate()
    mode, socket = output.split()
    assert int(mode, 8) & 0o777 == 0o700
    [given] = stand_in.recorded("start")
    assert not {"--host", "--port", "--api-key"} & set(given["arguments"])
    assert "VLLM_API_KEY" not in given["environment"]
    assert not Path(socket).parent.exists()


def test_it_may_have_an_environment_of_its_own(start: Any, stand_in: StandIn, tmp_path: Path) -> None:
    activate = tmp_path / "activate"
    activate.write_text(f"export OF_THE_ENVIRONMENT=1 PATH={PROGRAMS}:$PATH\n")
    beside = os.pathsep.join(part for part in stand_in.environment["PATH"].split(":") if part != str(PROGRAMS))
    process = start(
        "import os; print(os.environ.get('OF_THE_ENVIRONMENT'))", "--environment", f"source {activate}", PATH=beside
    )
    assert process.communicate()[0].strip() == "None"
    assert "OF_THE_ENVIRONMENT" in stand_in.recorded("start")[0]["environment"]


def test_conda_can_activate_it_in_any_shell(start: Any, stand_in: StandIn, tmp_path: Path) -> None:
    conda = tmp_path / "conda"
    conda.write_text("#!/bin/sh\necho 'conda() { export OF_THE_ENVIRONMENT=$2; }'\n")
    conda.chmod(0o755)
    process = start("pass", "--environment", "conda activate vllm", CONDA_EXE=str(conda))
    process.communicate()
    assert process.returncode == 0
    assert "OF_THE_ENVIRONMENT" in stand_in.recorded("start")[0]["environment"]


def test_the_exit_status_is_that_of_the_command(start: Any, stand_in: StandIn) -> None:
    process = start("raise SystemExit(3)")
    process.communicate()
    assert process.returncode == 3
    assert not stand_in.alive()


@pytest.mark.parametrize(
    ("number", "whole", "status"),
    [(signal.SIGTERM, True, 143), (signal.SIGINT, True, 130), (signal.SIGKILL, True, -9), (signal.SIGKILL, False, 137)],
    ids=["a time limit", "an interrupt", "a killed program", "a killed inspect"],
)
def test_the_server_ends_with_the_command(
    start: Any, stand_in: StandIn, number: signal.Signals, whole: bool, status: int
) -> None:
    process = start(WAITS)
    inspect = int(process.stdout.readline().split()[0])
    assert len(stand_in.alive()) == 2
    os.kill(process.pid if whole else inspect, number)
    process.communicate()
    assert process.returncode == status
    until(lambda: not stand_in.alive() and not Path(f"/proc/{inspect}").exists())


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"PATH": os.path.dirname(sys.executable) + ":/usr/bin:/bin"},
            "there is no program `vllm` in this environment",
        ),
        (
            {"VLLM_STAND_IN_FAILS": "1"},
            "less than desired GPU memory utilization\nvLLM: the server ended with exit status 1",
        ),
    ],
    ids=["not installed", "no memory"],
)
def test_a_server_that_does_not_start_fails_the_command(start: Any, environment: dict[str, str], said: str) -> None:
    process = start("print('never')", **environment)
    output, _ = process.communicate()
    assert said in output
    assert "never" not in output
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"r": 513}, "of rank 513"),
        ({"r": None}, "of rank None"),
        ({"base_model_name_or_path": "nowhere"}, "names no folder of a base model: nowhere"),
    ],
)
def test_what_cannot_be_served_is_refused(base: Path, tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ServerError, match=said):
        Served.of(write_adapter(tmp_path / "adapter", base, **config))


MODEL = "import os; print('asks', os.environ['RUN_EXPERIMENT_VLLM_MODEL'])"


@pytest.fixture
def shared() -> Iterator[dict[str, str]]:
    """Variables of a job of several evaluations, the largest adapter of which is of rank 16."""
    with shared_inspect({RANK: "16"}) as found:
        yield found.environment


def asked(process: subprocess.Popen[str]) -> str:
    """The name that an evaluation asked its model by."""
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return next(line.split()[1] for line in output.splitlines() if line.startswith("asks"))


def test_evaluations_of_a_job_share_a_server(
    start: Any, stand_in: StandIn, shared: dict[str, str], base: Path, tmp_path: Path
) -> None:
    adapters = [write_adapter(tmp_path / f"epoch {number}", base, r=rank) for number, rank in enumerate((4, 16))]
    names = [asked(start(MODEL, model=model, **shared)) for model in (base, *adapters, adapters[0])]
    [given] = stand_in.recorded("start")
    assert stand_in.options["--max-lora-rank"] == "16"
    assert "--lora-modules" not in given["arguments"]
    requests = [
        (Path(one["path"]).name, one["lora_name"], one.get("lora_path")) for one in stand_in.recorded("request")
    ]
    loaded = [str(one) for one in (*adapters, adapters[0])]
    # A name is used once: what a server caches by name is of one adapter.
    assert names[0] == "base"
    assert len(set(names)) == 4
    expected = [
        entry
        for name, path in zip(names[1:], loaded, strict=True)
        for entry in (("load_lora_adapter", name, path), ("unload_lora_adapter", name, None))
    ]
    assert requests == expected
    assert len(stand_in.alive()) == 2


def test_the_shared_server_has_ended_once_the_job_has(start: Any, stand_in: StandIn) -> None:
    with shared_inspect({}) as job:
        asked(start(MODEL, **job.environment))
        assert len(stand_in.alive()) == 2
    assert not stand_in.alive()


def test_the_shared_server_ends_with_a_killed_job(start: Any, stand_in: StandIn) -> None:
    program = "import os, time; from run_experiment.jobs.shared_inspect import shared_inspect\n"
    program += "with shared_inspect({}) as job: print(job.place, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout
        asked(start(MODEL, **{PLACE: job.stdout.readline().strip()}))
        assert stand_in.alive()
        job.kill()
    until(lambda: not stand_in.alive())


@pytest.mark.parametrize("what", ["a killed server", "other options"])
def test_a_server_that_cannot_be_used_is_replaced(
    start: Any, stand_in: StandIn, shared: dict[str, str], what: str
) -> None:
    asked(start(MODEL, **shared))
    options = []
    if what == "a killed server":
        os.kill(stand_in.recorded("start")[0]["processes"][0], signal.SIGKILL)
    else:
        options = ["--gpu-memory-utilization=0.5"]
    assert asked(start(MODEL, *options, **shared)) == "base"
    assert len(stand_in.recorded("start")) == 2
    # The first one has freed its GPU.
    until(lambda: len(stand_in.alive()) == 2)


def test_an_adapter_that_cannot_be_loaded_costs_the_others_nothing(
    start: Any, stand_in: StandIn, shared: dict[str, str], base: Path, tmp_path: Path
) -> None:
    asked(start(MODEL, **shared))
    bad = write_adapter(tmp_path / "bad", base, r=8)
    (bad / "adapter_config.json").write_text(json.dumps({"r": 8, "base_model_name_or_path": str(base), "refused": 1}))
    process = start("print('never')", model=bad, **shared)
    output, _ = process.communicate()
    assert process.returncode == 1
    assert f"cannot load the adapter {bad}" in output
    assert "never" not in output
    assert asked(start(MODEL, model=write_adapter(tmp_path / "good", base), **shared)).startswith("adapter-")
    assert len(stand_in.recorded("start")) == 1


def test_each_evaluation_has_the_output_of_the_server(start: Any, shared: dict[str, str]) -> None:
    process = start("print('never')", **shared, VLLM_STAND_IN_FAILS="1")
    output, _ = process.communicate()
    assert "less than desired GPU memory utilization" in output
    assert "vLLM: the server ended with exit status 1" in output
    assert process.returncode == 1
    assert asked(start(MODEL, **shared)) == "base"


def test_a_server_is_started_for_the_largest_adapter_of_a_job(base: Path, tmp_path: Path) -> None:
    ranks = (4, 12, LARGEST_RANK + 1)
    folders = [write_adapter(tmp_path / f"r{rank}", base, r=rank) for rank in ranks]
    assert largest_served([base, *folders, tmp_path / "missing"]) == 16
    assert largest_served([base]) == 0
