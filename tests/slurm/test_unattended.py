"""Jobs that end while no process follows them: the next start of the same command reports them as if one had."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from cluster_runs import AT_ONCE, Run, hold, run, running, settled, sleeping
from experiments import ExperimentFolder
from log_checks import all_problems, not_submitted_once, unaccounted

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.paths import eval_record, finetune_record

TRAINING = finetune_record("r4")
EVALUATION = eval_record("base", "shout_base")


def leave(experiment: ExperimentFolder, record: str, name: str) -> None:
    """Interrupt the command while its only job runs, and wait until that has ended."""
    go = hold(experiment, record.replace(".json", ".slurm"))
    first = Run(experiment.path, record, *AT_ONCE)
    running(experiment.path, name)
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
    leave(experiment, TRAINING, "tiny.r4")
    again = run(experiment.path, TRAINING, *AT_ONCE)
    assert again.process.returncode == 0, again.output
    table = read_action_logs(experiment.path)
    assert not all_problems(settled(experiment.path, 1), table, {"r4": experiment.record(TRAINING)})
    assert status(experiment.path)["r4"] == "done"


def test_an_evaluation(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    leave(experiment, EVALUATION, "tiny.base.shout")
    again = run(experiment.path, EVALUATION, *AT_ONCE)
    assert again.process.returncode == 0, again.output
    table = read_action_logs(experiment.path)
    assert not all_problems(settled(experiment.path, 1), table, {"base/shout/base": experiment.record(EVALUATION)})
    assert status(experiment.path)["base/shout/base"] == "done"


def test_a_training_that_failed(tmp_path: Path) -> None:
    """It is reported, and not submitted again by the command that finds it."""
    experiment = sleeping(tmp_path)
    # `leave` has it wait before that.
    experiment.edit("r4/finetune.slurm", "set -e\n", "set -e\necho 'ValueError: unlucky'; exit 3\n")
    leave(experiment, TRAINING, "tiny.r4")
    again = run(experiment.path, TRAINING, *AT_ONCE)
    assert again.process.returncode == 1, again.output
    (job,) = settled(experiment.path, 1)
    table = read_action_logs(experiment.path)
    assert job.state == "FAILED"
    assert not [*not_submitted_once(job, table), *unaccounted(job, table)]
    assert "unlucky" in table[table["details"] == "RUNNING → FAILED"]["result"].item()
    assert status(experiment.path)["r4"] == "failed"
