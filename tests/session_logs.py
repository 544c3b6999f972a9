"""A session of two trained runs and a control, each evaluated once: its plan, its events, its log."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from run_experiment.actionlog.entry import Action, Log
from run_experiment.actionlog.reader import read_action_log
from run_experiment.session.log import SessionLog
from run_experiment.session.plan import ATTACHED, SessionCheckpoint, SessionJob, SessionPlan
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.events import (
    Changed,
    Finished,
    Submitted,
)
from run_experiment.slurm.ledger import Submission

NOON = datetime(2025, 1, 31, 12, 0, 0).astimezone()
R4, R8 = "r4/finetune.json", "r8/finetune.json"
EVAL4, EVAL8, BASE = "r4/eval/shout_epoch0.json", "r8/eval/shout_epoch0.json", "base/eval/shout_base.json"
CHECK4, CHECK8, CACHE = "r4/checkpoints/epoch_0.json", "r8/checkpoints/epoch_0.json", "cache/shout.json"
SUBJECTS = {R4: "r4", R8: "r8", EVAL4: "r4/shout/epoch0", EVAL8: "r8/shout/epoch0", BASE: "base/shout/base"}
IDS = {R4: "104", R8: "108", EVAL4: "204", EVAL8: "208", BASE: "200"}


def plan(folder: Path, executor: str = ATTACHED, **changes: Any) -> SessionPlan:
    """Two trained runs and a control, each evaluated once."""
    jobs = [
        SessionJob(
            target,
            Log.INSPECT if "/" in subject else Log.TORCHTUNE,
            subject,
            target.partition("/")[0],
            f"{Path(target).parent}/{'finetune' if '/' not in subject else Path(target).stem}.slurm",
            (f"{target}.gpu_metrics.csv",),
        )
        for target, subject in SUBJECTS.items()
    ]
    made = SessionPlan(
        folder=folder,
        executor=executor,
        runs=3,
        jobs={job.target: job for job in jobs},
        checkpoints={
            path: SessionCheckpoint(path, run, "epoch_0", folder / run / "artifacts/epoch_0")
            for path, run in ((CHECK4, "r4"), (CHECK8, "r8"))
        },
        caches=[CACHE],
        wanted=frozenset({*SUBJECTS, CHECK4, CHECK8, CACHE}),
        needs={CHECK4: (R4,), CHECK8: (R8,), EVAL4: (CACHE, CHECK4), EVAL8: (CACHE, CHECK8), BASE: (CACHE,)},
        why={R4: "lr: 0.0003 → 0.0002", R8: "not done yet", **dict.fromkeys((EVAL4, EVAL8, BASE), "not done yet")},
        skipped={Log.TORCHTUNE: (("base", "control, no training"),), Log.INSPECT: ()},
        complete=complete(),
    )
    return replace(made, **changes)


def complete(*trainings: str) -> dict[Log, frozenset[str]]:
    """Trainings that a session finds complete."""
    return {Log.TORCHTUNE: frozenset(trainings), Log.INSPECT: frozenset()}


def submission(target: str, job_id: str | None = None) -> Submission:
    return Submission(target, "hash", SUBJECTS[target], "comment", os.getuid(), NOON.isoformat(), job_id or IDS[target])


def accounted(target: str, state: str, seconds: int = 60, **changes: Any) -> AccountedJob:
    """A job that started 5 s after noon and ended so many seconds after that."""
    ended = state not in ("PENDING", "RUNNING")
    made = AccountedJob(
        job_id=IDS[target],
        name=SUBJECTS[target],
        uid=os.getuid(),
        comment="",
        state=state,
        cancelled_by=None,
        exit_code="0:0" if state in ("RUNNING", "COMPLETED") else "1:0",
        reason="",
        submitted=NOON,
        started=NOON + timedelta(seconds=5) if state != "PENDING" else None,
        ended=NOON + timedelta(seconds=5 + seconds) if ended else None,
        nodes="n1" if state != "PENDING" else "",
        elapsed_seconds=seconds,
        time_limit_seconds=600,
    )
    return replace(made, **changes)


def made(target: str) -> Changed:
    """The record of a job is there."""
    return Changed(submission(target), "RUNNING", "COMPLETED", None)


class Session:
    """A session's log, and what it holds."""

    def __init__(self, plan: SessionPlan) -> None:
        self.folder = plan.folder
        self.log = SessionLog(plan)

    def tell(self, *events: object) -> Session:
        for event in events:
            self.log.observe(event)
        return self

    def start(self, *targets: str) -> Session:
        """Submit jobs, and see them run."""
        for target in targets:
            job = submission(target)
            self.tell(Submitted(job), Changed(job, "PENDING", "RUNNING", accounted(target, "RUNNING")))
        return self

    def end(
        self, target: str, state: str = "COMPLETED", message: str = "", seconds: int = 60, again: str = ""
    ) -> Session:
        """End a job as the executor reports it: a good end is seen in its record, a bad one by accounting."""
        job, succeeded = submission(target), state == "COMPLETED"
        if succeeded:
            self.tell(made(target))
        return self.tell(Finished(job, succeeded, state, message, again, accounted(target, state, seconds)))

    def rows(self, *actions: Action, log: Log | None = None) -> list[tuple[str, str, str]]:
        """Subject, details and result of entries of these actions."""
        found = []
        for one in [log] if log else Log:
            table = read_action_log(self.folder / one.file)
            assert not table["truncated"].any()
            for row in table.to_dict("records"):
                if row["action"] in [action.value for action in actions]:
                    found.append((row["subject"] or "", row["details"], row["result"]))
        return found


TRANSITIONS = ("PENDING → RUNNING", "RUNNING → COMPLETED")


def of_job(session: Session, log: Log, job_id: str) -> list[str]:
    """Actions, and transitions, that were told of a job, in order."""
    table = read_action_log(session.folder / log.file)
    rows = table[table["job_id"] == job_id].to_dict("records")
    return [row["details"] if row["action"] == "STATE_CHANGE" else row["action"] for row in rows]
