"""`run-experiment status`: what it says of experiments in every state, and that it only looks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import make_small_experiment, plan_of, train, verify_all
from snakemake_cli import SOURCE

from run_experiment.attempts.files import note_slurm_end
from run_experiment.attempts.history import History
from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.experiment_lock import claim, observe
from run_experiment.common.json_files import config_hash, read_record, write_record
from run_experiment.evaluation.dataset_cache import failed_at
from run_experiment.inputs.data_files import file_hash
from run_experiment.machine.processes import locked
from run_experiment.slurm.ledger import PATH, Ledger, Submission
from run_experiment.status.items import EVALUATION, TRAINING, VERIFICATION, Item, RunStatus, State, Status
from run_experiment.status.page import age, status_text

NOW = datetime.now().astimezone()
TRAIN_R4 = "r4/finetune.json"
# Writes a row of the columns that it is asked for; those that are not given are empty.
SACCT = r"""
for argument; do case $argument in
    --delimiter=*) mark=${argument#--delimiter=};;
    --format=*) IFS=, read -ra columns <<< "${argument#--format=}";;
esac; done
row() {
    local -A values; local pair
    for pair; do values[${pair%%=*}]=${pair#*=}; done
    for column in "${columns[@]}"; do printf "%s$mark" "${values[$column]}"; done
    echo
}
"""
SQUEUE = r"""
for argument; do case $argument in --format=*) format=${argument#--format=};; esac; done
mark=${format%%%*}
row() { printf "$mark%s" "$@"; printf '%s\n' "$mark"; }
"""
FAILURE = "r4/finetune.slurm ended with exit status 1; its log is /somewhere\n    RuntimeError: no\n"


@pytest.fixture(autouse=True)
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without SLURM's clients; shims are put here."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "sleep"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def new(tmp_path: Path) -> ExperimentFolder:
    return make_small_experiment(tmp_path / "place" / "experiment")


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """What the command says as JSON, with the exit status that it should have."""

    def ask(experiment: ExperimentFolder, *arguments: str, exit_status: int = 0) -> dict[str, Any]:
        assert main(["status", str(experiment.path), "--json", *arguments]) == exit_status
        return json.loads(capsys.readouterr().out)

    return ask


def items(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Trainings by their run, verifications and evaluations by their subjects."""
    return {
        item["subject"]: item
        for run in said["runs"]
        for item in (*run["verifications"], run["training"], *run["evaluations"])
    }


def states(said: dict[str, Any]) -> dict[str, str]:
    return {subject: item["state"] for subject, item in items(said).items()}


def reasons(said: dict[str, Any]) -> dict[str, str]:
    return {item["subject"]: item["reason"] for item in said["missing"]}


def fail(experiment: ExperimentFolder, target: str, job_id: str = "17", **facts: Any) -> None:
    """Leave the record of a failed attempt, as a job does."""
    run, name = paths.target_of(target)
    folder = experiment.path / paths.attempts(run) / job_id
    folder.mkdir(parents=True)
    (folder / "job.log").write_text("RuntimeError: no\n")
    ended = datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"target": name, "error": FAILURE, "job_id": job_id, "ended": ended}
    write_record(folder / "attempt.json", {**record, **facts})


def begin(experiment: ExperimentFolder, target: str, folder: str, **facts: Any) -> Path:
    """Leave what a job says when it begins, and what its followers note; returns the folder of the attempt."""
    run, name = paths.target_of(target)
    attempt = experiment.path / paths.attempts(run) / folder
    values = {"job_id": folder.partition(".")[0], "host": socket.gethostname(), "started": NOW.isoformat()}
    values["config_hash"] = config_hash(plan_of(experiment)[target].config)
    write_record(attempt / "begun.json", {"target": name, **values, **facts})
    return attempt


def submission(experiment: ExperimentFolder, target: str, name: str, ago: float = 600) -> Submission:
    made = (NOW - timedelta(seconds=ago)).isoformat(timespec="seconds")
    config = plan_of(experiment)[target].config
    return Submission(target, config_hash(config), name, f"comment of {target}", os.getuid(), made)


def submit(experiment: ExperimentFolder, target: str, name: str, job_id: str, ago: float = 600) -> Submission:
    """Leave the ledger's entries of a submitted job."""
    made = submission(experiment, target, name, ago)
    Ledger(experiment.path / PATH).intend(made)
    Ledger(experiment.path / PATH).accepted(made, job_id)
    return replace(made, job_id=job_id)


def play_sacct(folder: Path, *rows: tuple[Submission, str]) -> Path:
    """A sacct that knows jobs in their states; each call adds a line to the file that is returned."""
    time, calls = f"{NOW - timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}", folder / "calls"
    lines = [f"#!{folder}/bash", f"echo sacct >> {calls}", SACCT]
    for job, state in rows:
        values = {"JobIDRaw": job.job_id, "JobName": job.name, "UID": job.uid, "Comment": job.comment, "State": state}
        values |= {"ExitCode": "0:0", "Submit": time}
        values |= {"Start": time, "NodeList": "n1"} if state != "PENDING" else {}
        values |= {"End": time} if state not in ("PENDING", "RUNNING") else {}
        lines.append("row " + " ".join(f"'{name}={value}'" for name, value in values.items()))
    (folder / "sacct").write_text("\n".join(lines) + "\n")
    (folder / "sacct").chmod(0o755)
    return calls


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in paths}


# What is made, and what is not


def test_a_new_experiment_lacks_everything(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    said = status(new)
    assert (said["experiment"], said["followed"], said["complete"], said["total"]) == ("tiny", False, False, 12)
    assert said["counts"] == {**dict.fromkeys(State, 0), "missing": 12, "skipped": 2}
    assert states(said)["base"] == states(said)["given"] == "skipped"
    missing = reasons(status(new, "--missing", exit_status=3))
    assert missing == {
        "r4": "not done yet",
        "r4/shout/epoch0": "its run is not trained yet",
        "r4/shout/epoch1": "its run is not trained yet",
        "r8": "not done yet",
        "r8/shout/epoch1": "its run is not trained yet",
        "base/shout/base": "not done yet",
        "given/given": "not done yet",
        "given/shout/base": "its checkpoint is not verified yet",
    }


def test_a_complete_experiment_lacks_nothing(
    done: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    said = status(done, "--missing")
    assert (said["complete"], said["missing"]) == (True, [])
    whole = status(done)
    assert whole["counts"] == {**dict.fromkeys(State, 0), "done": 12, "skipped": 2}
    assert set(whole) == {
        *("experiment", "folder", "time", "followed", "owner", "asked", "notes"),
        *("complete", "total", "counts", "runs"),
    }
    assert set(whole["runs"][0]) == {"name", "type", "training", "verified", "verifications", "evaluations"}
    training = items(whole)["r8"]
    assert set(training) == {
        *("kind", "subject", "run", "task", "epoch", "state", "certain", "job_id", "slurm_state"),
        *("since", "seconds", "reason", "read_on", "attempt"),
    }
    assert (training["job_id"], training["seconds"], training["since"][:10]) == ("local-10", 61.5, "2025-01-31")
    assert whole["runs"][0]["verified"] == {"done": 2, "of": 2}
    assert main(["status", str(done.path), "--missing"]) == 0
    assert capsys.readouterr().out == "Nothing is missing: 12 of 12 are done.\n"
    assert main(["status", str(done.path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"tiny: {done.path}",
        "No process is following this experiment: everything is done",
        f"[{'#' * 30}] 12 of 12 done",
        "",
        "run    training  job       time  verified  shout",
        "r4     done      local-0   1m    2/2        ++",
        "r8     done      local-10  1m    2/2         +",
        "base   -                         -         +",
        "given  -                         1/1       +",
        "",
        "+ done",
        "One mark per epoch: first the model as given, then 0 to 1",
    ]


def test_what_is_stale_says_what_changed(done: ExperimentFolder, status: Callable[..., Any]) -> None:
    done.set_parameters("r4", lora_rank=16, lora_alpha=8)
    said = status(done)
    assert {subject for subject, state in states(said).items() if state == "stale"} == {
        *("r4", "r4/epoch_0", "r4/epoch_1", "r4/shout/epoch0", "r4/shout/epoch1")
    }
    missing = reasons(status(done, "--missing", exit_status=3))
    change = "lora_rank: 4 → 16"
    assert set(missing) == {"r4", "r4/shout/epoch0", "r4/shout/epoch1"}
    assert change in missing["r4"]
    assert missing["r4/shout/epoch0"].startswith("its run is trained again: ")
    assert change in missing["r4/shout/epoch0"]


def test_checkpoints_that_were_removed_are_only_missing_where_something_needs_them(
    done: ExperimentFolder, status: Callable[..., Any]
) -> None:
    shutil.rmtree(done.path / "r4/artifacts/epoch_0")
    shutil.rmtree(done.path / "r8/artifacts/epoch_1")
    (done.path / "r8/eval/shout_epoch1.json").unlink()
    said = items(status(done))
    assert (said["r4/epoch_0"]["state"], said["r4/shout/epoch0"]["state"]) == ("skipped", "done")
    missing = reasons(status(done, "--missing", exit_status=3))
    assert missing == {"r8/epoch_1": "the checkpoint does not exist", "r8/shout/epoch1": "its checkpoint is missing"}


# What failed


def test_a_failed_training_says_why_and_where_to_read_on(
    new: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fail(new, TRAIN_R4, "16", ended="2025-01-31T10:00:00+01:00", error="an older one")
    fail(new, TRAIN_R4)
    found = items(status(new))["r4"]
    assert (found["state"], found["job_id"], found["read_on"]) == ("failed", "17", "r4/attempts/17/job.log")
    assert found["reason"] == "failed as job 17: r4/finetune.slurm ended with exit status 1; its log is /somewhere"
    missing = reasons(status(new, "--missing", exit_status=3))
    assert missing["r4/shout/epoch1"] == "its training failed as job 17"
    assert missing["r8/shout/epoch1"] == "its run is not trained yet"
    assert main(["status", str(new.path)]) == 0
    page = capsys.readouterr().out
    assert "r4     failed    17" in page
    assert re.search(r"^  r4 training, \w+ ago: failed as job 17: r4/finetune.slurm", page, re.MULTILINE)
    assert "see r4/attempts/17/job.log" in " ".join(page.split())


def test_a_failure_of_another_configuration_is_not_today_s(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    fail(new, TRAIN_R4, config_hash=config_hash(plan_of(new)[TRAIN_R4].config))
    assert states(status(new))["r4"] == "failed"
    new.set_parameters("r4", lr=0.001)
    found = items(status(new))["r4"]
    assert (found["state"], found["reason"]) == ("missing", "not done yet")


def test_a_result_that_is_younger_than_a_failure_counts(done: ExperimentFolder, status: Callable[..., Any]) -> None:
    fail(done, "r4/eval/shout_epoch0.json", ended="2025-01-31T09:00:00+01:00")
    assert states(status(done))["r4/shout/epoch0"] == "done"
    done.edit("shout.py", "exact", "any")
    assert states(status(done))["r4/shout/epoch0"] == "stale"
    fail(done, "r4/eval/shout_epoch0.json", "18")
    assert states(status(done))["r4/shout/epoch0"] == "failed"


def test_ends_that_only_the_ledger_knows(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    ledger = Ledger(new.path / PATH)
    for target, job_id, state in ((TRAIN_R4, "31", "CANCELLED"), ("r8/finetune.json", "32", "OUT_OF_MEMORY")):
        submit(new, target, "tiny", job_id)
        ledger.settled(target, job_id, state)
    fail(new, TRAIN_R4, "31", error="ended by SIGTERM: cancelled, preempted or out of time")
    found = items(status(new))
    assert [found["r4"][name] for name in ("state", "slurm_state", "job_id")] == ["cancelled", "CANCELLED", "31"]
    assert found["r4"]["read_on"] == "r4/attempts/31/job.log"
    assert (found["r8"]["state"], found["r8"]["reason"]) == ("failed", "failed as job 32: OUT_OF_MEMORY")


def test_attempts_that_were_cut_off(
    new: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who was killed wrote nothing: SLURM's verdict is in its folder or in the ledger, or there is none."""
    begin(new, TRAIN_R4, "17")
    note_slurm_end(new.path, TRAIN_R4, "17", "TIMEOUT", "SLURM job 17 ended as TIMEOUT")
    begin(new, "r8/finetune.json", "18.2")
    submit(new, "r8/finetune.json", "tiny.r8", "18")
    Ledger(new.path / PATH).settled("r8/finetune.json", "18", "NODE_FAIL")
    begin(new, "base/eval/shout_base.json", "local-3")
    log = new.path / paths.evaluation_log("base", "shout_base")
    log.parent.mkdir(parents=True)
    log.touch()
    missing = reasons(status(new, "--missing", exit_status=3))
    assert [missing[subject] for subject in ("r4", "r8", "base/shout/base")] == [
        "failed as job 17: TIMEOUT",
        "failed as job 18: NODE_FAIL",
        "was interrupted as job local-3",
    ]
    found = items(status(new))
    assert [found["r4"][name] for name in ("state", "slurm_state", "certain")] == ["failed", "TIMEOUT", True]
    assert found["base/shout/base"]["read_on"] == paths.evaluation_log("base", "shout_base")
    assert found["r4/shout/epoch0"]["reason"] == "its training failed as job 17"
    new.set_parameters("r4", lr=0.001)
    assert items(status(new))["r4"]["reason"] == "not done yet"


@pytest.mark.parametrize(("job_id", "host"), [("17", socket.gethostname()), ("local-3", "elsewhere")])
def test_what_may_still_be_at_work_is_not_called_dead(
    new: ExperimentFolder, status: Callable[..., Any], job_id: str, host: str
) -> None:
    begin(new, TRAIN_R4, job_id, host=host)
    found = items(status(new))["r4"]
    assert (found["state"], found["certain"]) == ("missing", False)
    assert found["reason"] == f"was interrupted or is still running on {host}, as job {job_id}"


def test_a_job_that_never_began_is_known_by_what_slurm_said(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    fail(new, TRAIN_R4, "16", ended="2025-01-31T10:00:00+01:00")
    note_slurm_end(new.path, TRAIN_R4, "17", "BOOT_FAIL", "SLURM job 17 ended as BOOT_FAIL")
    found = items(status(new))["r4"]
    assert (found["job_id"], found["reason"]) == ("17", "failed as job 17: BOOT_FAIL")


def test_a_job_that_is_submitted_again_is_shown_as_its_newest_try(
    new: ExperimentFolder, status: Callable[..., Any], clients: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(new, TRAIN_R4, "41")
    note_slurm_end(new.path, TRAIN_R4, "41", "PREEMPTED", "SLURM job 41 ended as PREEMPTED")
    submit(new, TRAIN_R4, "tiny.r4", "41")
    Ledger(new.path / PATH).settled(TRAIN_R4, "41", "PREEMPTED")
    assert items(status(new))["r4"]["reason"] == "failed as job 41: PREEMPTED"
    again = submit(new, TRAIN_R4, "tiny.r4", "42", ago=60)
    # Of this one's first try nobody noted the end.
    begin(new, "r8/finetune.json", "49")
    other = submit(new, "r8/finetune.json", "tiny.r8", "50")

    def shown(name: str = "r4") -> tuple[Any, ...]:
        found = items(status(new))[name]
        return found["state"], found["job_id"], found["attempt"]

    play_sacct(clients, (again, "PENDING"), (other, "RUNNING"))
    assert [shown(), shown("r8"), shown("r4/shout/epoch0")[2]] == [("pending", "42", 2), ("running", "50", 2), None]
    play_sacct(clients, (again, "RUNNING"), (other, "RUNNING"))
    assert shown() == ("running", "42", 2)
    begun = {"started": (NOW + timedelta(seconds=5)).isoformat()}
    begin(new, TRAIN_R4, "42", **begun)
    assert shown() == ("running", "42", 2)
    # Its first try ran out of memory; the second is in the same job, and in the same second.
    (new.path / "r4/attempts/42/begun.json").unlink()
    (new.path / "r4/attempts/42").rmdir()
    fail(new, TRAIN_R4, "42", config_hash=again.config_hash, **begun)
    begin(new, TRAIN_R4, "42.2", **begun)
    assert shown() == ("running", "42", 3)
    assert main(["status", str(new.path)]) == 0
    assert "r4     running, attempt 3  42 " in capsys.readouterr().out
    # That a try failed is not the end of its job.
    (clients / "sacct").unlink()
    assert shown() == ("pending", "42", 3)
    new.set_parameters("r4", lr=0.001)
    assert shown() == ("pending", "42", 3)


def test_a_local_job_s_second_try(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    fail(new, "base/eval/shout_base.json", "local-3", started=NOW.isoformat())
    begin(new, "base/eval/shout_base.json", "local-3.2")
    with locked(new.path / paths.lock("base/eval/shout_base.json")):
        found = items(status(new))["base/shout/base"]
    assert (found["state"], found["attempt"]) == ("running", 2)


def test_the_attempts_of_a_run_are_read_once(new: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        fail(new, TRAIN_R4, str(number))
        fail(new, "r4/eval/shout_epoch0.json", str(100 + number))
    begin(new, "r4/eval/shout_epoch1.json", "200")
    read: Counter[Path] = Counter()

    def reading(path: Path) -> dict[str, Any] | None:
        read[path] += 1
        return read_record(path)

    monkeypatch.setattr("run_experiment.attempts.history.read_record", reading)
    left = History(new.path)
    targets = [TRAIN_R4, "r4/eval/shout_epoch0.json", "r4/eval/shout_epoch1.json", "r4/eval/other.json"]
    assert [len(left.at(target)) for target in targets] == [20, 20, 1, 0]
    assert set(read.values()) == {1}


def test_tries_of_the_same_second_are_in_the_order_of_their_folders(new: ExperimentFolder) -> None:
    names = [f"17.{number}" for number in range(12, 1, -1)]
    for name in [*names, "17"]:
        begin(new, TRAIN_R4, name)
    (new.path / "r4/attempts/17.artifacts").mkdir()
    found = [Path(left.folder).name for left in History(new.path).at(TRAIN_R4)]
    assert found == ["17", *reversed(names)]


def test_a_checkpoint_that_is_not_whole(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    train(new, "r4", seed=0)
    log = new.path / paths.verification_log("r4", "epoch_1")
    log.parent.mkdir(parents=True)
    log.write_text("r4/artifacts/epoch_1/adapter_model.safetensors: tensor x holds NaN\n")
    found = items(status(new))
    assert (found["r4/epoch_0"]["state"], found["r4/epoch_1"]["state"]) == ("missing", "failed")
    assert found["r4/epoch_1"]["read_on"] == paths.verification_log("r4", "epoch_1")
    assert found["r4/shout/epoch1"]["reason"].startswith("its checkpoint failed verification: r4/artifacts/epoch_1")
    after = datetime.fromtimestamp(log.stat().st_mtime).astimezone() + timedelta(minutes=1)
    train(new, "r4", seed=0, ended=after.isoformat())
    assert states(status(new))["r4/epoch_1"] == "missing"


def test_a_data_set_that_does_not_load(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    log = new.path / paths.cache_log("shout")
    log.parent.mkdir(parents=True)
    log.write_text("Generating test split: 2 examples\n")
    assert items(status(new))["base/shout/base"]["reason"] == "not done yet"
    config = plan_of(new)[paths.cache_record("shout")].config
    log.write_text(f"Traceback:\n  File ...\n{failed_at(config)}ValueError: no such split\n")
    found = items(status(new))["base/shout/base"]
    assert found["reason"] == "its data set shout is not cached: ValueError: no such split"
    assert found["read_on"] == paths.cache_log("shout")


# Jobs


def test_states_of_jobs_come_from_one_question_to_accounting(
    new: ExperimentFolder, status: Callable[..., Any], clients: Path
) -> None:
    running = submit(new, TRAIN_R4, "tiny.r4", "41")
    pending = submit(new, "r8/finetune.json", "tiny.r8", "42")
    other = submit(new, "base/eval/shout_base.json", "tiny.base", "43")
    calls = play_sacct(clients, (running, "RUNNING"), (pending, "PENDING"), (replace(other, name="x"), "RUNNING"))
    said = status(new)
    found = items(said)
    assert calls.read_text().split() == ["sacct"]
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
    for client, body in (
        ("sacct", "echo 'sacct: error: Problem talking to the database' >&2; exit 1"),
        ("squeue", f"{SQUEUE}\nrow 41 RUNNING None tiny.r4 '{queued.comment}'"),
    ):
        (clients / client).write_text(f"#!{clients}/bash\n{body}\n")
        (clients / client).chmod(0o755)
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


# Who follows it


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


# It only looks


def test_nothing_is_written(done: ExperimentFolder, status: Callable[..., Any]) -> None:
    submit(done, TRAIN_R4, "tiny.r4", "41")
    claim(done.path, observe(done.path)).release()
    done.set_parameters("r8", lr=0.001)
    before = snapshot(done.path)
    status(done)
    status(done, "--missing", exit_status=3)
    assert snapshot(done.path) == before


def test_a_folder_that_may_only_be_read() -> None:
    with tempfile.TemporaryDirectory() as place:
        experiment = make_small_experiment(Path(place) / "experiment")
        train(experiment, "r4", seed=0)
        train(experiment, "r8", seed=10)
        verify_all(experiment)
        for path in [Path(place), *Path(place).rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        # To root nothing is forbidden; and Python may lie where nobody else may read, so first it loads all it needs.
        drop = "os.setuid(65534)" if os.getuid() == 0 else "pass"
        look = f"main(['status', {str(experiment.path)!r}])"
        code = "import contextlib, io, os, sys\nfrom run_experiment.cli import main\n"
        code += f"with contextlib.redirect_stdout(io.StringIO()): {look}\n"
        code += f"{drop}\nassert not os.access({str(experiment.path)!r}, os.W_OK)\nsys.exit({look})"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        for path in [Path(place), *Path(place).rglob("*")]:
            path.chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert "r4     done" in result.stdout


def test_hashes_of_verified_checkpoints_are_taken_from_their_manifests_unless_they_changed(
    done: ExperimentFolder, status: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return file_hash(path)

    monkeypatch.setattr("run_experiment.inputs.file_hashes.file_hash", reading)
    for path in sorted((done.path / "r4/checkpoints").glob("*.json")):
        path.touch()
    assert states(status(done))["r4/epoch_1"] == "done"
    assert not [path for path in read if path.parts[-4:-2] == ("r4", "artifacts")]
    weights = done.path / "r4/artifacts/epoch_1/adapter_model.safetensors"
    stat, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    time.sleep(0.02)
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert states(status(done))["r4/epoch_1"] == "stale"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\0\0\0", '{"target": "finetune"}'])
def test_torn_records_are_no_reason_to_fail(done: ExperimentFolder, text: str) -> None:
    fail(done, TRAIN_R4)
    submit(done, TRAIN_R4, "tiny.r4", "41")
    claim(done.path, observe(done.path)).release()
    paths = [path for path in done.path.rglob("*.json*") if "/artifacts/" not in str(path) and path.stem != "words"]
    paths = [path for path in paths if not path.parts[-2].startswith(("epoch_", "given"))]
    assert len(paths) > 10
    for path in paths:
        whole = path.read_bytes()
        path.write_text(text)
        assert main(["status", str(done.path)]) == 0, path
        path.write_bytes(whole)


def test_a_bad_folder_and_a_bad_summary(new: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(new.path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"{new.path}/nowhere: there is no such folder\n"
    values = new.read()
    values["runs"][0]["parameters"] = {"lora_ranc": 4}
    new.write(values)
    assert main(["status", str(new.path)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "unknown key; did you mean lora_rank?" in error


# Again and again


@pytest.fixture
def watching(new: ExperimentFolder) -> Iterator[subprocess.Popen[str]]:
    claimed = claim(new.path, observe(new.path))
    arguments = ["status", str(new.path), "--json", "--watch", "1"]
    code = f"import sys; from run_experiment.cli import main; sys.exit(main({arguments!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    with suppress(ValueError):
        claimed.release()


def test_watching_ends_with_ctrl_c_and_not_with_an_edit(new: ExperimentFolder, watching: subprocess.Popen[str]) -> None:
    assert watching.stdout is not None
    lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
    assert lines[0]["time"] < lines[1]["time"]
    whole = new.summary.read_text()
    new.summary.write_text("runs: [")
    time.sleep(1.5)
    new.summary.write_text(whole)
    lines.append(json.loads(watching.stdout.readline()))
    assert watching.poll() is None
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 0


def test_watching_ends_where_there_is_nothing_to_wait_for(
    new: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(new.path), "--watch", "--missing"]) == 3
    assert capsys.readouterr().out.endswith("Nothing is running any more.\n")


# The page


def many_runs() -> Status:
    """20 runs, 3 tasks, 5 epochs, with long names."""
    runs = []
    for number in range(20):
        name = f"rank{number}_learning_rate_1e-5_all_layers_seed_{number}"
        training = Item(
            TRAINING, name, name, None, None, State.CANCELLED, "why", f"123456{number}", since=NOW - timedelta(3)
        )
        verified = tuple(Item(VERIFICATION, name, name, None, epoch, State.FAILED, "") for epoch in range(5))
        evaluations = tuple(
            Item(
                EVALUATION,
                f"{name}/{task}/epoch{epoch}",
                name,
                task,
                epoch,
                list(State)[(number + epoch) % 7],
                "x " * 200,
            )
            for task in ("capitalization_of_words", "reversal_of_letters", "grammar_of_sentences")
            for epoch in range(5)
        )
        runs.append(RunStatus(name, "fine-tuned", training, verified, evaluations))
    return Status("many", Path("/data/many"), NOW, None, False, None, (), tuple(runs))


def test_many_runs_fit_a_terminal() -> None:
    for width in (80, 100, 160):
        lines = status_text(many_runs(), width).splitlines()
        assert max(map(len, lines)) <= width
        rows = [line for line in lines if line.startswith("rank")]
        # At 100 columns all tasks are in one table, at 80 one is, and two in a table below.
        assert len(rows) == (20 if width >= 100 else 40)
        assert all(mark in "".join(rows) for mark in "+RPFCS.")


def test_tasks_without_room_have_a_table_below() -> None:
    few = many_runs()
    run = few.runs[0]
    evaluations = tuple(
        Item(EVALUATION, run.name, run.name, f"task_{number}", epoch, State.DONE, "")
        for number in range(30)
        for epoch in range(12)
    )
    page = status_text(replace(few, runs=(replace(run, evaluations=evaluations),)), 100)
    assert page.count("+" * 12) == 30
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3600 * 3 + 300, "3h05m"), (86400 * 2 + 3600 * 4, "2d04h")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_logs_are_named_as_the_rules_name_them() -> None:
    rules = "".join(path.read_text() for path in (SOURCE / "rules").glob("*.smk"))
    names = [
        paths.training_log("{run}"),
        paths.evaluation_log("{run}", "{cell}"),
        paths.verification_log("{run}", "{epoch}"),
        paths.cache_log("{data_set}"),
    ]
    assert all(f'log:\n        "{name}"' in rules for name in names)
