"""The clients of a real SLURM: jobs there and back, refusals, limits, and daemons that do not answer."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cluster_runs import of_another_cluster, without_accounts

from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.clients import QueuedJob, accounted_ids, accounting, cancel, queue, submit
from run_experiment.slurm.errors import NoAccountingError, PassingError, SlurmError
from run_experiment.slurm.states import is_live, succeeded

# They share a cluster of their own.
pytestmark = pytest.mark.xdist_group("clients")

CLUSTER = Path(__file__).parent / "cluster"

ODD_NAMES = [
    "a|b c",
    "q\"u'o`te",
    "back\\slash",
    "per%jcent %%",
    "line\nend",
    "ünï—код",
    "\x1f\x1e\t",
    "{a: 1}",
    "(null)x",
]
QUIET = ("--output=/dev/null", "--chdir=/tmp", "--mem=100")


def cluster(*arguments: str) -> str:
    result = subprocess.run([CLUSTER, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module", autouse=True)
def own_cluster() -> Iterator[None]:
    """A cluster beside the one of other tests, since these stop its daemons; its sockets want a short path."""
    folder = tempfile.mkdtemp(prefix="slurm-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUN_EXPERIMENT_SLURM", folder)
        try:
            patch.setenv("SLURM_CONF", cluster("up").strip().partition("=")[2])
            yield
        finally:
            cluster("down")


@pytest.fixture(autouse=True)
def empty_queue() -> Iterator[None]:
    """No job of one test is left to the next."""
    yield
    cancel({one.job_id for one in queue()})
    until(lambda: queue() == [])


@contextmanager
def stopped(daemon: str) -> Iterator[None]:
    """Without one of the daemons for a while."""
    cluster("stop", daemon)
    try:
        yield
    finally:
        cluster("up")


@contextmanager
def limited(entity: str, name: str, limit: str) -> Iterator[None]:
    """With a limit in accounting for a while."""
    command = ["sacctmgr", "--immediate", "modify", entity, name, "set"]
    subprocess.run([*command, f"{limit}=1"], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([*command, f"{limit}=-1"], check=True, capture_output=True)


def job(commands: str, *options: str) -> str:
    return submit([*QUIET, *options], f"#!/bin/bash\n{commands}\n")


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {queue()}"
        time.sleep(0.2)


def queued(job_id: str) -> QueuedJob | None:
    return next((one for one in queue() if one.job_id == job_id), None)


def running(job_id: str) -> bool:
    one = queued(job_id)
    return one is not None and one.state == "RUNNING"


def end(job_id: str) -> AccountedJob:
    """What accounting says of a job once it ended."""
    until(lambda: job_id in (known := accounting([job_id])) and not is_live(known[job_id].state))
    return accounting([job_id])[job_id]


def test_there_and_back_with_odd_names() -> None:
    names = {job("sleep 60", f"--job-name={name}", f"--comment={name}#"): name for name in ODD_NAMES}
    plain = job("sleep 60", "--begin=now+1hour")
    found = {one.job_id: one for one in queue()}
    assert set(found) == {*names, plain}
    assert {job_id: (found[job_id].name, found[job_id].comment) for job_id in names} == {
        job_id: (name, f"{name}#") for job_id, name in names.items()
    }
    assert found[plain].comment == ""
    assert (found[plain].state, found[plain].reason) == ("PENDING", "BeginTime")
    until(lambda: set(accounting({*names, plain, "999999"})) == {*names, plain})
    known = accounting(names)
    plain_names = {job_id: name for job_id, name in names.items() if not re.search(r"[^ -~]|[\"']", name)}
    assert len(plain_names) == 5
    assert {job_id: known[job_id].name for job_id in plain_names} == plain_names
    # Accounting replaces quotes, and what is not Latin.
    assert known[next(iter(names.keys() - plain_names))].state in ("PENDING", "RUNNING")
    cancel({*names, plain, "999999"})
    until(lambda: queue() == [])
    cancel(names)


def test_accounts_of_a_failed_job() -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    failed, fine = job("exit 7"), job("true")
    one = end(failed)
    assert (one.state, one.exit_code, one.cancelled_by, one.uid) == ("FAILED", "7:0", None, os.getuid())
    assert one.nodes in ("n1", "n2")
    assert one.submitted is not None
    assert one.started is not None
    assert one.ended is not None
    assert before < one.submitted <= one.started <= one.ended < datetime.now(UTC) + timedelta(seconds=2)
    until(lambda: accounting([failed])[failed].settled)
    one = accounting([failed])[failed]
    assert (one.cpus, one.node_count, one.gpus, one.requested_memory_mib) == (1, 1, 0, 100)
    assert succeeded(end(fine).state)


def test_accounts_know_a_job_by_its_name_and_folder(tmp_path: Path) -> None:
    """What finds a job whose id was never noted."""
    name, since = "tiny.r4", datetime.now().astimezone()
    found = job("exit 3", f"--job-name={name}", f"--chdir={tmp_path}")
    job("exit 3", f"--job-name={name}")
    # What is asked for by its time is shown later than by its id.
    until(lambda: accounted_ids(name, tmp_path, since) == [found])
    assert accounted_ids("tiny.r8", tmp_path, since) == []
    assert accounted_ids(name, tmp_path, since + timedelta(hours=1)) == []


def test_accounts_say_who_cancelled() -> None:
    one = job("sleep 60")
    until(lambda: running(one))
    until(lambda: one in accounting([one]))
    assert accounting([one])[one].ended is None
    assert not accounting([one])[one].settled
    cancel([one])
    assert (end(one).state, end(one).cancelled_by) == ("CANCELLED", "root")
    until(lambda: accounting([one])[one].settled)


def test_of_a_requeued_job_the_last_start_counts() -> None:
    one = job("sleep 60")
    until(lambda: running(one))
    subprocess.run(["scontrol", "requeue", one], check=True)
    seen: list[str] = []

    def pending() -> bool:
        seen.append(accounting([one])[one].state)
        return seen[-1] == "PENDING"

    until(pending)
    # RUNNING where accounting lags; on a busy machine REQUEUED may have passed unseen.
    assert set(seen) - {"RUNNING", "REQUEUED"} == {"PENDING"}
    cancel([one])
    assert end(one).state == "CANCELLED"


def test_a_preempted_job_is_queued_again_before_accounting_knows() -> None:
    low = job("sleep 60", "--partition=preemptible", "--nodelist=n1", "--exclusive")
    until(lambda: running(low))
    end(job("true", "--nodelist=n1"))
    one = queued(low)
    assert one is not None
    assert is_live(one.state)
    cancel([low])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--mem=999G", "Memory specification can not be satisfied"),
        ("--partition=unheard-of", "Invalid partition name specified"),
        ("--time=2-00:00:00", "Requested time limit is invalid"),
        ("--account=unheard-of", "Invalid account or account/partition combination"),
        ("--gres=gpu:9", "Requested node configuration is not available"),
        ("--unheard-of", "unrecognized option '--unheard-of'"),
    ],
)
def test_an_impossible_request_is_refused_for_good(option: str, words: str) -> None:
    with pytest.raises(SlurmError, match=words) as raised:
        job("true", option)
    assert not isinstance(raised.value, PassingError)


@pytest.mark.parametrize(
    ("entity", "name", "limit", "words"),
    [
        ("qos", "normal", "MaxSubmitJobsPerUser", "QOSMaxSubmitJobPerUserLimit"),
        ("qos", "normal", "GrpSubmitJobs", "QOSGrpSubmitJobsLimit"),
        ("account", "lab", "GrpSubmitJobs", "AssocGrpSubmitJobsLimit"),
    ],
)
def test_a_limit_on_submitted_jobs_passes(entity: str, name: str, limit: str, words: str) -> None:
    with limited(entity, name, limit):
        first = job("sleep 60")
        with pytest.raises(PassingError, match=words):
            job("true")
        cancel([first])
        until(lambda: queued(first) is None)
        assert succeeded(end(job("true")).state)


def test_without_slurmctld_nothing_hangs() -> None:
    one = job("sleep 60")
    # Until accounting has it, too, which otherwise may learn of it only later.
    until(lambda: one in accounting([one]))
    calls = (lambda: submit(QUIET, "#!/bin/bash\n", 5), lambda: queue(5), lambda: cancel([one], 5))
    with stopped("slurmctld"):
        for call in calls:
            began = time.monotonic()
            with pytest.raises(PassingError, match="Unable to contact slurm controller"):
                call()
            assert time.monotonic() - began < 6
        assert one in accounting([one])
    assert queued(one) is not None
    cancel([one])


@pytest.mark.parametrize("daemon", ["slurmdbd", "mariadbd"])
def test_without_accounting_jobs_are_submitted_all_the_same(daemon: str) -> None:
    with stopped(daemon):
        with pytest.raises(PassingError, match="Problem talking to the database"):
            accounting(["1"])
        one = job("true")
        until(lambda: queued(one) is None)
    assert succeeded(end(one).state)


def test_without_munged() -> None:
    with stopped("munged"), pytest.raises(PassingError, match="Munge encode failed"):
        queue()


def test_a_cluster_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in of_another_cluster(tmp_path).items():
        monkeypatch.setenv(name, value)
    one = job("sleep 60")
    assert queued(one) is not None
    cancel([one])
    assert end(one).state == "CANCELLED"


def test_a_cluster_that_keeps_no_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in without_accounts(tmp_path).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NoAccountingError):
        accounting(["1"])


def test_a_surrounding_allocation_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.setenv("SQUEUE_STATES", "COMPLETED")
    monkeypatch.setenv("SACCT_FORMAT", "jobid")
    monkeypatch.setenv("MARK", "kept")
    one = job(f"echo $MARK ${{SLURM_CPUS_PER_TASK-unset}} > {tmp_path}/seen; sleep 60")
    until(lambda: running(one))
    until((tmp_path / "seen").exists)
    cancel([one])
    assert end(one).uid == os.getuid()
    assert (tmp_path / "seen").read_text() == "kept unset\n"
