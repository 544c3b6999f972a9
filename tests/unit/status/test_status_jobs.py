"""`run-experiment status`: what it says of jobs, by accounting, the queue, locks and files, and who follows them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from status_cases import NOW, TRAIN_R4, fail, items, play_sacct, play_squeue, states, submit

from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.experiment_lock import claim, observe
from run_experiment.common.json_files import write_record
from run_experiment.machine.processes import locked


def test_states_of_jobs_come_from_one_question_to_accounting(
    new: ExperimentFolder, status: Callable[..., Any], clients: Path
) -> None:
    running = submit(new, TRAIN_R4, "tiny.r4", "41")
    pending = submit(new, "r8/finetune.json", "tiny.r8", "42")
    other = submit(new, "base/eval/shout_base.json", "tiny.base", "43")
    play_squeue(clients, f"42 PENDING Priority tiny.r8 '{pending.comment}'")
    calls = play_sacct(clients, (running, "RUNNING"), (pending, "PENDING"), (replace(other, name="x"), "RUNNING"))
    said = status(new)
    found = items(said)
    # The queue only for why a job waits.
    assert calls.read_text().split() == ["sacct", "squeue"]
    assert said["asked"] == "sacct"
    assert [(found[run]["state"], found[run]["job_id"]) for run in ("r4", "r8")] == [
        ("running", "41"),
        ("pending", "42"),
    ]
    assert found["r4"]["certain"]
    began = datetime.fromisoformat(found["r4"]["since"])
    assert timedelta(minutes=4) < NOW - began < timedelta(minutes=6)
    # A job of its id, but of another name, is another one: ids begin anew after a controller lost its state.
    assert (found["base/shout/base"]["state"], found["base/shout/base"]["certain"]) == ("missing", False)
    assert found["r4/shout/epoch0"]["reason"] == "its run is being trained as job 41"
    assert found["r8/shout/epoch1"]["reason"] == "its training is pending as job 42"


def test_jobs_that_do_not_go_on_by_themselves_are_listed_with_what_to_do(
    new: ExperimentFolder, status: Callable[..., Any], clients: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why a job waits is the queue's to say: accounting keeps reasons that are over."""
    held = submit(new, TRAIN_R4, "tiny.r4", "41")
    released = submit(new, "r8/finetune.json", "tiny.r8", "42")
    suspended = submit(new, "base/eval/shout_base.json", "tiny.base.shout", "43")
    reasons = {"41": "None", "42": "JobHeldUser"}
    play_sacct(clients, (held, "PENDING"), (released, "PENDING"), (suspended, "SUSPENDED"), reasons=reasons)
    play_squeue(
        clients,
        f"41 PENDING 'launch_failed_requeued_held' tiny.r4 '{held.comment}'",
        f"42 PENDING Priority tiny.r8 '{released.comment}'",
        f"43 SUSPENDED None tiny.base.shout '{suspended.comment}'",
    )
    found = items(status(new))
    assert {run: (found[run]["state"], found[run]["is_stuck"]) for run in ("r4", "r8", "base/shout/base")} == {
        "r4": ("pending", True),
        "r8": ("pending", False),
        "base/shout/base": ("running", True),
    }
    assert found["r8"]["reason"] == "Priority"
    assert main(["status", str(new.path)]) == 0
    *_, listed = capsys.readouterr().out.partition("Held up:\n")
    held_up = " ".join(listed.split())
    advice = "its node could not start it: `scontrol release 41` has it tried again"
    assert re.search(rf"r4 training, job 41, \d+m ago: launch_failed_requeued_held: {advice}", held_up)
    assert re.search(r"base/shout/base, job 43, \d+m ago: SUSPENDED: until somebody resumes it", held_up)
    # Without the queue a reason may be an old one: nothing is advised.
    (clients / "squeue").unlink()
    assert [items(status(new))["r8"][key] for key in ("reason", "is_stuck")] == ["JobHeldUser", False]


def test_a_job_of_another_configuration_is_told(
    new: ExperimentFolder, status: Callable[..., Any], clients: Path
) -> None:
    play_sacct(clients, (submit(new, TRAIN_R4, "tiny.r4", "41"), "RUNNING"))
    assert items(status(new))["r4"]["reason"] == ""
    new.set_parameters("r4", lr=0.001)
    assert "its configuration is outdated" in items(status(new))["r4"]["reason"]


@pytest.mark.parametrize(
    ("slurm_state", "state", "reason"),
    [
        ("CANCELLED by 0", "cancelled", "SLURM job 41 ended as CANCELLED by root"),
        ("TIMEOUT", "failed", "SLURM job 41 ended as TIMEOUT (its time limit passed)"),
        ("COMPLETED", "failed", "SLURM job 41 ended as COMPLETED and left no record"),
    ],
)
def test_ends_that_nobody_noted(
    new: ExperimentFolder, status: Callable[..., Any], clients: Path, slurm_state: str, state: str, reason: str
) -> None:
    play_sacct(clients, (submit(new, TRAIN_R4, "tiny.r4", "41"), slurm_state))
    found = items(status(new))["r4"]
    assert (found["state"], found["reason"]) == (state, reason)
    fail(new, TRAIN_R4, "41")
    assert items(status(new))["r4"]["read_on"] == "r4/attempts/41/job.log"


def test_the_queue_tells_where_accounting_does_not_answer(
    new: ExperimentFolder, status: Callable[..., Any], clients: Path
) -> None:
    queued = submit(new, TRAIN_R4, "tiny.r4", "41")
    submit(new, "r8/finetune.json", "tiny.r8", "42")
    for client, body in (("sacct", "echo 'sacct: error: Problem talking to the database' >&2; exit 1"),):
        (clients / client).write_text(f"#!{clients}/bash\n{body}\n")
        (clients / client).chmod(0o755)
    play_squeue(clients, f"41 RUNNING None tiny.r4 '{queued.comment}'")
    said = status(new)
    found = items(said)
    assert said["asked"] == "squeue"
    assert (found["r4"]["state"], found["r4"]["certain"]) == ("running", True)
    assert (found["r8"]["state"], found["r8"]["certain"]) == ("missing", False)


def test_without_slurm_states_are_the_last_known(
    new: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for target, job_id in ((TRAIN_R4, "41"), ("r8/finetune.json", "42"), ("base/eval/shout_base.json", "43")):
        submit(new, target, "tiny", job_id)
    log = new.path / paths.training_log("r4")
    log.parent.mkdir(parents=True)
    log.write_text("epoch 0\n")
    # By the clocks of its node and of the file server, it began before it was submitted.
    os.utime(log, (NOW.timestamp() - 240, NOW.timestamp() - 240))
    began = (NOW - timedelta(minutes=4)).isoformat()
    begun = {"target": "finetune", "job_id": "41", "started": began, "clock": NOW.timestamp() - 240}
    write_record(new.path / "r4/attempts/41/begun.json", begun)
    # The log of an earlier job, of which the file server's clock says that it was written since.
    (new.path / paths.training_log("r8")).write_text("epoch 0\n")
    os.utime(new.path / paths.training_log("r8"), (NOW.timestamp() + 240, NOW.timestamp() + 240))
    fail(new, "base/eval/shout_base.json", "43")
    said = status(new)
    found = items(said)
    assert [found[name]["state"] for name in ("r4", "r8", "base/shout/base")] == ["running", "pending", "failed"]
    assert not found["r4"]["certain"]
    assert said["asked"] is None
    assert said["notes"] == [
        "SLURM cannot be reached from here: job states are the last known ones, from the ledger and records"
    ]
    assert main(["status", str(new.path)]) == 0
    page = capsys.readouterr().out
    assert said["notes"][0] in " ".join(page.split())
    assert "r4     running?" in page


def test_a_job_on_this_machine_is_known_by_its_lock(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    if not Path("/proc/locks").exists():
        pytest.skip("this system does not tell its locks")
    with locked(new.path / paths.lock("base/eval/shout_base.json")):
        found = items(status(new))
        assert found["base/shout/base"]["state"] == "running"
        assert found["base/shout/base"]["reason"] == f"on this machine as process {os.getpid()}"
        assert datetime.fromisoformat(found["base/shout/base"]["since"]) < NOW + timedelta(seconds=1)
        assert found["r4"]["state"] == "missing"
    assert states(status(new))["base/shout/base"] == "missing"


def test_looking_takes_no_lock_that_a_job_needs(new: ExperimentFolder) -> None:
    lock = new.path / paths.lock("r4/finetune.json")
    with locked(lock):
        pass
    code = f"from run_experiment.cli import main\nfor _ in range(20): main(['status', {str(new.path)!r}, '--json'])"
    looking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    taken = 0
    while looking.poll() is None:
        with locked(lock):
            taken += 1
    assert looking.returncode == 0
    assert taken > 100


def test_who_follows_it(new: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    held = claim(new.path, observe(new.path))
    said = status(new)
    assert (said["followed"], said["owner"]["pid"], said["owner"]["ended"]) == (True, os.getpid(), None)
    assert main(["status", str(new.path)]) == 0
    assert f"Followed by process {os.getpid()} on " in capsys.readouterr().out
    held.release()
    said = status(new)
    assert (said["followed"], said["owner"]["pid"]) == (False, os.getpid())
    assert said["owner"]["ended"]
    assert main(["status", str(new.path)]) == 0
    assert "; run the same command to continue (the last one was process " in capsys.readouterr().out
