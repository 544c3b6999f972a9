"""One command reads each file of an experiment once, and its readers agree."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import complete, make_small_experiment, plan_of
from status_cases import begin

from run_experiment.common import paths
from run_experiment.common.clock import now
from run_experiment.common.json_files import config_hash, write_record
from run_experiment.finetuning.metrics import COLUMNS
from run_experiment.machine.processes import locked
from run_experiment.planning.snapshot import Snapshot
from run_experiment.planning.target import Kind
from run_experiment.slurm.ledger import PATH, Ledger, Submission

TRAIN_R4, METRICS = "r4/finetune.json", "r4/artifacts/metrics.csv"
# Runs a command, and prints how often it opened each file of the folder to read it.
COUNTING = """
import collections, contextlib, io, json, os, sys
opened, folder, code = collections.Counter(), sys.argv[1], sys.argv[2]

def count(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and os.path.isfile(arguments[0]):
        path = os.path.relpath(arguments[0], folder)
        if not path.startswith(".."):
            opened[path] += 1

exec(sys.argv[3])
sys.addaudithook(count)
with contextlib.redirect_stdout(io.StringIO()):
    exec(code)
print(json.dumps(opened))
"""
IMPORTS = """
from pathlib import Path
from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.experiment.resolve import resolve
from run_experiment.experiment.settings import Settings
from run_experiment.planning.build import make_plan
from run_experiment.planning.snapshot import Snapshot
from run_experiment.estimate.measurements import measured
from run_experiment.report.collect import write_all
from run_experiment.inputs.file_hashes import hash_memory
from run_experiment.results.collect import read_records
from run_experiment.summary.read import read_summary
"""
COMMANDS = {
    "status": "main(['status', folder])",
    "plan": """
experiment = resolve(read_summary(Path(folder) / paths.SUMMARY)[0], Path(folder))
make_plan(experiment, Settings(Path(folder)), hash_memory(Path(folder)), Snapshot(Path(folder)))
""",
    "end of a session": "records = read_records(Path(folder)); measured(records.plan); write_all(records)",
}


def fail(experiment: ExperimentFolder, target: str, job_id: str, **facts: Any) -> None:
    """Leave a failed attempt of today's configuration."""
    run, name = paths.target_of(target)
    config = config_hash(plan_of(experiment)[target].config)
    known = {"target": name, "job_id": job_id, "config_hash": config, "ended": "2026-01-31T10:00:00+01:00"}
    path = experiment.path / paths.attempts(run) / job_id / "attempt.json"
    write_record(path, {**known, "error": "RuntimeError: no\nmore", **facts})


@pytest.fixture
def busy(tmp_path: Path) -> ExperimentFolder:
    """An experiment with results, failures, a ledger and a page."""
    experiment = make_small_experiment(tmp_path / "place" / "experiment")
    complete(experiment)
    plan_of(experiment).write_scripts()
    experiment.set_parameters("r4", lr=0.001)
    (experiment.path / "base/eval/shout_base.json").unlink()
    for number, target in enumerate((TRAIN_R4, TRAIN_R4, "base/eval/shout_base.json", "r8/eval/shout_epoch1.json")):
        fail(experiment, target, str(17 + number))
    submission = Submission("r8/finetune.json", "0" * 64, "tiny.r8", "", 0, "2026-01-31T10:00:00+01:00", "30")
    ledger = Ledger(experiment.path / PATH)
    ledger.intend(submission)
    ledger.accepted(submission, "30")
    ledger.settled("r8/finetune.json", "30", "COMPLETED")
    return experiment


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_reads_each_file_once(busy: ExperimentFolder, command: str) -> None:
    arguments = [str(busy.path), COMMANDS[command], IMPORTS]
    begin(busy, TRAIN_R4, "local-1")
    (busy.path / METRICS).write_text(",".join(COLUMNS) + "\n0,1,2.5,,,,,\n")
    with locked(busy.path / paths.lock(TRAIN_R4)):
        result = subprocess.run(
            [sys.executable, "-c", COUNTING, *arguments], capture_output=True, text=True, check=True
        )
    opened = json.loads(result.stdout)
    # In the other commands it may be read for the results.
    assert METRICS in opened or command != "status"
    read = {"r4/finetune.json", "r8/checkpoints/epoch_0.json", "r4/attempts/17/attempt.json", PATH}
    assert {*read, "r8/eval/shout_epoch1.json", "experiment_summary.yaml"} <= set(opened)
    # What the user may edit (scripts, task, data) is looked at by the check of the summary, and then hashed.
    of_the_user = [".slurm", "shout.py", "words.json"]
    if command == "end of a session":
        # That check finds what the page warns of.
        of_the_user.append("experiment_summary.yaml")
    repeated = {path: times for path, times in opened.items() if times > 1 and not path.endswith(tuple(of_the_user))}
    # A log is hashed, its scores are read and kept; of the few whose samples are shown the texts are read, too.
    assert {path: times for path, times in repeated.items() if times > 3 or not path.endswith(".eval")} == {}


def test_what_was_read_stays(busy: ExperimentFolder) -> None:
    snapshot = Snapshot(busy.path)
    before = snapshot.training("r8")
    write_record(busy.path / "r8/finetune.json", {"config": {}})
    assert snapshot.training("r8") is snapshot.record(Kind.TRAINING, "r8/finetune.json") is before is not None
    assert Snapshot(busy.path).training("r8") != before


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "COMPLETED"])
def test_the_last_attempt_may_be_one_that_only_the_ledger_knows(busy: ExperimentFolder, state: str) -> None:
    Ledger(busy.path / PATH).settled(TRAIN_R4, "99", state)
    expected = {"FAILED": "failed as job 99: FAILED", "CANCELLED": "was cancelled as job 99: CANCELLED"}
    last = Snapshot(busy.path).last_attempt(TRAIN_R4)
    assert last is not None
    assert last.why == expected.get(state, "failed as job 18: RuntimeError: no")


@pytest.mark.parametrize("minutes", [-10, 10], ids=["behind", "ahead"])
def test_which_job_was_last_is_what_the_ledger_says_whatever_the_clock_of_a_node(tmp_path: Path, minutes: int) -> None:
    experiment = make_small_experiment(tmp_path / "place" / "experiment")
    ledger, ended = Ledger(experiment.path / PATH), (now() + timedelta(minutes=minutes)).isoformat()

    def submit(job_id: str, state: str) -> None:
        config = config_hash(plan_of(experiment)[TRAIN_R4].config)
        ledger.accepted(Submission(TRAIN_R4, config, "tiny.r4", "", 0, ended), job_id)
        ledger.settled(TRAIN_R4, job_id, state)

    submit("17", "CANCELLED")
    submit("18", "FAILED")
    fail(experiment, TRAIN_R4, "18", ended=ended)
    assert plan_of(experiment)[TRAIN_R4].why.startswith("failed as job 18")
    submit("19", "CANCELLED")
    assert plan_of(experiment)[TRAIN_R4].why.startswith("was cancelled as job 19")
    # Another configuration is trained, and changed back.
    submit("20", "COMPLETED")
    write_record(experiment.path / TRAIN_R4, {"job_id": "20", "ended": now().isoformat(), "config": {"lr": 1}})
    assert plan_of(experiment)[TRAIN_R4].attempt is None
