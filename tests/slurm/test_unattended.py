"""Jobs that end while no process follows them: the next start of the same command reports them as if one had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_runs import AT_ONCE, Run, client, hold, jobs, run, running, settled, sleeping, until
from experiments import ExperimentFolder
from log_checks import all_problems, not_submitted_once, unaccounted

from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.paths import eval_record, finetune_record
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.ledger import Ledger, Submission

TRAINING = finetune_record("r4")
EVALUATION = eval_record("base", "shout_base")


def leave(experiment: ExperimentFolder, record: str, name: str) -> None:
    """Interrupt the command while its only job runs, and wait until that has ended."""
    go = hold(experiment, record.replace(".json", ".slurm"))
    first = Run(experiment.path, record, *AT_ONCE)
    running(experiment.path, name)
    first.interrupt(signal.SIGINT)
    assert first.wait() == 130, first.output
    go.touch()
    settled(experiment.path, 1)


def status(folder: Path) -> dict[str, str]:
    """The state of each item, as the command says it."""
    code = f"import sys; from run_experiment.cli import main; sys.exit(main(['status', {str(folder)!r}, '--json']))"
    said = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    items = [item for one in said["runs"] for item in (one["training"], *one["evaluations"])]
    return {item["subject"]: item["state"] for item in items}


@pytest.mark.parametrize("noted", [False, True], ids=["unseen", "killed after the end was noted"])
def test_a_training_after_which_nothing_is_submitted(tmp_path: Path, noted: bool) -> None:
    experiment = sleeping(tmp_path)
    leave(experiment, TRAINING, "tiny.r4")
    if noted:
        Ledger(experiment.path / LEDGER).settled(TRAINING, experiment.record(TRAINING)["job_id"], "COMPLETED")
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


def test_a_job_that_was_requeued_and_cancelled(tmp_path: Path) -> None:
    """Its first start is logged, its second one nobody saw; the next command makes its target."""
    experiment = sleeping(tmp_path)
    go = hold(experiment, TRAINING.replace(".json", ".slurm"))
    first = Run(experiment.path, TRAINING, *AT_ONCE)
    job_id = running(experiment.path, "tiny.r4")["tiny.r4"]
    first.until("PENDING → RUNNING")
    first.interrupt(signal.SIGINT)
    assert first.wait() == 130, first.output
    (before,) = jobs(experiment.path)
    assert before.start
    client("scontrol", "requeue", job_id)
    until(lambda: client("squeue", "-hj", job_id, "-o%T").strip() == "PENDING")
    # A node refuses a job that it is to start in the second in which it ended it.
    client("scontrol", "update", f"jobid={job_id}", "starttime=now+3")
    until(lambda: (job := jobs(experiment.path)[0]).state == "RUNNING" and job.start > before.start)  # type: ignore[operator]
    client("scancel", job_id)
    settled(experiment.path, 1)
    go.touch()
    again = run(experiment.path, TRAINING, *AT_ONCE)
    assert again.process.returncode == 0, again.output
    table = read_action_logs(experiment.path)
    assert not all_problems(settled(experiment.path, 2), table, {"r4": experiment.record(TRAINING)})


def test_a_job_that_slurm_forgot(tmp_path: Path) -> None:
    """Its target is not wanted now, and it left no record: the log says what is known."""
    experiment = sleeping(tmp_path)
    assert run(experiment.path, EVALUATION, *AT_ONCE).process.returncode == 0
    ledger = Ledger(experiment.path / LEDGER)
    ledger_line = json.loads((experiment.path / LEDGER).read_text().splitlines()[0])
    # With a time long ago: it may not be on its way to SLURM.
    long_ago, comment = "2025-01-31T12:00:00+00:00", str(ledger_line["comment"]).replace(EVALUATION, TRAINING)
    ledger.accepted(Submission(TRAINING, "hash", "tiny.r4", comment, os.getuid(), long_ago), "999999")
    again = run(experiment.path, EVALUATION, *AT_ONCE)
    assert again.process.returncode == 0, again.output
    table = read_action_logs(experiment.path)
    ended = table[table["job_id"] == "999999"]
    assert list(ended["action"]) == ["SUBMIT_JOB", "JOB_REATTACHED", "STATE_CHANGE", "COMPUTE_METRICS"]
    assert "SLURM does not know job 999999 any more, nor how it ended" in ended["result"].iloc[2]
    assert ledger.open() == {}
