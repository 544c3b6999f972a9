"""At most one main process works on an experiment, and a dead one is in nobody's way."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from experiments import ExperimentFolder
from scaffolded import make_scaffolded
from snakemake_cli import SOURCE, planned, ran, snakemake

from run_experiment.common.experiment_lock import observe

EVERYTHING = Counter(run_finetune=2, verify_checkpoint=2, run_evaluation=3, prebuild_cache=1, collect_results=1)


@pytest.fixture
def gated(tmp_path: Path) -> ExperimentFolder:
    """An experiment whose trainings say that they have begun, and wait for a file `go`."""
    experiment = make_scaffolded(tmp_path / "experiment")
    for run in ("r4", "r8"):
        gate = f"echo $$ > {run}.pid\nuntil [ -e go ]; do sleep 0.1; done\n"
        experiment.edit(f"{run}/finetune.slurm", "set -e\n", f"set -e\n{gate}")
    return experiment


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The workflow at work on an experiment, in a process group of its own; killed with its jobs at the end."""
    log = folder.with_name("first.log")
    command = [sys.executable, "-m", "snakemake", "--quiet", "host", "--profile", "profiles/local"]
    command += ["--config", f"experiment_dir={folder}"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=SOURCE, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
    try:
        yield process
    finally:
        if any_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def any_lives(group: int) -> bool:
    """Whether a process group has processes."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def training(folder: Path, workflow: subprocess.Popen[str]) -> int:
    """Process number of the training that runs first, once it has begun."""
    wait_for(lambda: any(path.read_text() for path in folder.glob("r?.pid")) or workflow.poll() is not None)
    assert workflow.poll() is None, folder.with_name("first.log").read_text()
    return int(next(folder.glob("r?.pid")).read_text())


def test_second_process_is_refused_and_the_first_unharmed(gated: ExperimentFolder) -> None:
    with started(gated.path) as first:
        training(gated.path, first)
        second = snakemake(gated.path)
        assert second.returncode == 2, second.stdout
        owner = f"process {first.pid} on {socket.gethostname()} (user {getpass.getuser()}, since "
        assert f"{gated.path} is already being worked on by {owner}" in second.stdout
        assert "Traceback" not in second.stdout
        assert "Not done:" not in second.stdout
        assert ran(second.stdout) == Counter()
        # To look is allowed.
        assert planned(gated.path)["run_finetune"] == 2

        (gated.path / "go").touch()
        assert first.wait(timeout=120) == 0
    assert ran(gated.path.with_name("first.log").read_text()) == EVERYTHING
    assert planned(gated.path) == Counter()


def test_killed_process_leaves_nothing_to_unlock(gated: ExperimentFolder) -> None:
    with started(gated.path) as first:
        job = training(gated.path, first)
        first.kill()
        first.wait()
        # Its jobs outlive it, and do not hold its claim.
        assert Path(f"/proc/{job}").exists()
        assert not observe(gated.path).at_work
        for group in (first.pid, os.getpgid(job)):
            os.killpg(group, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{job}").exists())
    # As Snakemake itself leaves it behind.
    locks = gated.path / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("r4/finetune.json\n")

    (gated.path / "go").touch()
    result = snakemake(gated.path)
    assert result.returncode == 0, result.stdout
    assert ran(result.stdout)["run_finetune"] == 2
