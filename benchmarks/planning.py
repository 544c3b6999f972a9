"""How long it takes to plan a large experiment, and to write and read its logs. No job runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from small_experiment import make_small_experiment, plan_of
from tables import Figure

from run_experiment.actionlog.entry import Action, ActionLogs, Entry, Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.common.paths import eval_record, finetune_record
from run_experiment.planning.job_files import PlannedJobs
from run_experiment.planning.plan import Plan
from run_experiment.planning.submitted_scripts import SubmittedScripts
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import ATTACHED, session_plan
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.events import Changed, Finished, Polled, Submitted
from run_experiment.slurm.ledger import Ledger, Submission

RUNS = 500
ENTRIES = 10_000
SUBMISSIONS = ENTRIES // 4

T = TypeVar("T")


def planning_figures(folder: Path) -> list[Figure]:
    """Seconds to plan, and to write the job files and check the scripts of everything, with nothing made yet."""
    experiment = make_small_experiment(folder / "experiment")
    values = experiment.read()
    values["runs"] = [
        {"name": f"r{number}", "type": "fine-tuned", "model": "tiny", "parameters": {"lora_rank": number + 1}}
        for number in range(RUNS)
    ]
    values["evaluation"]["matrix"] = [
        {"run": f"r{number}", "tasks": ["shout"], "epochs": [0, 1]} for number in range(RUNS)
    ]
    experiment.write(values)
    plan, planned = _timed(lambda: plan_of(experiment))
    _, written = _timed(plan.write_scripts)
    jobs, scripts = PlannedJobs(plan), SubmittedScripts(plan)
    evaluations = plan.experiment.evaluations

    def job_files() -> None:
        for run in plan.experiment.runs:
            jobs.finetune(run.name)
        for item in evaluations:
            jobs.evaluation(item.run.name, item.cell)

    size = f"{len(plan.experiment.runs)} runs, {len(evaluations)} evaluations"
    return [
        Figure(f"{size}: plan", planned, "s"),
        Figure(f"{size}: job scripts written", written, "s"),
        Figure(f"{size}: job files written", _timed(job_files)[1], "s"),
        Figure(f"{size}: `#SBATCH` lines checked", _timed(lambda: scripts.refusals(()))[1], "s"),
        Figure(f"{size}: action logs of their session", _timed(lambda: write_session(plan))[1], "s"),
    ]


def write_session(plan: Plan) -> None:
    """Write what is written of a session in which every job is submitted, polled, runs and ends well."""
    wanted = [*(finetune_record(run.name) for run in plan.experiment.runs)]
    wanted += [eval_record(item.run.name, item.cell) for item in plan.experiment.evaluations]
    log = SessionLog(session_plan(plan, wanted, ATTACHED))
    now = datetime.now().astimezone()
    for number, target in enumerate(wanted):
        submission = Submission(target, "0" * 64, target, "", 0, now.isoformat(), str(number))
        job = AccountedJob(str(number), target, 0, "", "COMPLETED", None, "0:0", "", now, now, now, "n1")
        log.observe(Submitted(submission))
        log.observe(Changed(submission, "PENDING", "RUNNING", replace(job, state="RUNNING", ended=None)))
        log.observe(Polled({target: "RUNNING"}))
        log.observe(Changed(submission, "RUNNING", "COMPLETED", None))
        log.observe(Finished(submission, True, "COMPLETED", job=job))
    assert log.close() is None


def log_figures(folder: Path) -> list[Figure]:
    """Seconds to write and to read an action log and a ledger."""
    logs = ActionLogs(folder)
    entry = Entry(
        Action.STATE_CHANGE,
        details="PENDING → RUNNING",
        result="SUCCESS",
        subject="r17/shout_epoch1",
        explanation="SLURM started the job on node n1",
        job_id="123456",
        duration="1 minute 5 seconds",
    )
    _, written = _timed(lambda: [logs.write(Log.INSPECT, entry) for _ in range(ENTRIES)])
    table, parsed = _timed(lambda: read_action_log(folder / Log.INSPECT.file))
    assert len(table) == ENTRIES
    _write_ledger(folder / "ledger.jsonl")
    open_jobs, read = _timed(Ledger(folder / "ledger.jsonl").open)
    assert len(open_jobs) == SUBMISSIONS
    return [
        Figure(f"{ENTRIES:,} action-log entries written", written, "s"),
        Figure(f"{ENTRIES:,} action-log entries parsed", parsed, "s"),
        Figure(f"{ENTRIES:,} ledger lines read", read, "s"),
    ]


def _write_ledger(path: Path) -> None:
    """Four lines a job, of two submissions; those of the first job as the ledger writes them, the others alike."""
    stamp = datetime.now().astimezone().isoformat(timespec="seconds")
    target = eval_record("r0", "shout_epoch0")
    submission = Submission(target, "0" * 64, "tiny.r0.shout.e0", f"run-experiment 0 0 {target}", 0, stamp)
    ledger = Ledger(path)
    ledger.intend(submission)
    ledger.settled(target, "", "NOT SUBMITTED")
    ledger.intend(submission)
    ledger.accepted(submission, "17")
    lines = path.read_text()
    path.write_text("".join(lines.replace("r0/", f"r{number}/") for number in range(SUBMISSIONS)))


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.monotonic()
    return call(), time.monotonic() - started
