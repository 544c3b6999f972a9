"""Jobs that end while no process follows them: the next start of the same command reports them as if one had."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from cluster_runs import AT_ONCE, Run, hold, run, running, settled, sleeping
from experiments import ExperimentFolder
from log_checks import all_problems

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.paths import finetune_record

RECORD = finetune_record("r4")


def leave(experiment: ExperimentFolder) -> None:
    """Interrupt the command while r4's training, the only job, runs, and wait until that has ended."""
    go = hold(experiment, "r4/finetune.slurm")
    first = Run(experiment.path, RECORD, *AT_ONCE)
    running(experiment.path, "tiny.r4")
    first.interrupt(signal.SIGINT)
    assert first.wait(30) == 130, first.output
    go.touch()
    settled(experiment.path, 1)


def status(folder: Path) -> dict[str, str]:
    """The state of each item, as the command says it."""
    code = f"import sys; from run_experiment.cli import main; sys.exit(main(['status', {str(folder)!r}, '--json']))"
    said = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    items = [item for one in said["runs"] for item in (one["training"], *one["evaluations"])]
    return {item["subject"]: item["state"] for item in items}


def test_a_training_after_which_nothing_is_submitted(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    leave(experiment)
    again = run(experiment.path, RECORD, *AT_ONCE)
    assert again.process.returncode == 0, again.output
    table = read_action_logs(experiment.path)
    assert not all_problems(settled(experiment.path, 1), table, {"r4": experiment.record(RECORD)})
    assert status(experiment.path)["r4"] == "done"
