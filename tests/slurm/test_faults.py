"""Faults that need no cluster of their own: clients that fail, signals, jobs that die, files that are gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from cluster_runs import (
    ALL,
    AT_ONCE,
    OF_R4,
    ONLY_R4,
    Run,
    client,
    hold,
    jobs,
    kill_processes,
    names,
    run,
    running,
    settled,
    shim,
    sleeping,
    submission_shim,
    until,
)

from run_experiment.slurm.ledger import PATH as LEDGER

# What a client says that gave up waiting: the request may have been met.
TIMED_OUT = 'echo "error: Socket timed out on send/recv operation" >&2; exit 1'


def test_errors_of_sbatch_that_pass_cost_no_job_and_bring_none_twice(tmp_path: Path) -> None:
    """Twice sbatch fails; the fourth time it submits and says that it failed, and then squeue does not answer."""
    experiment = sleeping(tmp_path)
    shims, calls, silent = tmp_path / "shims", tmp_path / "calls", tmp_path / "silent"
    environment = submission_shim(
        shims,
        f'echo x >> {calls}; n=$(wc -l < {calls})\n[ "$n" -le 2 ] && {{ {TIMED_OUT}; }}\n'
        f'[ "$n" = 4 ] && {{ touch {silent}; "$real" "$@" > {tmp_path}/answer; {TIMED_OUT}; }}\nexec "$real" "$@"',
    )
    shim(shims, "squeue", f'[ -e {silent} ] && {{ rm {silent}; {TIMED_OUT}; }}\nexec "$real" "$@"')
    result = Run(experiment.path, *AT_ONCE, environment=environment)
    assert result.wait() == 0, result.output
    assert result.output.count("not submitted yet, trying again") == 2
    assert {job.state for job in settled(experiment.path, 5)} == {"COMPLETED"}
    assert names(experiment.path) == Counter(ALL)
    assert not silent.exists()
    entries = [json.loads(line) for line in (experiment.path / LEDGER).read_text().splitlines()]
    first = [
        entry["time"] for entry in entries if (entry["event"], entry.get("target")) == ("intended", "r4/finetune.json")
    ]
    # Each try has its own time: a process that starts soon after it waits for what sbatch may still bring.
    assert len(set(first)) == 3


@pytest.mark.parametrize("body", ['sleep 4; exec "$real" "$@"', '"$real" "$@"; sleep 4'])
def test_a_kill_while_sbatch_is_under_way_brings_no_second_job(tmp_path: Path, body: str) -> None:
    """Neither while the first one is in the queue nor when it has ended before it is looked for."""
    experiment = sleeping(tmp_path, train=8)
    begun = tmp_path / "begun"
    slow = submission_shim(tmp_path / "shims", f"touch {begun}; {body}")
    first = Run(experiment.path, *AT_ONCE, environment=slow, config=ONLY_R4)
    until(begun.exists)
    time.sleep(1)
    first.kill()
    second = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert second.process.returncode == 0, second.output
    assert {job.state for job in settled(experiment.path, 2)} == {"COMPLETED"}
    assert names(experiment.path) == Counter(OF_R4)


def test_signals_while_sbatch_is_under_way(tmp_path: Path) -> None:
    """Under `nohup` a hangup means nothing; SIGTERM waits for sbatch's answer; more signals after it change nothing."""
    experiment = sleeping(tmp_path, train=8)
    begun = tmp_path / "begun"
    slow = submission_shim(tmp_path / "shims", f'touch {begun}; sleep 4; exec "$real" "$@"')
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    first = Run(experiment.path, *AT_ONCE, environment=slow, config=ONLY_R4)
    signal.signal(signal.SIGHUP, hangup)
    until(begun.exists)
    first.interrupt(signal.SIGHUP)
    time.sleep(1)
    assert first.process.returncode is None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        first.interrupt(number)
        time.sleep(0.3)
    assert first.wait() == 143, first.output
    assert "1 SLURM job keeps running" in first.output
    until(lambda: jobs(experiment.path))
    (submitted,) = jobs(experiment.path)
    assert f"scancel {submitted.job_id}" in first.output
    second = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert second.process.returncode == 0, second.output
    assert names(experiment.path) == Counter(OF_R4)


def test_requeued_jobs_keep_their_ids_and_a_killed_one_is_told_as_slurm_has_it(tmp_path: Path) -> None:
    """What the first start of a job leaves is neither its end nor the reason of its second end."""
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    started = Run(experiment.path, *AT_ONCE, config=["retries=0"])
    ids = running(experiment.path, "tiny.r4", "tiny.r8")
    both = f"{ids['tiny.r4']},{ids['tiny.r8']}"
    # Both must have begun to work, to leave something.
    until(lambda: all((experiment.path / f"logs/run_finetune/{run}.log").exists() for run in ("r4", "r8")))
    client("scontrol", "requeue", both)
    left = [experiment.path / f"{run}/attempts/{ids[f'tiny.{run}']}/attempt.json" for run in ("r4", "r8")]
    until(lambda: all(path.exists() for path in left))
    until(lambda: client("squeue", "-hj", both, "-o%T").split() == ["PENDING"] * 2)
    # SLURM waits two minutes with such jobs; a poll or two see them so.
    time.sleep(5)
    for job_id in both.split(","):
        client("scontrol", "update", f"jobid={job_id}", "starttime=now")
    until(lambda: client("squeue", "-hj", ids["tiny.r8"], "-o%T").strip() == "RUNNING")
    time.sleep(2)
    kill_processes(ids["tiny.r8"])
    killed = time.monotonic()
    go.touch()
    started.until(f"SLURM job {ids['tiny.r8']} ended as FAILED")
    # Two polls of 3 s, and what accounting is late by.
    assert time.monotonic() - killed < 12
    assert started.wait() == 1
    assert "exit code 0:9" in started.output
    assert "ended by SIGTERM" not in started.output.partition("Not done:")[0]
    assert f"SLURM job {ids['tiny.r4']} ended" not in started.output
    assert {job.job_id for job in settled(experiment.path, 4)} >= set(ids.values())
    assert names(experiment.path) == Counter(set(ALL) - {"tiny.r8.shout.e0"})
    assert experiment.record("r4/finetune.json")["job_id"] == ids["tiny.r4"]


def test_a_record_may_come_late_but_has_to_come(tmp_path: Path) -> None:
    """As on a shared file system that shows files late: the main process stands still meanwhile."""
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    started = Run(experiment.path, *AT_ONCE)
    started.until("tiny.base.shout: submitted")
    started.process.send_signal(signal.SIGSTOP)
    go.touch()
    records = [experiment.path / f"{run}/finetune.json" for run in ("r4", "r8")]
    until(lambda: all(record.exists() for record in records))
    settled(experiment.path, 3)
    for record in records:
        record.rename(record.with_suffix(".kept"))
    started.process.send_signal(signal.SIGCONT)
    time.sleep(6)
    records[0].with_suffix(".kept").rename(records[0])
    assert started.wait() == 1
    assert "completed without a record" in started.output
    assert {job.state for job in settled(experiment.path, 4)} == {"COMPLETED"}
    assert names(experiment.path) == Counter(set(ALL) - {"tiny.r8.shout.e0"})


def test_a_job_that_only_has_the_id_is_neither_followed_nor_cancelled(tmp_path: Path) -> None:
    """SLURM forgot both jobs and gave their ids to others; one was of another configuration."""
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    first = Run(experiment.path, *AT_ONCE)
    ids = running(experiment.path, "tiny.r4", "tiny.r8")
    first.kill()
    client("scancel", ids["tiny.r4"], ids["tiny.r8"])
    ledger = experiment.path / LEDGER
    others = []
    for name in ("tiny.r4", "tiny.r8"):
        others.append(sbatch("sleep 300", "--job-name=thesis"))
        ledger.write_text(ledger.read_text().replace(f'"{ids[name]}"', f'"{others[-1]}"'))
    settled(experiment.path, 2)
    experiment.set_parameters("r4", lr=0.02)
    cancelling = Run(experiment.path, *AT_ONCE, "--slurm-attached-on-interrupt", "cancel")
    cancelling.until("tiny.r4: submitted")
    cancelling.interrupt(signal.SIGINT)
    assert cancelling.wait() == 130, cancelling.output
    go.touch()
    again = run(experiment.path, *AT_ONCE, "--slurm-attached-lost-seconds", "5")
    if again.process.returncode:
        assert "SLURM does not know job" in again.output
        again = run(experiment.path, *AT_ONCE)
    assert again.process.returncode == 0, again.output
    states = client("squeue", "-hj", ",".join(others), "-o%T").split()
    client("scancel", *others)
    assert len(states) == 2
    assert experiment.record("r8/finetune.json")["job_id"] not in (ids["tiny.r8"], *others)


def test_without_ledger_jobs_are_found_and_of_two_for_a_target_one_is_kept(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    go = hold(experiment)
    first = Run(experiment.path, *AT_ONCE)
    ids = running(experiment.path, "tiny.r4", "tiny.r8")
    # A job that begins later would miss the file that says what it has to do.
    until((experiment.path / "base/eval/shout_base.json").exists)
    first.kill()
    shutil.rmtree(experiment.path / ".snakemake")
    comment = client("squeue", "-hj", ids["tiny.r4"], "-o%k").strip()
    double = sbatch("sleep 300", "--job-name=tiny.r4", f"--comment={comment}")
    odd = sbatch("sleep 300", f"--comment={' '.join(comment.split()[:2])}")
    second = Run(experiment.path, *AT_ONCE)
    second.until(f"SLURM job {double} was cancelled")
    go.touch()
    assert second.wait() == 0, second.output
    states = {job: client("sacct", "-nXPj", job, "-ostate").split()[0] for job in (double, odd)}
    client("scancel", odd)
    assert states == {double: "CANCELLED", odd: "RUNNING"}
    assert names(experiment.path) == Counter(ALL)
    assert {job.state for job in settled(experiment.path, 5)} == {"COMPLETED"}


def test_a_ledger_that_cannot_be_used_lets_no_job_be_submitted(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path, train=1)
    ledger = experiment.path / LEDGER
    ledger.mkdir(parents=True)
    unreadable = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert unreadable.process.returncode == 1
    assert unreadable.output.count("It is not known which jobs were submitted") == 1
    assert "Traceback" not in unreadable.output
    ledger.rmdir()
    # Full of what is not ours, and not to be written even by root.
    ledger.symlink_to("/proc/version")
    unwritable = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert unwritable.process.returncode == 1
    assert "It was not submitted" in unwritable.output
    assert names(experiment.path) == Counter()
    ledger.unlink()
    entry = {"event": "accepted", "config_hash": "", "name": "", "comment": "", "uid": os.getuid(), "target": "a"}
    lines = [entry | {"job_id": "1 2", "time": "2025-01-31T10:00:00"}, entry | {"job_id": "1", "time": "now"}, [], 7]
    ledger.write_bytes(b"\xff\x00{\n" + b"\n".join(json.dumps(line).encode() for line in lines) + b'\n{"event": "acc')
    garbage = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert garbage.process.returncode == 0, garbage.output
    assert names(experiment.path) == Counter(OF_R4)


def test_a_ledger_that_breaks_on_the_way_loses_no_job(tmp_path: Path) -> None:
    experiment = sleeping(tmp_path)
    ledger = experiment.path / LEDGER
    breaking = submission_shim(tmp_path / "shims", f'rm {ledger}; mkdir {ledger}; exec "$real" "$@"')
    broken = Run(experiment.path, *AT_ONCE, environment=breaking, config=ONLY_R4)
    assert broken.wait() == 1
    assert names(experiment.path) == Counter(["tiny.r4"])
    assert "Finished jobid: 1 (Rule: run_finetune)" in broken.output
    ledger.rmdir()
    again = run(experiment.path, *AT_ONCE, config=ONLY_R4)
    assert again.process.returncode == 0, again.output
    assert names(experiment.path) == Counter(OF_R4)


def sbatch(script: str, *options: str) -> str:
    """Submit a job by hand; returns its id."""
    quiet = ("--parsable", "--chdir=/tmp", "--output=/dev/null", "--mem=100M")
    return client("sbatch", *quiet, *options, f"--wrap={script}").strip()
