"""What becomes of the jobs of an earlier main process."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

from ended_jobs import NOON, R4
from slurm_shims import Cluster

from run_experiment.attempts.redone import move_away
from run_experiment.common.json_files import write_record
from run_experiment.slurm.events import Cancelled, Event
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier, Fate
from snakemake_executor_plugin_slurm_attached.earlier.outdated import cancel_outdated


class Node:
    """A job of Snakemake's DAG."""

    is_local = False

    def __init__(self, output: str) -> None:
        self.output = [output]


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


def test_a_job_from_before_a_redo_is_not_taken_for_it(tmp_path: Path) -> None:
    """Neither what it made, nor while SLURM still shows it; one that was submitted afterwards is."""
    made, leaving = Earlier(R4, "COMPLETED"), Earlier(R4, "COMPLETING")
    record = tmp_path / R4.target

    def fates(redone: timedelta | None = None) -> list[Fate]:
        write_record(record, {"job_id": R4.job_id, "config_hash": R4.config_hash})
        if redone is not None:
            move_away(tmp_path, R4.target, NOON + redone, [record])
        return [one.fate(tmp_path, R4.config_hash) for one in (made, leaving)]

    assert fates() == [Fate.MADE, Fate.MADE]
    assert fates(timedelta()) == [Fate.GONE, Fate.ATTACH]
    write_record(record, {"job_id": R4.job_id, "config_hash": R4.config_hash})
    assert made.fate(tmp_path, R4.config_hash) is Fate.MADE, "after what was moved"
    assert fates(timedelta(seconds=1)) == [Fate.GONE, Fate.CANCEL]
