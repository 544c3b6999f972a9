"""Jobs are submitted in order, none while a former one for its target is there, and none after a stop."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

from slurm_shims import Cluster, Submitting, request, wait_for

from run_experiment.slurm.events import Cancelled, Delayed, Reattached, Submitted
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier
from snakemake_executor_plugin_slurm_attached.messages import message


def test_urgent_jobs_go_first_and_the_ledger_has_them(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    gate = threading.Event()
    here.pacing.wait = lambda *_: gate.wait(10)  # type: ignore[method-assign]
    for name, priority in (("first", 0), ("late", 0), ("urgent", 1)):
        here.submitter.put(request(name, priority))
        time.sleep(0.05)
    gate.set()
    wait_for(10, lambda: len(here.accepted) == 3)
    here.submitter.stop()
    assert [name for name in cluster.names() if name != "--parsable"] == ["first", "urgent", "late"]
    assert {entry.name: entry.job_id for entry in here.ledger.open().values()} == here.accepted


def test_what_is_submitted_again_keeps_its_place(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    here.submitter.put(request("first"))
    wait_for(10, lambda: here.accepted)
    gate = threading.Event()
    here.pacing.wait = lambda *_: gate.wait(10)  # type: ignore[method-assign]
    for name in ("busy", "late"):
        here.submitter.put(request(name))
        time.sleep(0.05)
    here.submitter.put(replace(request("first"), again=True))
    gate.set()
    wait_for(10, lambda: len(cluster.names()) == 8)
    here.submitter.stop()
    assert [name for name in cluster.names() if name != "--parsable"] == ["first", "busy", "first", "late"]


def test_a_job_that_somebody_requeued_is_not_submitted_again(tmp_path: Path, cluster: Cluster) -> None:
    cluster.queue(tmp_path / "bin", "17 PENDING a")
    here = Submitting(tmp_path)
    here.submitter.put(replace(request("a"), again=True))
    wait_for(10, lambda: here.accepted or here.refused)
    here.submitter.stop()
    assert (here.accepted, cluster.names()) == ({"a": "17"}, [])
    assert here.ledger.open()["a/finetune.json"].job_id == "17"
    assert [type(event) for event in here.told] == [Reattached]


def test_what_waits_for_a_cancelled_job_keeps_no_other_from_being_submitted(tmp_path: Path, cluster: Cluster) -> None:
    cluster.queue(tmp_path / "bin", "17 COMPLETING a")
    cluster.shim(tmp_path / "bin", "scancel", f"echo $* >> {tmp_path}/cancelled")
    here = Submitting(tmp_path)
    former = Earlier(replace(request("a").submission, job_id="17"), "RUNNING")
    here.submitter.put(replace(request("a"), former=former))
    here.submitter.put(request("b"))
    wait_for(10, lambda: here.accepted)
    time.sleep(2.5)
    assert set(here.accepted) == {"b"}
    cluster.queue(tmp_path / "bin")
    wait_for(10, lambda: "a" in here.accepted)
    here.submitter.stop()
    assert (tmp_path / "cancelled").read_text() == "17\n"
    assert [type(event) for event in here.told] == [Cancelled, Submitted, Submitted]


def test_former_jobs_are_cancelled_while_others_wait_for_a_place(tmp_path: Path, cluster: Cluster) -> None:
    """They themselves may take the place."""
    cluster.queue(tmp_path / "bin", "17 RUNNING a")
    cluster.shim(tmp_path / "bin", "scancel", f"echo $* >> {tmp_path}/cancelled")
    here = Submitting(tmp_path, limit=1, refresh=0.2)
    here.submitter.put(request("b", priority=1))
    time.sleep(0.5)
    former = Earlier(replace(request("a").submission, job_id="17"), "RUNNING")
    here.submitter.put(replace(request("a"), former=former))
    wait_for(5, lambda: here.told)
    assert (tmp_path / "cancelled").read_text() == "17\n"
    assert (here.accepted, [type(event) for event in here.told]) == ({}, [Cancelled])
    cluster.shim(tmp_path / "bin", "squeue", "true")
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert set(here.accepted) == {"b"}


def test_a_job_that_scancel_ends_without_an_answer_was_cancelled(tmp_path: Path, cluster: Cluster) -> None:
    cluster.queue(tmp_path / "bin", "17 PENDING a")
    squeue, gone = tmp_path / "bin/squeue", tmp_path / "gone"
    squeue.write_text(squeue.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n[ ! -e {gone} ] || exit 0\n"))
    cluster.shim(tmp_path / "bin", "scancel", f"touch {gone}; echo 'scancel: error: Socket timed out' >&2; exit 1")
    here = Submitting(tmp_path)
    former = Earlier(replace(request("a").submission, job_id="17"), "PENDING")
    here.submitter.put(replace(request("a"), former=former))
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert [type(event) for event in here.told] == [Cancelled, Submitted]
    assert here.ended == []


def test_a_former_job_that_ended_by_itself_was_not_cancelled(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    former = Earlier(replace(request("a").submission, job_id="17"), "RUNNING")
    here.submitter.put(replace(request("a"), former=former))
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert here.ended == [former.submission]
    assert [type(event) for event in here.told] == [Submitted]
    assert here.ledger.read().settled["a/finetune.json"].state == "LOST"


def test_what_waits_for_a_cancelled_job_is_not_submitted_after_a_stop(tmp_path: Path, cluster: Cluster) -> None:
    cluster.queue(tmp_path / "bin", "17 COMPLETING a")
    cluster.shim(tmp_path / "bin", "scancel", "")
    here = Submitting(tmp_path)
    former = Earlier(replace(request("a").submission, job_id="17"), "RUNNING")
    here.submitter.put(replace(request("a"), former=former))
    wait_for(10, lambda: here.told)
    here.submitter.stop()
    assert (here.accepted, here.refused) == ({}, {})


def test_nothing_is_submitted_after_a_stop(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    for number in range(3):
        here.submitter.put(request(f"a{number}", stagger=30))
    wait_for(10, lambda: here.accepted)
    begun = time.monotonic()
    here.submitter.stop()
    assert time.monotonic() - begun < 2
    time.sleep(0.2)
    assert set(here.accepted) == {"a0"}
    assert set(here.ledger.open()) == {"a0/finetune.json"}


def test_what_sbatch_refuses_ends_that_job_only(tmp_path: Path, cluster: Cluster) -> None:
    cluster.shim(
        tmp_path / "bin", "sbatch", '[ "$2" = bad ] && { echo "sbatch: error: no such partition" >&2; exit 1; }; echo 4'
    )
    here = Submitting(tmp_path)
    here.submitter.put(request("bad"))
    here.submitter.put(request("good"))
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert "no such partition" in here.refused["bad"]
    assert "sbatch bad" in here.refused["bad"]
    assert set(here.ledger.open()) == {"good/finetune.json"}


def test_a_job_whose_partition_is_drained_is_tried_again_and_keeps_no_other_waiting(
    tmp_path: Path, cluster: Cluster
) -> None:
    (tmp_path / "drained").touch()
    said = "sbatch: error: Required partition not available (inactive or drain)"
    cluster.shim(
        tmp_path / "bin",
        "sbatch",
        f'[ "$2" = other ] && {{ echo 5; exit; }}\n[ -e {tmp_path}/drained ] || {{ echo 4; exit; }}\n'
        f'echo x >> {tmp_path}/tries; echo "{said}" >&2; exit 1',
    )
    here = Submitting(tmp_path)
    here.submitter.put(request("drained"))
    here.submitter.put(request("other"))
    tries = tmp_path / "tries"
    wait_for(10, lambda: here.accepted and tries.exists() and tries.read_text().count("x") == 2)
    assert here.accepted == {"other": "5"}
    (tmp_path / "drained").unlink()
    wait_for(10, lambda: len(here.accepted) == 2)
    here.submitter.stop()
    assert here.refused == {}
    (delay,) = [event for event in here.told if isinstance(event, Delayed)]
    assert message(delay) == f"drained: not submitted yet, trying again until SLURM accepts it: {said}"
