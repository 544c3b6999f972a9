"""Evaluations that wait at the same time are one job, of which each has an id of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slurm_shims import Cluster, Submitting, wait_for

from run_experiment.slurm.events import Submitted
from run_experiment.slurm.job_ids import is_of_slurm, slurm_id
from snakemake_executor_plugin_slurm_attached.earlier.find import earlier_jobs
from snakemake_executor_plugin_slurm_attached.submissions import planned_submission, targets_of
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Call
from snakemake_executor_plugin_slurm_attached.submitting.sharing import Share, minutes_of, one_call, share_of
from snakemake_executor_plugin_slurm_attached.submitting.submitter import Request

LINES = "#SBATCH --gres=gpu:1\n"


def request(folder: Path, name: str, key: str = "base", most: int = 3) -> Request:
    facts = {"target": f"r4/eval/{name}.json", "config_hash": f"{name:0>16}", "name": f"tiny.{name}"}
    share = Share(most, (key,), Call(("--qos=low",), LINES), "evaluate", f" --job {name}.json", 60)
    return Request(planned_submission(folder, facts), [name], "#!/bin/sh\n", "run_evaluation", 0, 0, share=share)


def submitted(here: Submitting, *requests: Request) -> None:
    with here.submitter.gathering:
        for one in requests:
            here.submitter.put(one)
    wait_for(10, lambda: len(here.accepted_targets) + len(here.refused) == len(requests))
    here.submitter.stop()


def test_what_waits_together_is_one_job_up_to_the_most(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    others = [request(tmp_path, "x", key="other base"), replace(request(tmp_path, "y"), share=None)]
    submitted(here, *(request(tmp_path, name) for name in "abcd"), *others)
    lines = cluster.submitted.read_text().splitlines()
    assert len(lines) == 4
    assert "--job-name tiny.a+2 " in lines[0]
    # The time of all.
    assert "--qos=low --time=180" in lines[0]
    assert here.accepted_targets == {
        "r4/eval/a.json": "1+1",
        "r4/eval/b.json": "1+2",
        "r4/eval/c.json": "1+3",
        "r4/eval/d.json": "2",
        "r4/eval/x.json": "3",
        "r4/eval/y.json": "4",
    }
    assert {target: one.job_id for target, one in here.ledger.open().items()} == here.accepted_targets
    assert [type(event) for event in here.told] == [Submitted] * 6


def test_what_slurm_refuses_together_is_submitted_one_by_one(tmp_path: Path, cluster: Cluster) -> None:
    """As for a time that no job of the partition may have."""
    refuse = 'echo "sbatch: error: Requested time limit is invalid" >&2; exit 1'
    accept = f'echo "$*" >> {cluster.submitted}; wc -l < {cluster.submitted}'
    cluster.shim(tmp_path / "bin", "sbatch", f'case "$*" in *--time=*) {refuse};; *) {accept};; esac')
    here = Submitting(tmp_path)
    submitted(here, request(tmp_path, "a"), request(tmp_path, "b"))
    assert here.accepted_targets == {"r4/eval/a.json": "1", "r4/eval/b.json": "2"}
    assert not here.refused


def test_a_job_is_found_again_for_each_of_its_targets(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    submitted(here, request(tmp_path, "a"), request(tmp_path, "b"))
    noted = here.ledger.open()
    (comment,) = {one.comment for one in noted.values()}
    assert targets_of(comment) == {"r4/eval/a.json": "000000000000000a", "r4/eval/b.json": "000000000000000b"}
    fields = f'"$mark"1"$mark"RUNNING"$mark"None"$mark"tiny.a+1"$mark"{comment}"$mark"'
    cluster.shim(tmp_path / "bin", "squeue", f"for last; do :; done; mark=${{last##*%k}}; echo {fields}")
    found = earlier_jobs(tmp_path, here.ledger, here.told.append)
    assert {target: former.submission for target, former in found.items()} == noted
    assert {former.state for former in found.values()} == {"RUNNING"}
    # Its first target is made.
    here.ledger.settled("r4/eval/a.json", "1+1", "COMPLETED")
    assert list(earlier_jobs(tmp_path, here.ledger, here.told.append)) == ["r4/eval/b.json"]


@pytest.mark.parametrize(
    ("time", "minutes"),
    {
        "90": 90,
        "30:01": 31,
        "02:00:00": 120,
        "1-12": 2160,
        "1-00:30": 1470,
        "1-00:00:01": 1441,
        "UNLIMITED": None,
    }.items(),
)
def test_time_limits(time: str, minutes: int | None) -> None:
    assert minutes_of(time) == minutes


def job(together: int, command: str = "python run.py") -> Any:
    return SimpleNamespace(
        params=SimpleNamespace(together=together, script="python run.py"), shellcmd=f"{command} --job a"
    )


def facts(**given: Any) -> dict[str, Any]:
    return {"files": {"r4/eval/a.slurm": "0"}, "script": "r4/eval/a.slurm", "config": {}, "base": "/model", **given}


def test_jobs_share_one_if_all_but_their_time_is_the_same() -> None:
    first = share_of(job(2), facts(), Call((), "#SBATCH --time=60 --gres=gpu:1\n"))
    second = share_of(job(2), facts(), Call((), "#SBATCH --time=2:00:00 --gres=gpu:1\n"))
    other = share_of(job(2), facts(base="/other"), Call((), "#SBATCH --time=60 --gres=gpu:1\n"))
    assert first
    assert second
    assert other
    assert first.key == second.key != other.key
    assert one_call([first, second]) == (
        Call(("--time=180",), "#SBATCH --gres=gpu:1\n"),
        "python run.py --job a --job a",
    )


@pytest.mark.parametrize(
    "alone",
    [
        (job(1), facts()),
        (job(2), facts(files={})),
        (job(2), facts(config={"a.slurm": {"sha256": "0"}})),
        (job(2, "other"), facts()),
    ],
    ids=["by its setting", "script of another tool", "edited script", "another rule"],
)
def test_jobs_that_share_none(alone: tuple[Any, dict[str, Any]]) -> None:
    assert share_of(*alone, Call((), "#SBATCH --time=60\n")) is None


def test_ids() -> None:
    assert [slurm_id(one) for one in ("17", "17+2")] == ["17", "17"]
    assert [is_of_slurm(one) for one in ("17", "17+2", "local-3", "17+", "")] == [True, True, False, False, False]
