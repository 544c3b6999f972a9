"""The executor fits the one it extends; jobs go out in order, not too fast, not too many, and not after a stop."""

from __future__ import annotations

import inspect
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_interface_common.exceptions import WorkflowError

from run_experiment.job_events import Delayed, Event
from run_experiment.ledger import Ledger, Submission
from snakemake_executor_plugin_slurm_attached import Executor, ExecutorSettings
from snakemake_executor_plugin_slurm_attached.background import Background
from snakemake_executor_plugin_slurm_attached.submitting import Pacing, Request, Submitter

# What the executor overrides, as it was when it was written.
OVERRIDDEN = {
    "__post_init__": "(self, test_mode)",
    "run_jobs": "(self, jobs)",
    "run_job": "(self, job)",
    "format_job_exec": "(self, job)",
    "check_active_jobs": "(self, active_jobs)",
    "get_account_arg": "(self, job)",
    "get_partition_arg": "(self, job)",
    "cancel": "(self)",
    "shutdown": "(self)",
}


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
    "wrong", [{"array_jobs": "all"}, {"on_interrupt": "ask"}, {"max_queued": 0}, {"poll_seconds": 0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(WorkflowError):
        ExecutorSettings(**wrong)


class Cluster:
    """Shims of SLURM's clients on PATH: sbatch keeps its arguments, squeue says what a file holds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.submitted, self.answers = folder / "submitted", folder / "answers"
        self.answers.mkdir()
        self.shim(folder, "sbatch", f'echo "$*" >> {self.submitted}; wc -l < {self.submitted}')
        self.shim(folder, "squeue", f"cat {self.answers}/squeue 2>/dev/null || true")
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def shim(self, folder: Path, name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

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
        self.submitter = Submitter(self.ledger, self.pacing, self._accept, self._refuse, self.told.append)

    def _accept(self, request: Request, job_id: str) -> None:
        self.accepted[request.submission.name] = job_id

    def _refuse(self, request: Request, reason: str) -> None:
        self.refused[request.submission.name] = reason


def wait_for(seconds: float, condition: object) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_urgent_jobs_go_first_and_the_ledger_has_them(tmp_path: Path, cluster: Cluster) -> None:
    here = Submitting(tmp_path)
    gate = threading.Event()
    here.pacing.wait = lambda kind, stagger: gate.wait(10)  # type: ignore[method-assign]
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


def test_a_submission_that_slurm_did_not_answer_is_tried_again_once_accepted(tmp_path: Path, cluster: Cluster) -> None:
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
    assert [type(event) for event in here.told] == [Delayed, Delayed]


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
