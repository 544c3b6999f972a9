"""The executor fits the one it extends; jobs go out in order, not too fast, not too many, and not after a stop."""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_interface_common.exceptions import WorkflowError

from run_experiment.attempts import history
from run_experiment.attempts.files import Failure
from run_experiment.attempts.redone import move_away
from run_experiment.common.json_files import write_record
from run_experiment.slurm.clients import AccountedJob
from run_experiment.slurm.events import Cancelled, Delayed, Event, Finished, QueueFull, Reattached, Submitted
from run_experiment.slurm.ledger import Ledger, Submission
from run_experiment.slurm.same_job import is_same
from snakemake_executor_plugin_slurm_attached import Executor, ExecutorSettings
from snakemake_executor_plugin_slurm_attached.earlier.fate import Earlier, Fate
from snakemake_executor_plugin_slurm_attached.earlier.outdated import cancel_outdated
from snakemake_executor_plugin_slurm_attached.ends.left_behind import read_left, why_failed
from snakemake_executor_plugin_slurm_attached.ends.retry_policy import Left, Limits, judge
from snakemake_executor_plugin_slurm_attached.ends.verdict import End, verdict
from snakemake_executor_plugin_slurm_attached.following.background import Background
from snakemake_executor_plugin_slurm_attached.messages import level, message
from snakemake_executor_plugin_slurm_attached.submissions import output_of
from snakemake_executor_plugin_slurm_attached.submitting.pacing import Pacing
from snakemake_executor_plugin_slurm_attached.submitting.submitter import Request, Submitter

# What the executor overrides, as it was when it was written.
OVERRIDDEN = {
    "__post_init__": "(self, test_mode)",
    "run_jobs": "(self, jobs)",
    "run_job": "(self, job)",
    "format_job_exec": "(self, job)",
    "check_active_jobs": "(self, active_jobs)",
    "cancel": "(self)",
    "shutdown": "(self)",
}

PLUGIN = "snakemake_executor_plugin_slurm_attached"


def signature(owner: type, name: str) -> str:
    return f"({', '.join(inspect.signature(getattr(owner, name)).parameters)})"


def test_what_is_overridden_is_there_in_the_pinned_version() -> None:
    assert version("snakemake-executor-plugin-slurm") == "2.8.0"
    inherited = {name for owner in SlurmExecutor.__mro__[:-1] for name in vars(owner)}
    own = {name for name, value in vars(Executor).items() if inspect.isfunction(value)}
    assert own & inherited == set(OVERRIDDEN)
    for name, expected in OVERRIDDEN.items():
        assert (signature(SlurmExecutor, name), signature(Executor, name)) == (expected, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"array_jobs": "all"},
        {"partition_config": Path(__file__)},
        {"on_interrupt": "ask"},
        {"max_queued": 0},
        {"poll_seconds": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError):
        ExecutorSettings(**wrong)


def test_another_cluster_by_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    with pytest.raises(WorkflowError, match="SBATCH_CLUSTERS is set in the environment: jobs run on one cluster"):
        ExecutorSettings()


class Cluster:
    """Shims of SLURM's clients on PATH: sbatch keeps its arguments, squeue says what a file holds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.submitted, self.answers = folder / "submitted", folder / "answers"
        self.answers.mkdir()
        self.shim(folder, "sbatch", f'echo "$*" >> {self.submitted}; wc -l < {self.submitted}')
        self.shim(folder, "squeue", f"cat {self.answers}/squeue 2>/dev/null || true")
        self.shim(folder, "sacct", "true")
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def shim(self, folder: Path, name: str, body: str) -> None:
        # Moved into place: what is being run cannot be written to.
        new = folder / f".{name}"
        new.write_text(f"#!/bin/sh\n{body}\n")
        new.chmod(0o755)
        new.replace(folder / name)

    def queue(self, folder: Path, *jobs: str) -> None:
        """Have squeue print jobs, `id state name`, between marks that differ each time: its format has them."""
        fields = '"$mark$id$mark$state${mark}None$mark$name${mark}comment $name$mark"'
        read = f"while read id state name; do echo {fields}; done"
        lines = "\n".join(jobs)
        self.shim(folder, "squeue", f"for last; do :; done; mark=${{last##*%k}}\n{read} <<'END'\n{lines}\nEND")

    def names(self) -> list[str]:
        return self.submitted.read_text().split() if self.submitted.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Cluster(folder, monkeypatch)


def request(name: str, priority: float = 0, kind: str = "finetune", stagger: float = 0) -> Request:
    submission = Submission(f"{name}/finetune.json", "hash", name, f"comment {name}", 0, "2025-01-31T10:00:00+01:00")
    return Request(submission, [name], "#!/bin/sh\n", kind, stagger, priority)


class Submitting:
    """A submitter, and what it told."""

    def __init__(self, folder: Path, limit: int = 100, refresh: float = 100) -> None:
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.accepted: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.told: list[Event] = []
        self.pacing = Pacing(limit, refresh, lambda: set(self.accepted.values()))
        self.ended: list[Submission] = []
        self.submitter = Submitter(
            folder, self.ledger, self.pacing, self._accept, self._refuse, self.ended.append, self.told.append
        )

    def _accept(self, submission: Submission) -> None:
        self.accepted[submission.name] = str(submission.job_id)

    def _refuse(self, submission: Submission, reason: str) -> None:
        self.refused[submission.name] = reason


def wait_for(seconds: float, condition: object) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


def test_jobs_of_a_kind_are_submitted_apart(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    begun = time.monotonic()
    for number in range(3):
        here.submitter.put(request(f"a{number}", stagger=0.4))
    wait_for(10, lambda: len(here.accepted) == 3)
    assert time.monotonic() - begun > 0.8
    here.submitter.stop()


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


def test_jobs_wait_until_the_queue_has_room_for_them(tmp_path: Path, cluster: Cluster) -> None:
    cluster.shim(
        tmp_path / "bin",
        "squeue",
        # The format ends in `%k` and a separator, which is different every time.
        "for last; do :; done; mark=${last##*%k}\n"
        f"[ -e {tmp_path}/full ] || exit 0\n"
        "for job in 901 902; do\n"
        """printf "%s$job%sRUNNING%sNone%sother%s(null)%s\\n" "$mark" "$mark" "$mark" "$mark" "$mark" "$mark"\n"""
        "done",
    )
    (tmp_path / "full").touch()
    here = Submitting(tmp_path, limit=3, refresh=0.2)
    for number in range(2):
        here.submitter.put(request(f"a{number}"))
    wait_for(10, lambda: here.accepted)
    time.sleep(1.5)
    assert set(here.accepted) == {"a0"}
    (tmp_path / "full").unlink()
    wait_for(10, lambda: len(here.accepted) == 2)
    here.submitter.stop()


def test_a_submission_that_slurm_did_not_answer_is_tried_again_once_accepted(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 1.0)
    cluster.shim(
        tmp_path / "bin",
        "sbatch",
        f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -lt 3 ] && "
        '{ echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1; }; echo 17',
    )
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(20, lambda: here.accepted)
    here.submitter.stop()
    assert here.accepted == {"a": "17"}
    assert [type(event) for event in here.told] == [Delayed, Submitted]


@pytest.mark.parametrize("seconds", [0, 4], ids=["at once", "after long"])
def test_a_submission_that_slurm_accepts_after_its_answer_was_given_up_is_not_made_twice(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """However long sbatch waited for an answer: the job may come for a while after that."""
    monkeypatch.setattr(f"{PLUGIN}.submitting.sbatch._ASK_AGAIN", 0.2)
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 4.0)
    late = f'sleep {seconds}; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    cluster.shim(tmp_path / "bin", "sbatch", f"echo x >> {tmp_path}/tries; {late}")
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.told)
    # The first look comes a second later.
    time.sleep(2)
    cluster.queue(tmp_path / "bin", "41 PENDING a")
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert here.accepted == {"a": "41"}
    assert (tmp_path / "tries").read_text() == "x\n"
    assert here.ledger.open()["a/finetune.json"].job_id == "41"


def test_a_job_that_ended_before_it_was_looked_for_is_not_submitted_again(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 0.0)
    late = 'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    cluster.shim(tmp_path / "bin", "sbatch", f"echo x >> {tmp_path}/tries; {late}")
    fields = f"43${{mark}}a$mark$(date +%Y-%m-%dT%H:%M:%S)$mark{tmp_path}$mark"
    find = "for word; do case $word in --delimiter=*) mark=${word#--delimiter=};; esac; done"
    cluster.shim(tmp_path / "bin", "sacct", f'{find}; echo "{fields}"')
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.accepted)
    here.submitter.stop()
    assert here.accepted == {"a": "43"}
    assert (tmp_path / "tries").read_text() == "x\n"


def test_accounts_that_cannot_be_asked_keep_no_job_from_being_submitted(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{PLUGIN}.submissions.ON_ITS_WAY", 0.0)
    late = 'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    tries = tmp_path / "tries"
    cluster.shim(
        tmp_path / "bin", "sbatch", f"echo x >> {tries}; [ $(wc -l < {tries}) = 2 ] && echo 7 || {{ {late}; }}"
    )
    cluster.shim(tmp_path / "bin", "sacct", 'echo "sacct: fatal: Bad SLURM configuration" >&2; exit 1')
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.accepted or here.refused)
    here.submitter.stop()
    assert here.accepted == {"a": "7"}


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


def test_a_job_that_sbatch_refused_and_slurm_has_is_followed(tmp_path: Path, cluster: Cluster) -> None:
    """A site's wrapper may print the id, and fail after that."""
    cluster.shim(tmp_path / "bin", "sbatch", 'echo 35; echo "wrapper: no mail" >&2; exit 1')
    cluster.queue(tmp_path / "bin", "35 PENDING a")
    here = Submitting(tmp_path)
    here.submitter.put(request("a"))
    wait_for(10, lambda: here.accepted or here.refused)
    here.submitter.stop()
    assert (here.accepted, here.refused) == ({"a": "35"}, {})
    assert here.ledger.open()["a/finetune.json"].job_id == "35"


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


def test_a_queue_that_others_fill_is_reported_once(tmp_path: Path, cluster: Cluster) -> None:
    """The allocation that Snakemake itself runs in is no job that could end first."""
    cluster.queue(tmp_path / "bin", "7 RUNNING salloc", "8 PENDING b", "9 PENDING c")
    reported: list[int] = []
    pacing = Pacing(2, 0.1, set, reported.append, {"SLURM_JOB_ID": "7"})
    waiting = threading.Thread(target=lambda: pacing.wait("finetune", 0, lambda: None))
    waiting.start()
    wait_for(10, lambda: reported)
    time.sleep(1.5)
    cluster.queue(tmp_path / "bin", "7 RUNNING salloc", "8 PENDING b")
    waiting.join(10)
    assert not waiting.is_alive()
    assert reported == [2]
    assert message(QueueFull(2)) == (
        "waiting: 2 of your jobs are in the queue, none of this experiment (slurm-attached-max-queued)"
    )


def test_a_job_whose_output_cannot_be_opened_has_run_nothing(tmp_path: Path) -> None:
    job, output = accounted("FAILED", "0:53"), tmp_path / "logs/slurm/17.out"
    said = why_failed(tmp_path, job, R4, output)
    assert said.endswith(f"SLURM could not write {output}: its folder has to exist, and to be writable on n1")
    left = read_left(tmp_path, job, R4, output, TRAINING)
    assert judge(job, left, 0, LIMITS).again == "SLURM could not write its output, retry 1 of 3"
    assert "cannot write to the experiment's folder logs/slurm" in judge(job, left, 3, LIMITS).advice
    output.parent.mkdir(parents=True)
    output.touch()
    assert judge(job, read_left(tmp_path, job, R4, output, TRAINING), 0, LIMITS).again == ""


@pytest.mark.parametrize("length", [119, 128])
def test_the_longest_names_that_the_summary_may_have(tmp_path: Path, length: int) -> None:
    """A file's name may have 255 bytes; accounting cuts a job's name after as many characters."""
    name = ".".join(("x" * length, "r" * length, "t" * length, "e1"))
    submission = replace(R4, name=name, job_id="4294967295")
    output = output_of(tmp_path, submission)
    output.parent.mkdir(parents=True)
    output.touch()
    assert is_same(replace(accounted("FAILED"), name=name[:255]), submission)
    assert not is_same(replace(accounted("FAILED"), name=name[:254]), submission)


def test_a_call_in_the_background_gives_its_result_once_or_its_error() -> None:
    call: Background[int] = Background()
    call.start(lambda: 3)
    wait_for(5, lambda: not call.busy or call._thread is None or not call._thread.is_alive())
    assert call.take() == 3
    assert call.take() is None
    call.start(lambda: 1 // 0)
    time.sleep(0.1)
    with pytest.raises(ZeroDivisionError):
        call.take()


# What becomes of a job that ended badly


NOON = datetime.fromisoformat("2025-01-31T12:00:00+01:00")
LIMITS = Limits(3, "r4/finetune.slurm")
R4 = Submission("r4/finetune.json", "hash", "tiny.r4", "comment", 0, NOON.isoformat(), "17")
TRAINING = {"checkpoints": ["r4/artifacts/epoch_0"], "output_dir": "r4/artifacts", "script": "r4/finetune.slurm"}


def accounted(state: str, exit_code: str = "0:0") -> AccountedJob:
    """A job that ended after a minute of its hour."""
    return AccountedJob("17", "tiny.r4", 0, "", state, None, exit_code, "", NOON, NOON, NOON, "n1", 60, 3600)


@pytest.mark.parametrize(
    ("elapsed", "limit", "goes_on", "again"),
    [
        (3480, 3600, True, "out of time, retry 1 of 3"),
        (3480, 3600, False, ""),
        (60, 3600, False, "killed, retry 1 of 3"),
        (3480, None, False, "killed, retry 1 of 3"),
    ],
)
def test_a_job_that_a_signal_ends_before_its_time_limit_is_out_of_time(
    elapsed: int, limit: int | None, goes_on: bool, again: str
) -> None:
    job = replace(accounted("FAILED", "143:0"), elapsed_seconds=elapsed, time_limit_seconds=limit)
    found = judge(job, Left(reported=True, goes_on=goes_on), 0, LIMITS)
    assert found.again == again
    assert ("within its time limit: raise `#SBATCH --time`" in found.advice) == (not again)
    assert judge(replace(job, state="CANCELLED"), Left(goes_on=goes_on), 0, LIMITS).again == ""
    assert judge(replace(job, state="PREEMPTED"), Left(goes_on=goes_on), 0, LIMITS).again == "preempted, retry 1 of 3"


@pytest.mark.parametrize(
    ("state", "exit_code", "left", "again"),
    [
        ("PREEMPTED", "0:0", Left(reported=True), "preempted"),
        ("NODE_FAIL", "0:0", Left(), "its node failed"),
        ("BOOT_FAIL", "0:0", Left(), "its node did not boot"),
        ("TIMEOUT", "0:0", Left(reported=True), "out of time"),
        ("TIMEOUT", "0:0", Left(goes_on=False), ""),
        ("OUT_OF_MEMORY", "0:125", Left(), "out of memory"),
        ("OUT_OF_MEMORY", "1:0", Left(reported=True), ""),
        ("OUT_OF_MEMORY", "0:125", Left(smaller=False), ""),
        ("FAILED", "0:9", Left(over_memory=True), "out of memory"),
        ("FAILED", "0:9", Left(), "killed"),
        ("FAILED", "137:0", Left(), "killed"),
        ("FAILED", "0:9", Left(reported=True, over_memory=True), ""),
        ("FAILED", "1:0", Left(), ""),
        ("FAILED", "0:15", Left(), ""),
        ("FAILED", "143:0", Left(reported=True), "killed"),
        ("FAILED", "9:0", Left(over_memory=True), ""),
        ("CANCELLED", "0:9", Left(), ""),
        ("DEADLINE", "0:0", Left(), ""),
        ("REVOKED", "0:0", Left(), ""),
    ],
)
def test_what_another_job_can_mend(state: str, exit_code: str, left: Left, again: str) -> None:
    found = judge(accounted(state, exit_code), left, 0, LIMITS)
    assert found.again == (f"{again}, retry 1 of 3" if again else "")
    assert found.state == ("OUT_OF_MEMORY" if again == "out of memory" else state)
    last = judge(accounted(state, exit_code), left, 2, LIMITS)
    assert bool(last.again) == bool(again)
    over = judge(accounted(state, exit_code), left, 3, LIMITS)
    assert over.again == ""
    assert ("It was submitted 4 times: raise the setting `retries`, or" in over.advice) == bool(again)


@pytest.mark.parametrize(
    ("state", "left", "retries", "advice"),
    [
        ("TIMEOUT", Left(), 0, "once: raise the setting `retries`, or raise `#SBATCH --time` in r4/finetune.slurm"),
        ("TIMEOUT", Left(goes_on=False), 3, "within its time limit: raise `#SBATCH --time` in r4/finetune.slurm"),
        ("OUT_OF_MEMORY", Left(), 0, "raise `#SBATCH --mem` in r4/finetune.slurm"),
        ("PREEMPTED", Left(), 0, "whose jobs are not preempted"),
        ("NODE_FAIL", Left(), 0, "`#SBATCH --exclude=n1` in r4/finetune.slurm"),
        ("FAILED", Left(), 0, "see what kills it on n1"),
    ],
)
def test_advice_at_the_end(state: str, left: Left, retries: int, advice: str) -> None:
    found = judge(accounted(state, "0:9"), left, 0, Limits(retries, "r4/finetune.slurm"))
    assert found.again == ""
    assert advice in found.advice


@pytest.mark.parametrize(
    ("state", "keys", "resources", "advice"),
    [
        ("TIMEOUT", {}, [], "raise `#SBATCH --time` in r4/finetune.slurm"),
        ("TIMEOUT", {"time": "here"}, ["mem_mb"], "raise `#SBATCH --time` in r4/finetune.slurm (here)"),
        ("TIMEOUT", {"time": "here"}, ["runtime"], "raise the resource runtime of the profile or of --set-resources"),
        ("OUT_OF_MEMORY", {"mem": "here"}, ["runtime"], "raise `#SBATCH --mem` in r4/finetune.slurm (here)"),
        ("OUT_OF_MEMORY", {}, ["mem_mb"], "raise the resource mem_mb of the profile or of --set-resources"),
    ],
)
def test_advice_names_what_decides(state: str, keys: dict[str, str], resources: list[str], advice: str) -> None:
    found = judge(accounted(state), Left(), 0, Limits(0, "r4/finetune.slurm", keys, resources))
    assert found.advice.endswith(advice)


def test_what_a_job_reported_is_of_its_last_try_in_its_last_start(tmp_path: Path) -> None:
    """`17` is an earlier try: in the same allocation, or before the job was requeued."""
    output, before, after = tmp_path / "17.out", NOON.replace(hour=11).isoformat(), NOON.isoformat()
    attempts = tmp_path / "r4/attempts"

    def left() -> tuple[bool, bool]:
        found = read_left(tmp_path, accounted("FAILED", "0:9"), R4, output, TRAINING)
        return found.reported, "too little" in why_failed(tmp_path, accounted("FAILED"), R4, output)

    assert left() == (False, False)
    write_record(attempts / "17/attempt.json", {"ended": before, "error": "too little"})
    assert left() == (False, False)
    write_record(attempts / "17/attempt.json", {"ended": after, "error": "too little"})
    assert left() == (True, True)
    write_record(attempts / "17.2/begun.json", {"started": after})
    write_record(attempts / "170/attempt.json", {"ended": after, "error": "too little"})
    assert left() == (False, False)
    write_record(attempts / "17.2/attempt.json", {"ended": after, "error": "too little"})
    assert left() == (True, True)


@pytest.mark.parametrize(
    ("line", "over_memory"),
    [
        ("slurmstepd-n1: error: StepId=17.batch exceeded memory limit (433188864 > 52428800), being killed", True),
        ("slurmstepd: error: Exceeded job memory limit", True),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=17.batch. Some of the step tasks...", True),
        ("slurmstepd: error: *** JOB 17 ON n1 CANCELLED AT 2025-01-31T12:00:00 ***", False),
        ("RuntimeError: exceeded memory limit", False),
    ],
)
def test_slurm_may_only_say_in_words_that_memory_ran_out(tmp_path: Path, line: str, over_memory: bool) -> None:
    (tmp_path / "17.out").write_text(f"{line}\nslurmstepd: error: *** JOB 17 ON n1 CANCELLED ***\n")
    left = read_left(tmp_path, accounted("FAILED", "0:9"), R4, tmp_path / "17.out", TRAINING)
    assert left.over_memory is over_memory


@pytest.mark.parametrize(
    ("facts", "file", "goes_on"),
    [
        (TRAINING, "r4/artifacts/epoch_1/recipe_state.pt", True),
        # Of a script that begins anew whatever it finds.
        (TRAINING, "r4/artifacts/epoch_0/adapter_model.safetensors", False),
        (TRAINING, "r4/artifacts/.epoch_1.partial/recipe_state.pt", False),
        # Of one that knows its own way.
        (TRAINING | {"output_dir": None}, "r4/artifacts/epoch_0/adapter_model.safetensors", True),
        (TRAINING | {"output_dir": None}, "r4/artifacts/metrics.csv", False),
    ],
)
def test_a_training_goes_on_from_an_epoch_that_its_job_saved(
    tmp_path: Path, facts: dict[str, object], file: str, goes_on: bool
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (NOON.timestamp() + 60, NOON.timestamp() + 60))
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", facts).goes_on is goes_on
    os.utime(path, (NOON.timestamp() - 60, NOON.timestamp() - 60))
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", facts).goes_on is False


@pytest.mark.parametrize(("begun", "goes_on"), [({"goes_on": True}, True), ({"goes_on": False}, False)])
def test_an_evaluation_goes_on_where_its_script_can_be_told_to(
    tmp_path: Path, begun: dict[str, object], goes_on: bool
) -> None:
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", {}).goes_on is True
    write_record(tmp_path / "r4/attempts/17/begun.json", begun)
    assert read_left(tmp_path, accounted("TIMEOUT"), R4, tmp_path / "17.out", {}).goes_on is goes_on


def test_the_next_job_finds_why_this_one_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's word counts where the job could say nothing; the number of retries is the setting's, or 3."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "17.out"
    output.write_text("slurmstepd: error: Exceeded job memory limit\n")
    begun = {"job_id": "17", "target": "finetune", "config": {}, "started": NOON.isoformat(), "batch_size": 8}
    write_record(tmp_path / "r4/attempts/17/begun.json", begun)
    end = End(R4, False, "FAILED", "SLURM job 17 ended as FAILED, exit code 0:9", accounted("FAILED", "0:9"))
    assert verdict(tmp_path, end, output, TRAINING, 0).again == "out of memory, retry 1 of 3"
    (attempt,) = history.read(tmp_path, "r4")
    assert (attempt.failure, attempt.error) == (Failure.OUT_OF_MEMORY, end.message)
    assert verdict(tmp_path, end, output, TRAINING | {"retries": 1}, 1).again == ""
    assert verdict(tmp_path, End(R4, False, "LOST", "lost"), output, TRAINING, 0).again == ""
    (tmp_path / "r4/attempts/17/slurm.json").unlink()
    assert verdict(tmp_path, End(R4, True, "COMPLETED"), output, TRAINING, 0).again == ""
    assert not (tmp_path / "r4/attempts/17/slurm.json").exists()


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
    earlier = {one.target: Earlier(one, "RUNNING") for one in (R4, there, again, of_r8)}
    told: list[Event] = []
    found = cancel_outdated(earlier, dag, told.append)
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


def test_a_job_that_is_submitted_again_is_told_in_one_line() -> None:
    why = "SLURM job 17 ended as TIMEOUT: its output is 17.out\n    slurmstepd: error"
    told = "tiny.r4: SLURM job 17 ended as TIMEOUT: its output is 17.out; it is submitted again: out of time"
    event = Finished(R4, False, "TIMEOUT", why, "out of time")
    assert (level(event), message(event)) == (logging.WARNING, told)
    assert message(replace(event, again="")) is None
