"""On one machine, too: what another try can mend is tried again, and the action log says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from experiments import OUT_OF_MEMORY, before_python, make_experiment
from scaffolded import Scaffold, make_scaffolded
from snakemake_cli import SOURCE, snakemake

from run_experiment.actionlog.reader import read_action_logs


def test_a_batch_that_does_not_fit_is_halved_for_every_run_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an allocation of the user's own, as `salloc` gives: its id is none of the jobs that run in it."""
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    experiment = make_experiment(tmp_path / "experiment", epochs=1)
    for run in ("r4", "r8"):
        experiment.set_parameters(run, batch_size=8)
    fitting = before_python(tmp_path, OUT_OF_MEMORY.replace("r4/finetune.yaml", "$4"), 4)
    config = ["--config", fitting, "only=r4,r8"]

    result = snakemake(experiment.path, *config)

    assert result.returncode == 0, result.stdout
    assert (experiment.path / "tries").read_text().split() == ["8", "4", "4"]
    told = read_action_logs(experiment.path)
    told = told[told["action"] == "OOM_RETRY"]
    first, second = told["subject"]
    assert {first, second} == {"r4", "r8"}
    assert all(f"8 ran out of memory in job {told['job_id'].iloc[0]} of {first}" in text for text in told["details"])
    for run, failed in ((first, 1), (second, 0)):
        record = experiment.record(f"{run}/finetune.json")
        assert record["changes"] == {"batch_size": 4, "gradient_accumulation_steps": 2}
        assert len(record["attempts"]) == failed
        assert record["job_id"].startswith("local-")
    assert snakemake(experiment.path, *config).stdout.count("Nothing to be done") == 1


@pytest.mark.parametrize("killed", ["run_finetune.py", "snakemake"])
def test_what_lives_on_after_a_kill_is_never_joined_by_another(tmp_path: Path, killed: str) -> None:
    """Snakemake removes the log of a job before it starts it: a lock on that would keep nobody away."""
    experiment = make_scaffolded(tmp_path / "experiment", scaffold=Scaffold(sleep=(30, 1)))
    command = [sys.executable, "-m", "snakemake", "r4/finetune.json", "--profile", "profiles/local"]
    first = subprocess.Popen([*command, "--config", f"experiment_dir={experiment.path}"], cwd=SOURCE)
    while not (sleeping := processes(experiment.path, "sleep 30")):
        time.sleep(0.2)
    for number in processes(experiment.path, killed):
        os.kill(number, signal.SIGKILL)
    first.wait(60)

    again = snakemake(experiment.path, "r4/finetune.json")

    assert again.returncode == 1
    assert "another process is working on it" in again.stdout
    assert processes(experiment.path, "sleep 30") == sleeping
    for number in sleeping:
        os.kill(number, signal.SIGKILL)


def processes(folder: Path, command: str) -> list[int]:
    """Processes of an experiment with words in their command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if command in words and (str(folder) in words or (process / "cwd").resolve() == folder):
                found.append(int(process.name))
    return sorted(found)
