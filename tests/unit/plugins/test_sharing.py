"""Evaluations that wait at the same time are one job, of which each has an id of its own."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slurm_shims import Cluster, Submitting, wait_for

from run_experiment.attempts.turns import begin
from run_experiment.slurm import clients
from run_experiment.slurm.events import Submitted
from run_experiment.slurm.job_ids import in_order, is_of_slurm, slurm_id, submitted_id
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier
from snakemake_executor_plugin_slurm_attached.earlier.find import earlier_jobs
from snakemake_executor_plugin_slurm_attached.submissions import (
    find,
    find_submitted,
    planned_submission,
    targets_of,
)
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Call
from snakemake_executor_plugin_slurm_attached.submitting.sharing import Share, minutes_of, one_submission, share_of
from snakemake_executor_plugin_slurm_attached.submitting.submitter import Request

LINES = "#SBATCH --gres=gpu:1\n"


def request(folder: Path, name: str, key: str = "base", most: int = 3, elements: int = 1) -> Request:
    facts = {"target": f"r4/eval/{name}.json", "config_hash": f"{name:0>16}", "name": f"tiny.{name}"}
    plain, call = Call(("--qos=low",), LINES), Call(("--qos=low", "--time=60"), LINES)
    share = Share(most, elements, (key,), call, f"run {name}", plain, "evaluate", f" --job {name}.json", 60)
    return Request(planned_submission(folder, facts), [name], "#!/bin/sh\n", "run_evaluation", 0, 0, share=share)


def show(cluster: Cluster, folder: Path, *jobs: tuple[str, str, str, str]) -> None:
    """Have squeue print jobs: id, state, name and comment."""
    rows = [("", job_id, state, "None", name, comment, "") for job_id, state, name, comment in jobs]
    prints = "; ".join("echo " + '"$mark"'.join(map(shlex.quote, row)) for row in rows)
    cluster.shim(folder / "bin", "squeue", f"for last; do :; done; mark=${{last##*%k}}; {prints}")


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
    show(cluster, tmp_path, ("1", "RUNNING", "tiny.a+1", comment))
    found = earlier_jobs(tmp_path, here.ledger, here.told.append, clients.queue)
    assert {target: former.submission for target, former in found.items()} == noted
    assert {former.state for former in found.values()} == {"RUNNING"}
    # Its first target is made.
    here.ledger.settled("r4/eval/a.json", "1+1", "COMPLETED")
    assert list(earlier_jobs(tmp_path, here.ledger, here.told.append, clients.queue)) == ["r4/eval/b.json"]


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
        rule=SimpleNamespace(name="run_evaluation"),
        params=SimpleNamespace(together=together, script="python run.py"),
        shellcmd=f"{command} --job a",
    )


def facts(**given: Any) -> dict[str, Any]:
    return {"files": {"r4/eval/a.slurm": "0"}, "script": "r4/eval/a.slurm", "config": {}, "base": "/model", **given}


def test_jobs_share_one_if_all_but_their_time_is_the_same() -> None:
    calls = [Call((), f"#SBATCH --time={time} --gres=gpu:1\n") for time in ("60", "2:00:00")]
    first, second = (share_of(job(2), facts(), call, "alone", 1) for call in calls)
    other = share_of(job(2), facts(base="/other"), calls[0], "alone", 1)
    by_vllm = {"config": {"generation": {"backend": "vllm"}}}
    backend = share_of(job(2), facts(**by_vllm), calls[0], "alone", 1)
    assert first
    assert second
    assert other
    assert backend
    assert first.key == second.key
    assert len({first.key, other.key, backend.key}) == 3
    command = "cd /here && exec bash -euo pipefail -c 'python run.py --job a --job a'"
    assert one_submission(Path("/here"), [[first, second]]) == (
        Call(("--time=180",), "#SBATCH --gres=gpu:1\n"),
        command,
    )
    assert one_submission(Path("/here"), [[first, second], [first]]) == (
        Call(("--time=180", "--array=1-2"), "#SBATCH --gres=gpu:1\n"),
        f'case "$SLURM_ARRAY_TASK_ID" in\n1) {command} ;;\n2) alone ;;\nesac',
    )


def test_elements_of_an_array_have_one_time_and_any_model() -> None:
    calls = [Call(("--qos=low",), f"#SBATCH --time={time} --gres=gpu:1\n") for time in ("60", "90")]
    first, longer = (share_of(job(1, "any"), facts(files={}), call, "alone", 5) for call in calls)
    other = share_of(job(1), facts(base="/other"), calls[0], "alone", 5)
    assert first
    assert longer
    assert other
    assert first.key == other.key != longer.key
    assert (first.most, first.elements) == (1, 5)
    assert one_submission(Path("/here"), [[first], [other]])[0] == Call(("--qos=low", "--array=1-2"), calls[0].lines)


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
    assert share_of(*alone, Call((), "#SBATCH --time=60\n"), "alone", 1) is None


def test_ids() -> None:
    ids = ("17", "17+2", "17_3", "17_3+2")
    assert [slurm_id(one) for one in ids] == ["17", "17", "17_3", "17_3"]
    assert [submitted_id(one) for one in ids] == ["17"] * 4
    assert sorted(("17_10", "9", "17_3"), key=in_order) == ["9", "17_3", "17_10"]
    assert all(map(is_of_slurm, ids))
    assert not any(map(is_of_slurm, ("local-3", "17+", "17_", "17_[3-5]", "17+2_3", "")))


def elements(folder: Path, names: str, most: int = 1) -> list[Request]:
    return [request(folder, name, most=most, elements=4) for name in names]


def test_jobs_are_elements_of_arrays_up_to_the_most(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    submitted(here, *elements(tmp_path, "abcdef"))
    first, second = cluster.submitted.read_text().splitlines()
    assert "--job-name tiny.a+3 " in first
    assert "-%A_%a.out" in first
    assert "--qos=low --time=60 --array=1-4" in first
    assert "--array=1-2" in second
    assert list(here.accepted_targets.values()) == ["1_1", "1_2", "1_3", "1_4", "2_1", "2_2"]
    assert {target: one.job_id for target, one in here.ledger.open().items()} == here.accepted_targets


def test_elements_may_have_several_targets(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    submitted(here, *elements(tmp_path, "abc", most=2))
    assert "--qos=low --time=120 --array=1-2" in cluster.submitted.read_text()
    assert list(here.accepted_targets.values()) == ["1_1+1", "1_1+2", "1_2"]


def test_an_array_has_no_more_elements_than_there_is_place_in_the_queue(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path, limit=3)
    with here.submitter.gathering:
        for one in elements(tmp_path, "abcd"):
            here.submitter.put(one)
    wait_for(10, lambda: len(here.accepted_targets) == 3)
    here.submitter.stop()
    assert "--array=1-3" in cluster.submitted.read_text()


def test_an_array_that_is_more_than_the_user_may_submit_is_halved(tmp_path: Path, cluster: Cluster) -> None:
    refuse = 'echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1'
    accept = f'echo "$*" >> {cluster.submitted}; wc -l < {cluster.submitted}'
    cluster.shim(tmp_path / "bin", "sbatch", f'case "$*" in *--array=1-[34]*) {refuse};; *) {accept};; esac')
    here = Submitting(tmp_path)
    submitted(here, *elements(tmp_path, "abcd"))
    assert list(here.accepted_targets.values()) == ["1_1", "1_2", "2_1", "2_2"]
    assert [type(event) for event in here.told] == [Submitted] * 4


def test_an_array_names_no_more_targets_than_a_comment_may(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    names = [f"{number}{'x' * 500}" for number in range(3)]
    submitted(here, *(request(tmp_path, name, most=1, elements=4) for name in names))
    assert len(here.accepted_targets) == 3
    assert "--array" not in cluster.submitted.read_text()


def test_elements_of_an_array_are_found_again_as_they_wait_and_run(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    submitted(here, *elements(tmp_path, "abcd"))
    noted = here.ledger.open()
    (comment,) = {one.comment for one in noted.values()}
    assert targets_of(comment, "1_2") == {"r4/eval/b.json": "000000000000000b"}
    rows = [("1_2", "RUNNING"), ("1_3", "PENDING"), ("1_4", "PENDING")]
    show(cluster, tmp_path, *((job_id, state, "tiny.a+3", comment) for job_id, state in rows))
    found = earlier_jobs(tmp_path, here.ledger, here.told.append, clients.queue)
    # The first has ended, and accounting does not have it yet.
    assert [(one.submission.job_id, one.state) for _, one in sorted(found.items())] == [("1_1", "PENDING"), *rows]
    assert {target: former.submission for target, former in found.items()} == noted
    assert find(noted["r4/eval/b.json"]) == "1_2"
    first = replace(noted["r4/eval/a.json"], job_id=None)
    assert (find(first), find_submitted(first)) == (None, "1")


def outdated(folder: Path, cluster: Cluster, *begun: str) -> tuple[Submitting, str]:
    """Two targets of a job that runs; the second, `1+2`, is outdated. Returns what scancel was called with, too."""
    here = Submitting(folder)
    submitted(here, request(folder, "a"), request(folder, "b"))
    (comment,) = {one.comment for one in here.ledger.open().values()}
    show(cluster, folder, ("1", "RUNNING", "tiny.a+1", comment))
    calls = folder / "scancel"
    cluster.shim(folder / "bin", "scancel", f'echo "$*" >> {calls}')
    for job_id in begun:
        assert begin(folder, job_id)
    former = here.ledger.open()["r4/eval/b.json"]
    here = Submitting(folder)
    here.submitter.put(replace(request(folder, "b"), share=None, former=Earlier(former, "RUNNING")))
    wait_for(10, lambda: here.accepted_targets or calls.exists())
    here.submitter.stop()
    return here, calls.read_text() if calls.exists() else ""


def test_an_outdated_evaluation_before_its_turn_costs_the_others_nothing(tmp_path: Path, cluster: Cluster) -> None:
    here, cancelled = outdated(tmp_path, cluster, "1+1")
    assert not cancelled
    assert here.accepted_targets == {"r4/eval/b.json": "2"}
    assert not begin(tmp_path, "1+2")
    # Of the job that still runs only the first target is known: the other is made by another job.
    found = earlier_jobs(tmp_path, here.ledger, here.told.append, clients.queue)
    assert found["r4/eval/a.json"].submission.job_id == "1+1"
    assert found["r4/eval/b.json"].submission.job_id == "2"


def test_an_outdated_evaluation_that_runs_is_cancelled_with_its_job(tmp_path: Path, cluster: Cluster) -> None:
    here, cancelled = outdated(tmp_path, cluster, "1+1", "1+2")
    assert cancelled == "1\n"
    assert not here.accepted_targets
