"""The action logs of runs on a real cluster, judged by what SLURM's accounting says."""

from __future__ import annotations

import re
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from action_log_runs import eventful, start, with_gpus
from cluster_runs import Run, client, hold, jobs, settled, sleeping, until
from experiments import ExperimentFolder
from golden import assert_golden

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log

# What one of them makes, all use.
pytestmark = pytest.mark.xdist_group("action_logs")

GOLDEN = Path(__file__).parent / "golden"
# A second for each clock.
NEAR = timedelta(seconds=10)
SECONDS = re.compile(r"wall time (\d\d):(\d\d):(\d\d)")
# Told as often as there are polls.
REPEATED = {Action.STATUS_CHECK.value, Action.RESOURCE_STATUS.value}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An experiment in which everything happens that is told, run once for several tests."""
    folder = tmp_path_factory.mktemp("told")
    experiment = eventful(folder)
    result = start(experiment, environment=with_gpus(folder / "shims"))
    assert result.wait() == 1, result.output
    assert "Logging error" not in result.output
    assert "Not done:" in result.output
    return experiment


def read(experiment: ExperimentFolder, log: Log) -> pd.DataFrame:
    """Entries of a log, all of which must be whole."""
    table = read_action_log(experiment.path / log.file)
    assert not table["truncated"].any()
    return table


def of(table: pd.DataFrame, *actions: Action) -> pd.DataFrame:
    return table[table["action"].isin([action.value for action in actions])]


@pytest.mark.parametrize("log", Log)
def test_every_action_is_told(told: ExperimentFolder, log: Log) -> None:
    table = read(told, log)
    missing = {action for action in Action if log in action.logs} - {Action(name) for name in table["action"]}
    on_retries = {Action.OOM_RETRY, Action.RESUME_TRAINING, Action.EVAL_RETRY, Action.STALE_CACHE}
    # With scripts of another tool no model is checked.
    elsewhere = {Action.QUEUE_FULL, Action.MODEL_CHECK, Action.THROUGHPUT_STATUS, Action.REUSE_EVAL}
    assert missing - on_retries - elsewhere == {Action.MONITOR_DETACHED, Action.JOB_REATTACHED}
    assert_golden(masked(told, table), GOLDEN / log.file)


def masked(experiment: ExperimentFolder, table: pd.DataFrame) -> str:
    """Entries in the order of their subjects, without what differs from run to run."""
    repeated = table["action"].isin(REPEATED)
    table = table[~repeated | ~table.duplicated("action")]
    # Of a job that ends soon there may be no status.
    subjects = table["subject"].where(~repeated).fillna("")
    rows = table.assign(subject=subjects, late=repeated).sort_values(["subject", "late"], kind="stable")
    named = ["details", "explanation", "job_id", "recommendation", "result", "duration"]
    texts = [
        "\n".join([f"{row['action']}: {row['subject']}", *(f"  {name}: {row[name]}" for name in named if row[name])])
        for row in rows.to_dict("records")
    ]
    text = "\n".join(texts).replace(str(experiment.path), "EXPERIMENT") + "\n"
    for pattern, mask in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
        (r"(?<=on )n\d\b", "NODE"),
        (r"(?<=[Jj]ob )\d+|(?<=Job ID )\d+|(?<=Job IDs )[\d, -]+|(?<=job_id: )\d+", "ID"),
        (r"via (its record, before sacct shows its end|sacct)", "via SOURCE"),
        (r"\d+ jobs?: .*", "COUNTS"),
        (r"(?<=wall time )[\d:]+|(?<=\()\d+(?=%)|(?<=CPU )\d+%", "N"),
        (r"CPU unknown", "CPU N of 1 core"),
        (r"memory [\d.]+ of", "memory N of"),
        (r"memory unknown", "memory N of 0.5 GB (N%)"),
        (r"(?<=in )\d+\.\d s", "N s"),
        (r"(?<=duration: ).*", "N"),
    ):
        text = re.sub(pattern, mask, text)
    return text


def test_transitions_ids_and_figures_are_those_of_sacct(told: ExperimentFolder) -> None:
    known = {job.job_id: job for job in settled(told.path, 4)}
    tables = [read(told, log) for log in Log]
    table = pd.concat(tables, ignore_index=True)
    assert set(of(table, Action.SUBMIT_JOB, Action.SUBMIT_EVAL)["job_id"]) == set(known)
    assert len(known) == 4
    for job_id, job in known.items():
        changes = of(table[table["job_id"] == job_id], Action.STATE_CHANGE)
        assert list(changes["details"]) == ["PENDING → RUNNING", f"RUNNING → {job.state}"]
        for result, time in zip(changes["result"], (job.start, job.end), strict=True):
            assert time is not None
            # A good end is told from the record, which does not know SLURM's name of the node.
            said = re.search(r" at (\d\S+ [\d:]+)(?: on (\w+))?", result)
            assert said, result
            assert abs(datetime.fromisoformat(said[1]) - time) <= NEAR
            assert said[2] in (None, client("sacct", "-nXPj", job_id, "-oNodeList").strip())
        metrics = of(table[table["job_id"] == job_id], Action.COMPUTE_METRICS)
        wall = SECONDS.search(metrics["details"].item())
        assert wall, metrics["details"].item()
        hours, minutes, seconds = map(int, wall.groups())
        elapsed = int(client("sacct", "-nXPj", job_id, "-oElapsedRaw"))
        assert abs(hours * 3600 + minutes * 60 + seconds - elapsed) <= 1
        assert metrics["result"].item() == job.state


@pytest.mark.parametrize("poll", ["1", "60"])
def test_the_log_is_ahead_of_a_kill_and_the_next_session_tells_the_rest(tmp_path: Path, poll: str) -> None:
    """Killed when one training has ended and its evaluation runs; with few polls nothing is accounted for by then."""
    experiment = sleeping(tmp_path, train=6, evaluate=8)
    go = hold(experiment, "r8/finetune.slurm")
    first = start(experiment, "--slurm-attached-poll-seconds", poll)
    until(lambda: (experiment.path / "r4/finetune.json").exists())
    until(lambda: "tiny.r4.shout.e0: submitted" in first.output)
    first.kill()
    said = first.output
    seen = {log: (experiment.path / log.file).read_bytes() for log in Log}
    table = pd.concat([read(experiment, log) for log in Log], ignore_index=True)
    submitted = set(of(table, Action.SUBMIT_JOB, Action.SUBMIT_EVAL)["job_id"])
    assert set(re.findall(r"submitted as SLURM job (\d+)", said)) == submitted
    assert set(re.findall(r"SLURM job (\d+) (\S+ → \S+)", said)) <= changes_of(table)

    second = start(experiment)
    second.until("tiny.r8: following SLURM job")
    go.touch()
    assert second.wait() == 0, second.output
    for log in Log:
        assert (experiment.path / log.file).read_bytes().startswith(seen[log])
    table = pd.concat([read(experiment, log) for log in Log], ignore_index=True)
    ids = {job.job_id for job in settled(experiment.path, 5)}
    assert changes_of(table) == {
        (one, change) for one in ids for change in ("PENDING → RUNNING", "RUNNING → COMPLETED")
    }
    for action in (Action.STATE_CHANGE, Action.COMPUTE_METRICS):
        told = of(table, action)
        assert len(told) == len(ids) * (2 if action is Action.STATE_CHANGE else 1), told
    assert set(of(table, Action.JOB_REATTACHED)["job_id"]) <= submitted
    assert "r8" in set(of(table, Action.JOB_REATTACHED)["subject"])
    ended = of(read(experiment, Log.TORCHTUNE), Action.ALL_COMPLETE)
    assert ended["details"].item() == "All 1 job reached a terminal state; 1 complete before"


def changes_of(table: pd.DataFrame) -> set[tuple[str, str]]:
    changes = of(table, Action.STATE_CHANGE)
    return set(zip(changes["job_id"], changes["details"], strict=True))


def test_a_log_that_becomes_unwritable_costs_nothing_but_its_entries(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=8)
    started = start(experiment)
    started.until("tiny.r8: submitted")
    log = experiment.path / Log.TORCHTUNE.file
    log.rename(experiment.path / "kept.log")
    log.mkdir()
    assert started.wait() == 0, started.output
    assert re.search(rf"action logs are incomplete: {log.name} lacks \d+ entries: Is a directory", started.output)
    assert len(jobs(experiment.path)) == 5
    assert of(read(experiment, Log.INSPECT), Action.ALL_COMPLETE)["result"].item() == "3 COMPLETED, 0 FAILED"


def test_a_detach_is_told_and_nothing_is_complete_then(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=25)
    first: Run = start(experiment, "--set-resources", "run_finetune:stagger=2", "run_evaluation:stagger=0")
    first.until("tiny.r8: submitted")
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 143, first.output
    table = read(experiment, Log.TORCHTUNE)
    ids = list(of(table, Action.SUBMIT_JOB)["job_id"])
    assert list(of(table, Action.SUBMIT_JOB)["details"]) == [
        "sbatch finetune.slurm",
        "sbatch finetune.slurm (2-second stagger)",
    ]
    (result,) = of(table, Action.MONITOR_DETACHED)["result"]
    assert result.startswith("2 jobs left running: Job IDs ")
    assert all(of(read(experiment, log), Action.ALL_COMPLETE).empty for log in Log)
    client("scancel", *ids)
