"""`run-experiment status`: what it says is made, missing, outdated or failed, and why."""

from __future__ import annotations

import re
import shutil
import socket
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from experiments import ExperimentFolder
from small_experiment import plan_of, train
from status_cases import NOW, TRAIN_R4, begin, fail, items, play_sacct, reasons, states, submit

from run_experiment.attempts.files import note_slurm_end
from run_experiment.attempts.history import History
from run_experiment.cli import main
from run_experiment.common import paths
from run_experiment.common.json_files import config_hash, failed_at, read_record
from run_experiment.machine.processes import locked
from run_experiment.slurm.ledger import PATH, Ledger
from run_experiment.status.items import State


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
        *("complete", "total", "counts", "left", "runs"),
    }
    assert set(whole["runs"][0]) == {"name", "type", "training", "verified", "verifications", "evaluations"}
    training = items(whole)["r8"]
    assert set(training) == {
        *("kind", "subject", "run", "task", "epoch", "state", "certain", "job_id", "slurm_state"),
        *("since", "seconds", "reason", "read_on", "attempt", "is_stuck", "progress", "taken_from"),
    }
    assert (training["job_id"], training["seconds"], training["since"][:10]) == ("local-10", 61.5, "2025-01-31")
    assert whole["runs"][0]["verified"] == {"done": 2, "of": 2}
    assert main(["status", str(done.path), "--missing"]) == 0
    assert capsys.readouterr().out == "Nothing is missing: 2 of 2 trainings and 5 of 5 evaluations are done.\n"
    assert main(["status", str(done.path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"tiny: {done.path}",
        "No process is following this experiment: everything is done",
        f"[{'#' * 30}] 2 of 2 trainings and 5 of 5 evaluations done",
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


def test_a_failed_training_says_why_and_where_to_read_on(
    new: ExperimentFolder, status: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    fail(new, TRAIN_R4, "16", ended="2025-01-31T10:00:00+01:00", error="an older one")
    moment = datetime.now().astimezone() - timedelta(days=2)
    fail(new, TRAIN_R4, started=moment.isoformat(), ended=(moment + timedelta(minutes=47)).isoformat())
    found = items(status(new))["r4"]
    assert (found["state"], found["job_id"], found["read_on"]) == ("failed", "17", "r4/attempts/17/job.log")
    assert found["seconds"] == 47 * 60
    assert found["reason"] == "failed as job 17: r4/finetune.slurm ended with exit status 1; its log is /somewhere"
    missing = reasons(status(new, "--missing", exit_status=3))
    assert missing["r4/shout/epoch1"] == "its training failed as job 17"
    assert missing["r8/shout/epoch1"] == "its run is not trained yet"
    assert main(["status", str(new.path)]) == 0
    page = capsys.readouterr().out
    # How long it ran is in the table, how long ago that was below it.
    assert re.search(r"^r4     failed    17   47m +0/2", page, re.MULTILINE)
    assert re.search(r"^  r4 training, 1d23h ago: failed as job 17: r4/finetune.slurm", page, re.MULTILINE)
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
    why = "failed as job 32: OUT_OF_MEMORY (it used more memory than it requested)"
    assert (found["r8"]["state"], found["r8"]["reason"]) == ("failed", why)


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
        "failed as job 18: NODE_FAIL (its node failed)",
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
    assert shown() == ("running", "42", 3)
    new.set_parameters("r4", lr=0.001)
    assert shown() == ("running", "42", 3)


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


def test_what_is_never_trained_says_so(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    found = items(status(new))
    said = ["control: nothing to train", "eval-only: trained elsewhere"]
    assert [found[run]["reason"] for run in ("base", "given")] == said


def test_a_checkpoint_that_is_not_whole(new: ExperimentFolder, status: Callable[..., Any]) -> None:
    train(new, "r4", seed=0)
    log = new.path / paths.verification_log("r4", "epoch_1")
    log.parent.mkdir(parents=True)
    config = plan_of(new)[paths.manifest("r4", 1)].config
    log.write_text(f"{failed_at(config)}r4/artifacts/epoch_1/adapter_model.safetensors: tensor x holds NaN\n")
    found = items(status(new))
    assert (found["r4/epoch_0"]["state"], found["r4/epoch_1"]["state"]) == ("missing", "failed")
    assert found["r4/epoch_1"]["read_on"] == paths.verification_log("r4", "epoch_1")
    assert found["r4/shout/epoch1"]["reason"].startswith("its checkpoint failed verification: r4/artifacts/epoch_1")
    # Whatever the clocks of the file server and of the node say.
    train(new, "r4", seed=0, ended="2025-01-31T09:00:00+01:00")
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
