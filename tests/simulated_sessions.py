"""Sessions of an experiment on a simulated cluster: the executor, its follower and the action logs are the real ones.

What stands for Snakemake runs jobs as soon as what they need is made. A session can be killed at each of its writes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from log_checks import all_problems
from session_logs import BASE, EVAL4, EVAL8, R4, R8, SUBJECTS
from session_logs import plan as whole_plan
from simulated_cluster import SimulatedCluster
from snakemake_executor_plugin_slurm import Executor as SlurmExecutor

from run_experiment.actionlog import entry as action_logs
from run_experiment.actionlog.entry import Log
from run_experiment.actionlog.reader import read_action_logs
from run_experiment.common.json_files import read_record
from run_experiment.session.events import RuleFailed, RuleFinished, RuleStarted
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import SessionPlan
from run_experiment.slurm import clients, ledger
from run_experiment.slurm.events import RECORD_ATTRIBUTE
from snakemake_executor_plugin_slurm_attached import Executor, ExecutorSettings, executor, submissions
from snakemake_executor_plugin_slurm_attached.earlier import find
from snakemake_executor_plugin_slurm_attached.following import ended, follower, questions
from snakemake_executor_plugin_slurm_attached.submitting import pacing, submitter
from snakemake_executor_plugin_slurm_attached.submitting.arguments import Call
from snakemake_executor_plugin_slurm_attached.submitting.sharing import Share, sbatch_arguments

NAMES = {R4: "x.r4", R8: "x.r8", EVAL4: "x.r4.shout.e0", EVAL8: "x.r8.shout.e0", BASE: "x.base.shout"}
NEEDS = {EVAL4: (R4,), EVAL8: (R8,)}


class Killed(BaseException):
    """The main process was killed."""


class Interrupted(BaseException):
    """The main process was interrupted."""


class Answered:
    """In place of a thread: a call is made at once, its result taken later."""

    def __init__(self) -> None:
        self._results: list[Any] = []

    @property
    def busy(self) -> bool:
        return bool(self._results)

    def start(self, call: Callable[[], Any]) -> None:
        self._results.append(call())

    def take(self) -> Any:
        return self._results.pop() if self._results else None


class Gathering:
    """In place of a lock: calls `then` when what is gathered is all."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.depth = 0
        self._then = then

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.depth -= 1
        if not self.depth and kind is None:
            self._then()


class AtOnce(submitter.Submitter):
    """Submits in the thread that asks for it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gathering: Any = Gathering(self._submit_all)

    def put(self, request: submitter.Request) -> None:
        self._waiting.put((0, next(self._number), request))
        if not self.gathering.depth:
            self._submit_all()

    def _submit_all(self) -> None:
        while not self._waiting.empty():
            self._begin(self._waiting.get()[2])
        while self._held:
            self._ask_at = 0
            self._let_go()

    def stop(self) -> None:
        self._pacing.stopping.set()


@cache
def settings() -> ExecutorSettings:
    """Those of the executor, which asks SLURM's clients for theirs."""
    return ExecutorSettings(poll_seconds=1, lost_seconds=10)


class SimulatedExecutor(Executor):
    """The executor, which has a session in place of Snakemake's scheduler."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.dag = session
        self._allocation, self._cluster = "", {}
        self.workflow = SimpleNamespace(
            executor_settings=settings(),
            execution_settings=SimpleNamespace(latency_wait=2),
            output_settings=SimpleNamespace(quiet=None),
            dag=session,
            resource_settings=None,
            _onstart=lambda log: session.begin(),
            scheduler=SimpleNamespace(_local_executor=SimpleNamespace(shutdown=lambda: None)),
        )
        self.logger = logging.Logger("session")
        self.logger.addHandler(session)
        self.__post_init__()

    def _request(self, job: Any, submission: ledger.Submission, former: Any = None) -> submitter.Request:
        call = Call((), "")
        arguments = sbatch_arguments(self._folder, submission, call)
        again, together = self._retried[submission.target] > 0, self.session.experiment.together
        share = None if former or again or not together else Share(*together, ("key",), call, "", call)
        return submitter.Request(submission, arguments, "", "", 0, 0, former, again=again or not together, share=share)

    def report_job_submission(self, job_info: Any, register_job: bool = True) -> None:
        self.session.active.append(job_info)

    def report_job_success(self, job_info: Any) -> None:
        self.session.ended(job_info.job, succeeded=True)

    def report_job_error(self, job_info: Any, msg: str | None = None, **kwargs: Any) -> None:
        self.session.ended(job_info.job, succeeded=False, message=msg or "")


class PlannedJob(SimpleNamespace):
    """A job of Snakemake's DAG."""

    is_local = False

    def log_info(self) -> None:
        pass

    def __hash__(self) -> int:
        return hash(self.jobid)


class Session(logging.Handler):
    """A main process; it is Snakemake's DAG, too, and its logger plugin."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.experiment = experiment
        self.plan = experiment.plan()
        self.jobs = {target: experiment.job(target) for target in experiment.targets if target in self.plan.wanted}
        self.dependencies = {
            job: [self.jobs[need] for need in NEEDS.get(target, ()) if need in self.jobs]
            for target, job in self.jobs.items()
        }
        self.active: list[Any] = []
        self.begun: set[str] = set()
        self.over: dict[str, bool] = {}
        self.log: SessionLog | None = None
        self._late: list[Callable[[], None]] = []

    # Snakemake's DAG

    def __len__(self) -> int:
        return len(self.jobs)

    def needrun_jobs(self) -> list[PlannedJob]:
        return [job for target, job in self.jobs.items() if target not in self.over]

    def needrun(self, job: PlannedJob) -> bool:
        return job in self.needrun_jobs()

    # Snakemake's logger plugin

    def emit(self, record: logging.LogRecord) -> None:
        if event := getattr(record, RECORD_ATTRIBUTE, None):
            self.observe(event)

    def observe(self, event: object) -> None:
        """Pass an event to the logs: it may be some time on its way through a queue of Snakemake's."""
        self._send(lambda: self.log.observe(event) if self.log else None)

    def _send(self, call: Callable[[], None]) -> None:
        self._late.append(call)
        if not self.experiment.logs_late:
            self._arrive()

    def _arrive(self) -> None:
        while self._late:
            self._late.pop(0)()

    # Snakemake's scheduler

    def begin(self) -> None:
        def begin() -> None:
            self.log = SessionLog(self.plan)

        self._send(begin)

    def run(self, steps: int | None = None) -> bool:
        """Make what is wanted, for so many steps; returns whether all is made. Raises Killed."""
        self.executor = SimulatedExecutor(self)
        if self.jobs:
            self.begin()
            self.executor.settle()
        while len(self.over) < len(self.jobs):
            if steps is not None and (steps := steps - 1) < 0:
                self._interrupt()
                return False
            self._run_ready()
            self._look()
            self._arrive()
            self.experiment.cluster.sleep(1)
        self.executor.shutdown()
        self._close()
        return all(self.over.values())

    def _interrupt(self) -> None:
        self.executor._interrupts.received = 2
        with pytest.raises(SystemExit):
            self.executor.cancel()
        self._close()

    def _close(self) -> None:
        self._arrive()
        if self.log:
            self.log.close()

    def _run_ready(self) -> None:
        ready = []
        for target in [target for target in self.jobs if target not in {*self.begun, *self.over}]:
            needs = [self.over.get(need, need not in self.jobs) for need in NEEDS.get(target, ())]
            if False in [self.over.get(need) for need in NEEDS.get(target, ())]:
                self.over[target] = False
            elif all(needs):
                self.begun.add(target)
                job = self.jobs[target]
                self.observe(RuleStarted(job.jobid, [target], []))
                ready.append(job)
        if ready:
            self.executor.run_jobs(ready)

    def _look(self) -> None:
        active, self.active = self.active, []

        async def look() -> list[Any]:
            return [info async for info in self.executor.check_active_jobs(active)]

        self.active += asyncio.run(look())

    def ended(self, job: PlannedJob, succeeded: bool, message: str = "") -> None:
        self.over[job.output[0]] = succeeded
        self.observe(RuleFinished(job.jobid) if succeeded else RuleFailed(job.jobid, message))


@dataclass
class Experiment:
    """The experiment, on its cluster; `writes` are those of its last session, which is killed at the `last` one.

    `logs_late`: events reach the action logs after what the executor does next. `together`: the most targets of a job
    and the most elements of an array; None if each job is submitted by itself.
    """

    folder: Path
    cluster: SimulatedCluster
    targets: tuple[str, ...]
    logs_late: bool = False
    together: tuple[int, int] | None = None
    config_hash: str = "ab" * 32
    writes: int = 0
    last: int | None = None

    def plan(self) -> SessionPlan:
        whole = whole_plan(self.folder)
        made = {target for target in self.targets if self._record(target).get("config_hash") == self.config_hash}
        return replace(
            whole,
            jobs={target: whole.jobs[target] for target in self.targets},
            checkpoints={},
            caches=[],
            wanted=frozenset({*self.targets} - made),
            needs={target: NEEDS.get(target, ()) for target in self.targets},
            complete={log: frozenset(path for path in made if whole.jobs[path].log is log) for log in Log},
        )

    def job(self, target: str) -> PlannedJob:
        path = self.folder / f"{target}.job"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"target": target, "config_hash": self.config_hash, "name": NAMES[target], "script": "x"})
        )
        return PlannedJob(
            jobid=str(self.targets.index(target) + 1),
            output=[target],
            params=SimpleNamespace(job=path.name if path.parent == self.folder else f"{target}.job"),
            rule=SimpleNamespace(name="run"),
            resources={},
            priority=0,
        )

    def _record(self, target: str) -> dict[str, Any]:
        return read_record(self.folder / target) or {}

    def write(self) -> None:
        """What a session is about to do that lasts."""
        if self.last is not None and self.writes >= self.last:
            raise Killed
        self.writes += 1

    def session(self, killed_at: int | None = None, interrupted_at: int | None = None) -> bool:
        """Run a session, which is killed in place of a write, or interrupted; returns whether it made all."""
        self.writes, self.last = 0, killed_at
        try:
            return Session(self).run(interrupted_at)
        except Killed:
            return False
        finally:
            self.last = None

    def problems(self) -> list[str]:
        """What is wrong once all is made."""
        records = {SUBJECTS[target]: self._record(target) for target in self.targets}
        table = read_action_logs(self.folder)
        found = all_problems(self.cluster.accounts(NAMES), table, {k: v for k, v in records.items() if v})
        found += [f"{subject} is not made" for subject, record in records.items() if not record]
        return found


@contextmanager
def simulated(experiment: Experiment) -> Iterator[None]:
    """Have the plugin ask the simulated cluster, and the experiment know of all writes."""
    cluster = experiment.cluster

    def submit(arguments: list[str], script: str) -> str:
        experiment.write()
        name, comment = (arguments[arguments.index(option) + 1] for option in ("--job-name", "--comment"))
        last = next((one.rpartition("-")[2] for one in arguments if one.startswith("--array=")), "1")
        return cluster.submit(name, comment, int(last), experiment.config_hash)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            experiment.write()
            return function(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(experiment.folder)
        patch.setattr(SlurmExecutor, "__post_init__", lambda self, test_mode=False: None)
        patch.setattr(SlurmExecutor, "shutdown", lambda self: None)
        without = {"received": None, "install": lambda: None, "heed": lambda: None, "deferred": nullcontext}
        patch.setattr(executor, "Interrupts", lambda: SimpleNamespace(**without))
        patch.setattr(executor, "Submitter", AtOnce)
        patch.setattr(executor, "overrides", lambda job, settings: SimpleNamespace(wins={}))
        patch.setattr(questions, "Background", Answered)
        patch.setattr(follower, "_FIRST_QUESTION", 1.0)
        patch.setattr(submissions, "ON_ITS_WAY", 0.0)
        for module in (follower, ended, questions, submitter, pacing, find, submissions):
            patch.setattr(module, "time", cluster)
        for name in ("queue", "accounting", "accounted_ids", "cancel"):
            patch.setattr(clients, name, getattr(cluster, name))
        patch.setattr(clients, "submit", submit)
        patch.setattr(ledger.Ledger, "_append", before(ledger.Ledger._append))
        patch.setattr(action_logs, "_append", before(action_logs._append))
        yield
