"""What becomes of the jobs of an earlier main process."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from ended_jobs import NOON, R4, accounted
from slurm_shims import Cluster

from run_experiment.attempts.redone import move_away
from run_experiment.common import paths
from run_experiment.common.clock import now, stamp
from run_experiment.common.json_files import write_record
from run_experiment.slurm import clients
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob
from run_experiment.slurm.events import Cancelled, Event
from run_experiment.slurm.ledger import Ledger
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier, Fate
from snakemake_executor_plugin_slurm_attached.earlier.find import earlier_jobs
from snakemake_executor_plugin_slurm_attached.earlier.outdated import cancel_outdated
from snakemake_executor_plugin_slurm_attached.submissions import find_ended, planned_submission, together


class Node:
    """A job of Snakemake's DAG."""

    is_local = False

    def __init__(self, output: str, job_file: str = "") -> None:
        self.output = [output]
        self.params = SimpleNamespace(job=job_file)


@pytest.mark.parametrize("minutes", [-4, 4], ids=["behind", "ahead"])
def test_a_record_tells_which_job_made_it_whatever_its_node_s_clock(
    tmp_path: Path, cluster: Cluster, minutes: int
) -> None:
    """The session was killed before it knew the job's id. One that the ledger knows made the record before."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    unknown = replace(R4, job_id=None)
    started = (NOON + timedelta(minutes=minutes)).isoformat()
    write_record(tmp_path / R4.target, {"job_id": "18", "config_hash": R4.config_hash, "started": started})
    assert find_ended(tmp_path, unknown, ledger).job_id == "18"
    ledger.accepted(R4, "18")
    ledger.settled(R4.target, "18", "COMPLETED")
    ledger.intend(unknown)
    cluster.shim(tmp_path / "bin", "sacct", "true")
    assert find_ended(tmp_path, unknown, ledger) == unknown


def test_elements_of_an_array_are_found_although_others_are_noted(tmp_path: Path, cluster: Cluster) -> None:
    """The session was killed as it noted the ids of what one sbatch brought."""
    names = ("r4/finetune.json", "r8/finetune.json")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    r4, r8 = together(tmp_path, [[replace(R4, target=name, job_id=None, time=stamp(now()))] for name in names])
    ledger.intend(r4)
    ledger.intend(r8)
    ledger.accepted(r4, "17_1")
    find = "for word; do case $word in --delimiter=*) mark=${word#--delimiter=};; esac; done"
    row = f"17_1${{mark}}{r8.name}$mark$(date +%Y-%m-%dT%H:%M:%S)$mark{tmp_path}$mark"
    cluster.shim(tmp_path / "bin", "sacct", f'{find}; echo "{row}"')
    assert find_ended(tmp_path, r8, ledger).job_id == "17_2"


def test_live_jobs_on_checkpoints_that_are_replaced_are_cancelled(tmp_path: Path, cluster: Cluster) -> None:
    """Also where their targets are there: of a training that is taken back they are not made again."""
    there, again, of_r8 = (
        replace(R4, target=target, job_id=str(number))
        for number, target in enumerate(("r4/eval/a_epoch0.json", "r4/eval/a_epoch1.json", "r8/eval/a_epoch0.json"), 18)
    )
    training, evaluation = Node(R4.target), Node(again.target)
    dag = SimpleNamespace(
        needrun_jobs=lambda: [training, evaluation],
        needrun=lambda job: True,
        dependencies={training: [], evaluation: [training]},
    )
    # It evaluated an epoch of the training that goes on, and SLURM still shows it.
    at_its_end = replace(R4, target="r4/eval/b_epoch0.json", job_id="21")
    write_record(tmp_path / at_its_end.target, {"job_id": "21", "config_hash": R4.config_hash})
    earlier = {one.target: Earlier(one, "RUNNING") for one in (R4, there, again, of_r8, at_its_end)}
    told: list[Event] = []
    found = cancel_outdated(tmp_path, earlier, dag, told.append)
    assert {target: one.state for target, one in found.items()} == dict.fromkeys(
        [there.target, again.target], "CANCELLED"
    )
    assert [type(event) for event in told] == [Cancelled, Cancelled]


def publish(folder: Path, config: dict[str, float]) -> None:
    """An unfinished training of a configuration, with a whole epoch."""
    write_record(folder / "r4/artifacts" / paths.UNFINISHED, {"experiment": str(folder), "config": config})
    write_record(folder / "r4/artifacts/epoch_0" / paths.TRAINED, {"job_id": "17", "ended": "now"})


@pytest.mark.parametrize(
    ("config", "job_id", "is_left"),
    [({"lr": 0.1}, "17", True), ({"lr": 0.2}, "17", False), ({"lr": 0.1}, "16", False)],
    ids=["same training", "another configuration", "trained again"],
)
def test_an_epoch_of_the_training_that_goes_on_is_evaluated_to_its_end(
    tmp_path: Path, cluster: Cluster, config: dict[str, float], job_id: str, is_left: bool
) -> None:
    """Also if `only=` does not select the evaluation any more: its checkpoint stays as it was verified."""
    publish(tmp_path, {"lr": 0.1})
    facts = {"run": "r4", "config": config, "output_dir": "r4/artifacts", "checkpoints": ["r4/artifacts/epoch_0"]}
    write_record(tmp_path / "job.json", facts)
    manifest = {
        "files": {"adapter_model.safetensors": {"sha256": "1"}},
        "config": {"training": {"job_id": job_id, "ended": "now"}},
    }
    write_record(tmp_path / paths.manifest("r4", 0), manifest)
    training = Node(R4.target, "job.json")
    dag = SimpleNamespace(needrun_jobs=lambda: [training], dependencies={training: []})
    evaluation = replace(R4, target="r4/eval/a_epoch0.json", job_id="18")
    earlier = {one.target: Earlier(one, "RUNNING") for one in (R4, evaluation)}
    found = cancel_outdated(tmp_path, earlier, dag, lambda event: None)
    assert list(found) == ([] if is_left else [evaluation.target])


def test_a_job_from_before_a_redo_is_not_taken_for_it(tmp_path: Path) -> None:
    """Neither what it made, nor while SLURM still shows it; one that was submitted afterwards is."""
    made, leaving = Earlier(R4, "COMPLETED"), Earlier(R4, "COMPLETING")
    record = tmp_path / R4.target

    def fates(*before: str, hours: int = 0) -> list[Fate]:
        write_record(record, {"job_id": R4.job_id, "config_hash": R4.config_hash})
        if before:
            move_away(tmp_path, R4.target, NOON + timedelta(hours=hours), [record], before)
        return [one.fate(tmp_path, R4.config_hash) for one in (made, leaving)]

    assert fates() == [Fate.MADE, Fate.MADE]
    assert fates("16", hours=1) == [Fate.GONE, Fate.ATTACH], "although the clock of that login node was ahead"
    write_record(record, {"job_id": R4.job_id, "config_hash": R4.config_hash})
    assert made.fate(tmp_path, R4.config_hash) is Fate.MADE, "after what was moved"
    assert fates("16", str(R4.job_id), hours=-1) == [Fate.GONE, Fate.CANCEL], "although it was behind"


def test_a_job_that_left_the_queue_is_on_its_way_out_whatever_accounting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled just now: accounting still calls it PENDING or RUNNING, and has its end some seconds later."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    submission = planned_submission(tmp_path, {"target": R4.target, "config_hash": "hash", "name": R4.name})
    ledger.accepted(submission, "17")
    queued = QueuedJob("17", R4.name, submission.comment, "RUNNING", "")
    late = replace(accounted("RUNNING"), comment=submission.comment, ended=None, uid=os.getuid())

    def leaving(in_queue: list[QueuedJob], known: dict[str, AccountedJob]) -> bool:
        monkeypatch.setattr(clients, "queue", lambda: in_queue)
        monkeypatch.setattr(clients, "accounting", lambda job_ids: known)
        (found,) = earlier_jobs(tmp_path, ledger, lambda event: None, clients.queue).values()
        assert found.fate(tmp_path, "hash") is Fate.ATTACH
        return found.is_leaving

    assert not leaving([queued], {})
    assert leaving([replace(queued, state="COMPLETING")], {})
    assert leaving([], {"17": late})
    assert leaving([], {"17": replace(late, state="PENDING", started=None)})
    assert leaving([], {}), "not known there yet"
