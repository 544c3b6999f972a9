"""The follower, with what SLURM's clients may say at the worst moment, and what it reports of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from run_experiment.common.json_files import write_record
from run_experiment.slurm import clients
from run_experiment.slurm.amounts import moment
from run_experiment.slurm.clients import accounting
from run_experiment.slurm.events import Changed, Event, Finished, Held, Polled, PollFailed
from run_experiment.slurm.ledger import Ledger, Logged, Submission
from run_experiment.slurm.waits import remedy
from snakemake_executor_plugin_slurm_attached.earlier.find import earlier_jobs
from snakemake_executor_plugin_slurm_attached.ends.verdict import End
from snakemake_executor_plugin_slurm_attached.following.follower import Follower
from snakemake_executor_plugin_slurm_attached.following.transitions import Followed, Transitions
from snakemake_executor_plugin_slurm_attached.submissions import planned_submission

# What `accounting` and `queue` ask for, in that order.
ACCOUNTED = (
    "{job.job_id};{job.name};{job.uid};{job.comment};{state};{code};None;2025-01-31T12:00:00;{start};"
    "{end};n1;1;600;0;1;1;00:00:10;1G;cpu=1;cpu=1;"
)
# What it has of the job's script, with which come the figures.
STEP = (
    "\n{job.job_id}.batch;batch;{job.uid};;{state};{code};None;;{start};{end};n1;1;600;0;1;1;00:00:10;1G;cpu=1;cpu=1;"
)
NEVER, FIRST, SECOND = "Unknown", "2025-01-31T12:00:05", "2025-01-31T12:10:00"
QUEUED = ";{job.job_id};{state};{reason};{job.name};{job.comment};"
TARGET = "r4/finetune.json"
RESERVED = "a reservation, such as a maintenance, comes first: `scontrol show reservation` says when it ends"


class Slurm:
    """Shims of sacct and squeue on PATH, which say what they are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._shim("sacct", "for word; do case $word in --delimiter=*) mark=${word#*=};; esac; done")
        self._shim("squeue", "for word; do :; done; mark=${word##*%k}")

    def _shim(self, name: str, find_mark: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/bash\n{find_mark}\nfound=$(cat {path}.says)\necho "${{found//;/$mark}}"\n')
        path.chmod(0o755)

    def no_accounting(self) -> None:
        """Have sacct say that there is none."""
        refusal = "#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2; exit 1\n"
        (self.folder / "sacct").write_text(refusal)

    def says(
        self,
        job: Submission,
        accounted: str,
        queued: str,
        code: str = "0:0",
        start: str = FIRST,
        end: str = NEVER,
        reason: str = "None",
    ) -> None:
        """What they say of a job, nothing if its state is empty; with an `end`, its figures are there."""
        row = ACCOUNTED + STEP if end != NEVER else ACCOUNTED
        row = row.format(job=job, state=accounted, code=code, start=start, end=end) if accounted else ""
        (self.folder / "sacct.says").write_text(row)
        (self.folder / "squeue.says").write_text(QUEUED.format(job=job, state=queued, reason=reason) if queued else "")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return Slurm(tmp_path / "bin")


@pytest.fixture
def job(tmp_path: Path) -> Submission:
    facts = {"target": TARGET, "config_hash": "0123456789abcdef" * 4, "name": "tiny.r4"}
    return replace(planned_submission(tmp_path, facts), job_id="17")


def follow(folder: Path, job: Submission, patience: float = 60, latency: float = 60) -> Follower:
    follower = Follower(folder, 0.1, patience, latency, lambda event: None)
    follower.add(job, folder / "17.out", Logged())
    return follower


def looked(follower: Follower, seconds: float) -> list[End]:
    """Ends that it finds, at most for so long."""
    deadline, found = time.monotonic() + seconds, []
    while not found and time.monotonic() < deadline:
        found = follower.look()
        time.sleep(0.05)
    return found


def failed(folder: Path, why: str) -> None:
    write_record(folder / "r4/attempts/17/attempt.json", {"target": "finetune", "job_id": "17", "error": why})


def test_a_job_whose_first_try_took_too_much_memory_may_have_made_its_record(
    tmp_path: Path, slurm: Slurm, job: Submission
) -> None:
    """SLURM counts the whole job as out of memory; the record of its second try shows late."""
    follower = follow(tmp_path, job)
    failed(tmp_path, "the first try")
    slurm.says(job, "OUT_OF_MEMORY", "", code="0:125")
    assert looked(follower, 3) == []
    write_record(tmp_path / TARGET, {"job_id": "17", "config_hash": job.config_hash})
    (end,) = looked(follower, 3)
    assert end.succeeded


def test_a_job_out_of_memory_is_not_waited_for_for_ever(tmp_path: Path, slurm: Slurm, job: Submission) -> None:
    follower = follow(tmp_path, job, latency=1)
    slurm.says(job, "OUT_OF_MEMORY", "", code="0:125")
    (end,) = looked(follower, 10)
    assert (end.succeeded, end.state) == (False, "OUT_OF_MEMORY")


def test_an_error_of_this_machine_loses_no_end(
    tmp_path: Path, slurm: Slurm, job: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a login node limits how many threads there may be."""
    follower = follow(tmp_path, job)
    follower.add(replace(job, job_id="18", target="r8/finetune.json"), tmp_path / "18.out", Logged())
    slurm.says(job, "RUNNING", "RUNNING")
    write_record(tmp_path / TARGET, {"job_id": "17", "config_hash": job.config_hash})
    time.sleep(0.2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no new thread")))
        with pytest.raises(RuntimeError):
            follower.look()
    (end,) = looked(follower, 3)
    assert end.succeeded
    assert looked(follower, 0.5) == []


@pytest.mark.parametrize("accounted", ["RUNNING", ""])
def test_a_job_that_left_the_queue_without_an_end_is_given_up(
    tmp_path: Path, slurm: Slurm, job: Submission, accounted: str
) -> None:
    """Accounting lost its end, or never knew it; what the job itself left is told."""
    follower = follow(tmp_path, job, patience=1)
    slurm.says(job, accounted, "RUNNING")
    assert looked(follower, 4) == []
    failed(tmp_path, "KeyError: 'input'")
    slurm.says(job, accounted, "")
    (end,) = looked(follower, 10)
    assert (end.succeeded, end.state) == (False, "LOST")
    assert end.message == "SLURM does not know job 17 any more, nor how it ended: KeyError: 'input'"


def test_jobs_of_a_folder_that_was_copied_stay_the_other_one_s(tmp_path: Path, slurm: Slurm, job: Submission) -> None:
    slurm.says(job, "RUNNING", "RUNNING")
    for name in ("original", "copy"):
        ledger = Ledger(tmp_path / name / "ledger.jsonl")
        ledger.intend(replace(job, job_id=None))
        ledger.accepted(job, "17")
        folder = tmp_path if name == "original" else tmp_path / name
        found = earlier_jobs(folder, ledger, lambda event: None, clients.queue)
        assert list(found) == ([TARGET] if name == "original" else [])
    assert job.uid == os.getuid()


class Reported:
    """A follower, and what it reported of its jobs."""

    def __init__(self, folder: Path, patience: float = 60) -> None:
        self.events: list[Event] = []
        self.folder = folder
        self.follower = Follower(folder, 0.1, patience, 60, self.events.append)
        self.ends: list[End] = []

    def follow(self, job: Submission, logged: Logged = Logged()) -> Reported:  # noqa: B008
        self.follower.add(job, self.folder / "17.out", logged)
        return self

    def until(self, condition: Callable[[Reported], object]) -> Reported:
        """Look at the jobs until something holds."""
        deadline = time.monotonic() + 20
        while not condition(self):
            assert time.monotonic() < deadline, self.events
            self.ends += self.follower.look()
            time.sleep(0.05)
        return self

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(one.before, one.after) for one in self.events if isinstance(one, Changed)]

    @property
    def finished(self) -> list[Finished]:
        return [one for one in self.events if isinstance(one, Finished)]

    def polls(self) -> int:
        return sum(isinstance(one, Polled) for one in self.events)

    def again(self) -> Reported:
        """Two more answers, the last of which was asked for after now."""
        polls = self.polls()
        return self.until(lambda here: here.polls() >= polls + 2)


START = ("PENDING", "RUNNING")


def ended(end: End, **changes: str) -> Finished:
    return Finished(end.submission, end.succeeded, end.state, end.message, **changes)


@pytest.fixture
def reported(tmp_path: Path) -> Reported:
    return Reported(tmp_path)


def test_a_second_start_between_two_polls_is_reported(slurm: Slurm, job: Submission, reported: Reported) -> None:
    slurm.says(job, "RUNNING", "RUNNING")
    reported.follow(job).until(lambda here: here.changes)
    slurm.says(job, "RUNNING", "RUNNING", start=SECOND)
    reported.again()
    assert reported.changes == [START, ("RUNNING", "PENDING"), START]


def test_a_requeued_job_waits_whatever_accounting_calls_its_last_start(
    slurm: Slurm, job: Submission, reported: Reported
) -> None:
    slurm.says(job, "RUNNING", "RUNNING")
    reported.follow(job).until(lambda here: here.changes)
    slurm.says(job, "NODE_FAIL", "COMPLETING")
    reported.again()
    assert reported.changes == [START]
    slurm.says(job, "NODE_FAIL", "PENDING")
    reported.again()
    assert reported.changes == [START, ("RUNNING", "PENDING")]
    slurm.says(job, "RUNNING", "RUNNING", start=SECOND)
    reported.again()
    assert reported.changes == [START, ("RUNNING", "PENDING"), START]
    assert reported.ends == []


def test_a_job_that_was_cancelled_in_a_start_that_nobody_saw(slurm: Slurm, job: Submission, reported: Reported) -> None:
    """The logs have its first start."""
    slurm.says(job, "CANCELLED by 0", "", start=SECOND, end="2025-01-31T12:20:00")
    reported.follow(job, Logged("RUNNING", moment(FIRST))).until(lambda here: here.ends)
    (end,) = reported.ends
    reported.follower.finish(ended(end), end.accounted)
    assert reported.changes == [("RUNNING", "PENDING"), START]
    assert [one.state for one in reported.finished] == ["CANCELLED"]


def left_record(folder: Path, job: Submission, restarts: int) -> None:
    times = {"started": "2025-01-31T12:10:01", "ended": "2025-01-31T12:11:00"}
    facts = {"job_id": "17", "config_hash": job.config_hash, "allocation": {"restarts": restarts, **times}}
    write_record(folder / TARGET, facts)


def began(folder: Path, attempt: str, restarts: int, moment: str) -> None:
    facts = {"target": "finetune", "job_id": "17", "restarts": restarts, "started": moment}
    write_record(folder / f"r4/attempts/{attempt}/begun.json", facts)


@pytest.mark.parametrize(
    ("started", "restarts", "expected"),
    [
        # SLURM started it again for a dead node, and its record is there before accounting shows that.
        (FIRST, 1, [("RUNNING", "PENDING"), START, ("RUNNING", "COMPLETED")]),
        # Accounting had shown it.
        (SECOND, 1, [("RUNNING", "COMPLETED")]),
        # The script was killed, and tried again within the same start.
        (FIRST, 0, [("RUNNING", "COMPLETED")]),
    ],
)
def test_a_record_of_a_later_start_than_the_one_that_was_reported(
    slurm: Slurm, job: Submission, reported: Reported, started: str, restarts: int, expected: list[tuple[str, str]]
) -> None:
    slurm.says(job, "RUNNING", "RUNNING")
    began(reported.folder, "17", 0, "2025-01-31T12:00:06")
    left_record(reported.folder, job, restarts)
    reported.follow(job, Logged("RUNNING", moment(started)))
    (end,) = reported.follower.look()
    assert (end.succeeded, reported.changes) == (True, expected)


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        (FIRST, [("RUNNING", "PENDING"), START, ("RUNNING", "COMPLETED")]),
        (SECOND, [("RUNNING", "COMPLETED")]),
    ],
)
def test_a_record_of_a_later_start_whose_time_slurm_told_the_job(
    slurm: Slurm, job: Submission, reported: Reported, started: str, expected: list[tuple[str, str]]
) -> None:
    """SLURM may start a job again that had not run anything yet, so no attempt of its first start is there."""
    slurm.says(job, "RUNNING", "RUNNING")
    own = {"restarts": 1, "started": moment(SECOND).isoformat(), "start_known_to_slurm": True}
    facts = {"job_id": "17", "config_hash": job.config_hash, "allocation": own}
    write_record(reported.folder / TARGET, facts)
    reported.follow(job, Logged("RUNNING", moment(started)))
    (end,) = reported.follower.look()
    assert (end.succeeded, reported.changes) == (True, expected)


def test_a_record_of_a_later_start_that_was_left_while_nobody_followed(
    slurm: Slurm, job: Submission, reported: Reported
) -> None:
    """The same for a job whose end an earlier process noted."""
    slurm.says(job, "NODE_FAIL", "")
    began(reported.folder, "17", 0, "2025-01-31T12:00:06")
    left_record(reported.folder, job, 1)
    reported.follower.ended.add_unseen(job, reported.folder / "17.out", Logged("RUNNING", moment(FIRST)))
    assert reported.changes == [("RUNNING", "PENDING"), START, ("RUNNING", "COMPLETED")]


@pytest.mark.parametrize(("state", "by_accounting"), [("COMPLETED", True), ("RUNNING", False), ("NODE_FAIL", False)])
def test_the_end_of_a_job_that_left_its_record_is_accounting_s_only_if_that_has_it(
    slurm: Slurm, job: Submission, reported: Reported, state: str, by_accounting: bool
) -> None:
    """The next start may find the record before accounting has more than the job's start."""
    slurm.says(job, state, "", end=NEVER if state == "RUNNING" else SECOND)
    known = accounting(["17"])["17"]
    left_record(reported.folder, job, 0)
    reported.follower.ended.add_unseen(job, reported.folder / "17.out", Logged(), known)
    changes = [one for one in reported.events if isinstance(one, Changed)]
    assert [(one.after, one.job is not None) for one in changes] == [("RUNNING", True), ("COMPLETED", by_accounting)]


def test_a_last_start_that_only_the_end_in_accounting_shows(slurm: Slurm, job: Submission, reported: Reported) -> None:
    """The job found its target made, and left the record as it was."""
    slurm.says(job, "COMPLETED", "", start=SECOND, end="2025-01-31T12:20:00")
    reported.follow(job, Logged("RUNNING", moment(FIRST))).again()
    assert reported.changes == [("RUNNING", "PENDING"), START]


def test_what_the_logs_have_is_not_reported_again(slurm: Slurm, job: Submission, reported: Reported) -> None:
    slurm.says(job, "RUNNING", "RUNNING")
    reported.follow(job, Logged("RUNNING", moment(FIRST))).again()
    assert reported.changes == []


def test_an_end_is_reported_once_with_its_figures(
    tmp_path: Path, slurm: Slurm, job: Submission, reported: Reported
) -> None:
    """Snakemake hears of it at once; what is said of the job is what the executor found out."""
    slurm.says(job, "FAILED", "", code="1:0")
    reported.follow(job).until(lambda here: here.ends)
    (end,) = reported.ends
    reported.follower.finish(ended(end, again="killed"), end.accounted)
    reported.again()
    assert reported.finished == []
    slurm.says(job, "FAILED", "", code="1:0", end=SECOND)
    reported.until(lambda here: here.finished)
    reported.follower.close(5)
    (finished,) = reported.finished
    assert (finished.state, finished.again, finished.message) == ("FAILED", "killed", end.message)
    assert finished.job is not None
    assert finished.job.settled
    assert reported.changes == [START]


def test_a_record_is_reported_before_snakemake_hears_of_it(
    tmp_path: Path, slurm: Slurm, job: Submission, reported: Reported
) -> None:
    slurm.says(job, "RUNNING", "RUNNING")
    write_record(tmp_path / TARGET, {"job_id": "17", "config_hash": job.config_hash})
    reported.follow(job)
    (end,) = reported.follower.look()
    assert reported.changes == [START, ("RUNNING", "COMPLETED")]
    reported.follower.finish(ended(end), None)
    reported.follower.close(0.5)
    # Accounting never had the end.
    assert [(one.succeeded, one.job) for one in reported.finished] == [(True, None)]


def test_figures_that_accounting_never_has_are_not_waited_for_for_ever(
    tmp_path: Path, slurm: Slurm, job: Submission
) -> None:
    """As on a cluster that keeps no accounts."""
    here = Reported(tmp_path, patience=0.5).follow(job)
    slurm.says(job, "", "")
    write_record(tmp_path / TARGET, {"job_id": "17", "config_hash": job.config_hash})
    here.until(lambda here: here.ends)
    here.follower.finish(ended(here.ends[0]), None)
    here.until(lambda here: here.finished)
    assert [(one.succeeded, one.job) for one in here.finished] == [(True, None)]


def test_a_job_that_ended_while_nobody_followed_it(slurm: Slurm, job: Submission, reported: Reported) -> None:
    """Also if the main process was killed after it had noted the end."""
    slurm.says(job, "FAILED", "", code="3:0", end=SECOND)
    reported.follower.ended.add_unseen(job, reported.folder / "17.out", Logged())
    reported.until(lambda here: here.finished)
    reported.follower.ended.add_unseen(job, reported.folder / "17.out", Logged())
    reported.follower.close(1)
    (finished,) = reported.finished
    assert (finished.succeeded, finished.state) == (False, "FAILED")
    assert finished.message.startswith("SLURM job 17 ended as FAILED, exit code 3:0: its output is ")
    assert reported.changes == [START]


def test_a_job_that_slurm_forgot_is_reported_as_lost(slurm: Slurm, job: Submission, reported: Reported) -> None:
    reported.follower.ended.add_forgotten(job, reported.folder / "17.out", Logged("RUNNING", moment(FIRST)))
    (finished,) = reported.finished
    assert (finished.succeeded, finished.state, finished.job) == (False, "LOST", None)
    assert finished.message.startswith("SLURM does not know job 17 any more, nor how it ended: its output is ")


def test_nothing_is_made_up_of_a_job_while_accounting_does_not_answer(
    slurm: Slurm, job: Submission, reported: Reported
) -> None:
    """The next start reports it."""
    (slurm.folder / "sacct").write_text("#!/bin/sh\necho 'slurmdbd: error' >&2; exit 1\n")
    reported.follower.ended.add_unseen(job, reported.folder / "17.out", Logged())
    reported.follower.close(1)
    assert reported.finished == []


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("JobHeldUser", "it is held: release it with `scontrol release 17`"),
        ("launch failed requeued held", "its node could not start it: `scontrol release 17` has it tried again"),
        ("launch_failed_requeued_held", "its node could not start it: `scontrol release 17` has it tried again"),
        ("job requeued in held state", "it is held: release it with `scontrol release 17`"),
        ("DependencyNeverSatisfied", "what it depends on failed: `scancel 17`, then run the same command again"),
        ("PartitionDown", "its partition is closed for now: `sinfo` shows which are open"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "nodes that it needs are down or drained: `sinfo -R` says why"),
        ("ReqNodeNotAvail, Reserved for maintenance", RESERVED),
        ("AssocGrpCPUMinutesLimit", "the account or QOS has used up its time: ask for more"),
        ("QOSMaxJobsPerUserLimit", ""),
        ("QOSMaxGRESPerJob", "it asks for more than a job may have"),
        ("Priority", ""),
        ("None", ""),
    ],
)
def test_a_wait_that_does_not_pass_by_itself_is_reported_once(
    slurm: Slurm, job: Submission, reason: str, advice: str
) -> None:
    """Seen when the queue is asked, here because accounting shows the end of the last start."""
    here = Reported(slurm.folder).follow(job)
    slurm.says(job, "NODE_FAIL", "PENDING", reason=reason)
    here.again().again()
    expected = [(reason, advice)] if advice else []
    assert [(one.reason, one.remedy) for one in here.events if isinstance(one, Held)] == expected


@pytest.mark.parametrize(("reason", "again"), [("AssocGrpGRES", True), ("JobHeldUser", False)])
def test_jobs_that_wait_for_one_reason_are_reported_together(
    tmp_path: Path, job: Submission, reason: str, again: bool
) -> None:
    """What has to be done for each job is told of each."""
    events: list[Event] = []
    transitions = Transitions(tmp_path, events.append)
    first, second, third = (Followed(replace(job, job_id=number), tmp_path) for number in ("17", "18", "19"))
    transitions.held([(first, reason), (second, reason)])
    # SLURM names now one limit and now another.
    transitions.held([(first, reason.replace("GRES", "CPULimit")), (second, reason)])
    transitions.held([(first, reason), (second, reason), (third, reason)])
    together = Held((first.submission, second.submission), reason, remedy(reason, "17", "18"))
    assert events == [together, Held((third.submission,), reason, remedy(reason, "19"), again)]
    transitions.held([(one, "Priority") for one in (first, second, third)])
    transitions.held([(first, reason), (second, "None"), (third, "None")])
    assert events[2:] == [Held((first.submission,), reason, remedy(reason, "17"))]


def test_the_queue_is_asked_why_jobs_wait(slurm: Slurm, job: Submission, reported: Reported) -> None:
    """Soon after they begin to, and seldom later: accounting cannot say."""
    calls = slurm.folder / "calls"
    squeue = (slurm.folder / "squeue").read_text()
    (slurm.folder / "squeue").write_text(squeue.replace("#!/bin/bash\n", f"#!/bin/bash\necho x >> {calls}\n"))
    slurm.says(job, "PENDING", "PENDING", start=NEVER, reason="None")
    reported.follow(job).until(lambda here: calls.exists() and calls.read_text().count("x") >= 2)
    slurm.says(job, "PENDING", "PENDING", start=NEVER, reason="AssocMaxWallDurationPerJobLimit")
    reported.until(lambda here: any(isinstance(one, Held) for one in here.events))
    asked, polls = calls.read_text().count("x"), reported.polls()
    reported.again().again().again()
    assert calls.read_text().count("x") - asked <= (reported.polls() - polls) / 2


def test_a_job_that_is_held_while_it_waits_is_reported_soon(slurm: Slurm, job: Submission, reported: Reported) -> None:
    slurm.says(job, "PENDING", "PENDING", start=NEVER, reason="Priority")
    reported.follow(job).again().again().again()
    slurm.says(job, "PENDING", "PENDING", start=NEVER, reason="JobHeldAdmin")
    reported.until(lambda here: any(isinstance(one, Held) for one in here.events))


def test_a_queue_that_does_not_answer_costs_no_answer_of_accounting(
    slurm: Slurm, job: Submission, reported: Reported
) -> None:
    """As where squeue is slow: it was only asked why a job waits."""
    slurm.says(job, "PENDING", "", start=NEVER)
    (slurm.folder / "squeue").write_text(
        f"#!/bin/sh\ntouch {slurm.folder}/asked; echo 'Socket timed out' >&2; exit 1\n"
    )
    reported.follow(job).until(lambda here: (slurm.folder / "asked").exists()).again()
    assert not [one for one in reported.events if isinstance(one, PollFailed)]


def test_without_accounting_the_queue_says_which_jobs_run(slurm: Slurm, job: Submission, reported: Reported) -> None:
    """And no end waits for figures that cannot come."""
    slurm.says(job, "", "PENDING")
    slurm.no_accounting()
    reported.follow(job).again()
    slurm.says(job, "", "RUNNING")
    reported.until(lambda here: here.changes).again()
    assert reported.changes == [START]
    polled = [one.states for one in reported.events if isinstance(one, Polled)]
    assert polled[-1] == {job.target: "RUNNING"}
    slurm.says(job, "", "")
    write_record(reported.folder / TARGET, {"config_hash": job.config_hash, "job_id": "17"})
    (end,) = reported.until(lambda here: here.ends).ends
    reported.follower.finish(ended(end), None)
    begun = time.monotonic()
    reported.follower.close(20)
    assert time.monotonic() - begun < 10
    assert [one.state for one in reported.finished] == ["COMPLETED"]


def test_a_suspended_job_has_run(slurm: Slurm, job: Submission, reported: Reported) -> None:
    slurm.says(job, "SUSPENDED", "SUSPENDED")
    reported.follow(job).until(lambda here: len(here.changes) == 2)
    assert reported.changes == [START, ("RUNNING", "SUSPENDED")]
