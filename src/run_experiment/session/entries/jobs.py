"""Texts of the entries of a session: what it plans, submits and follows. Each is a function of values alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby, zip_longest
from pathlib import Path

from run_experiment.actionlog.entry import MAX_CHARACTERS, Action, Entry, Log, duration_text
from run_experiment.attempts.reuse import OfferedEvaluation
from run_experiment.common import paths
from run_experiment.common.clock import moment_of
from run_experiment.common.text import counted
from run_experiment.session.plan import SessionJob, SessionPlan
from run_experiment.slurm.accounted_job import AccountedJob
from run_experiment.slurm.ends import describe
from run_experiment.slurm.states import is_live, succeeded

# What a value may hold of a list, so that it is not cut with what stands beside it.
_ROOM = MAX_CHARACTERS - 300
# Of the end of a job's log: lines, and characters of each.
_LINES, _WIDTH = 5, 300
_LOG_FILE = re.compile(r"its (?:log|output) is ")

SUBMISSION = {Log.TORCHTUNE: Action.SUBMIT_JOB, Log.INSPECT: Action.SUBMIT_EVAL}
_ACTIVITY = {Log.TORCHTUNE: "Training", Log.INSPECT: "Evaluation"}
JOBS = {Log.TORCHTUNE: "job", Log.INSPECT: "evaluation"}


def discovery(plan: SessionPlan) -> Entry:
    """The experiment was found, and is valid."""
    details = f"Found experiment at {plan.folder} ({paths.SUMMARY})"
    return Entry(Action.DISCOVER_EXPERIMENT, details, f"{counted(plan.runs, 'run')} configured")


def identification(plan: SessionPlan, log: Log) -> list[Entry]:
    """What of a kind is to be done, what is not, and why: one entry, or more if there are too many names."""
    total, wanted = len(plan.of(log)), len(plan.wanted_of(log))
    if log is Log.TORCHTUNE:
        action, found = Action.IDENTIFY_RUNS, f"{counted(total, 'fine-tuning run')} with"
        found, result = f"{found} {Path(paths.finetune_script('')).name}", f"{counted(wanted, 'run')} to submit"
    else:
        action, found = Action.IDENTIFY_EVALS, f"{counted(total, JOBS[log])} in the matrix"
        result = f"{counted(wanted, JOBS[log])} to submit ({len(plan.complete[log])} already completed)"
    skipped = _parts(plan.skipped[log])
    first = f"{found}; skipping {skipped[0]}" if skipped else found
    details = [first, *(f"skipping, too: {part}" for part in skipped[1:])]
    why = _parts([(job.subject, plan.why[job.target]) for job in plan.wanted_of(log)])
    return [
        Entry(action, text or f"{found}, continued", result, explanation=reasons)
        for text, reasons in zip_longest(details, why)
    ]


def submission(plan: SessionPlan, job: SessionJob, stagger: float, job_id: str) -> Entry:
    """A job was submitted."""
    details, again = submission_details(plan, job, stagger), plan.again.get(job.target)
    return Entry(SUBMISSION[job.log], details, f"Job ID {job_id}", job.subject, explanation=again, job_id=job_id)


def earlier_submission(plan: SessionPlan, job: SessionJob, job_id: str) -> Entry:
    """A job was submitted by an earlier session, which was killed before it wrote that."""
    details = f"{submission_details(plan, job, 0)}, by an earlier session"
    return Entry(SUBMISSION[job.log], details, f"Job ID {job_id}", job.subject, job_id=job_id)


def submission_failure(plan: SessionPlan, job: SessionJob, reason: str) -> Entry:
    """A job was not submitted."""
    return Entry(SUBMISSION[job.log], submission_details(plan, job, 0), f"failed: {reason}", job.subject)


def reuse(job: SessionJob, offered: OfferedEvaluation, outcome: str, ended: datetime | None) -> Entry:
    """An evaluation was taken from another experiment; `outcome` is what came out there."""
    there = paths.subject_of_cell(offered.run, offered.cell)
    details = f"Evaluated by job {offered.job_id} of {offered.experiment} as {there}, from where it is taken"
    return Entry(Action.REUSE_EVAL, details, finished(Log.INSPECT, outcome, ended), job.subject)


def queue_full(waiting: int, reason: str) -> Entry:
    """So many jobs are not submitted, since others fill the queue."""
    return Entry(Action.QUEUE_FULL, f"{counted(waiting, 'job')} to be submitted", reason)


def submission_details(plan: SessionPlan, job: SessionJob, stagger: float) -> str:
    """How a job is submitted: `sbatch finetune.slurm (5-second stagger)`."""
    script = Path(job.script).name
    if plan.is_attached:
        return f"sbatch {script}" + (f" ({stagger:g}-second stagger)" if stagger else "")
    return f"local execution of {script}" if plan.is_local else f"execution of {script} by {plan.executor}"


def status(plan: SessionPlan, states: Sequence[str], waiting: int, again: bool = False) -> Entry:
    """States of a session's jobs of a kind, `waiting` of which are not submitted yet."""
    counts = Counter({"PENDING": 0, "RUNNING": 0, "COMPLETED": 0})
    counts.update(states)
    text = ", ".join(f"{count} {state}" for state, count in counts.items())
    rest = f"; {waiting} to be submitted" if waiting else ""
    details = _polling(plan) + (", which answers again" if again else "")
    return Entry(Action.STATUS_CHECK, details, f"{counted(len(states), 'job')}: {text}{rest}")


def status_failure(plan: SessionPlan, reason: str) -> Entry:
    """The states of jobs are not known."""
    return Entry(Action.STATUS_CHECK, _polling(plan), f"failed: {reason}")


def transition(job: SessionJob, job_id: str, before: str, after: str, result: str) -> Entry:
    """A job's state changed."""
    return Entry(Action.STATE_CHANGE, f"{before} → {after}", result, job.subject, job_id=job_id)


def held(job: SessionJob, job_id: str, state: str, reason: str, remedy: str) -> Entry:
    """A job waits for a reason that does not pass by itself, or not soon."""
    return transition(job, job_id, state, state, f"Waits ({reason}): {remedy}")


def transition_result(log: Log, after: str, job: AccountedJob, failure: str, outcome: str) -> str:
    """What a new state means, with accounting's times; `failure` says why a job failed, `outcome` what came out."""
    nodes = f" on {job.nodes}" if job.nodes else ""
    if after == "RUNNING":
        return started(log, job.started, nodes)
    if after == "SUSPENDED":
        return f"Suspended{nodes}, until somebody resumes it"
    if is_live(after):
        return waits(job.reason)
    if succeeded(after) and not failure:
        return finished(log, outcome, job.ended, nodes)
    return f"{_ACTIVITY[log]} ended{_at(job.ended)}{nodes}: {failure or describe(job)}"


def waits(reason: str) -> str:
    """A job waits for its start, or its next one."""
    return "Waits to be started" + (f" ({reason})" if reason else "")


def started(log: Log, when: datetime | None, where: str = "") -> str:
    """A job began: `Training started at 2026-01-31 10:00:05 on n1`."""
    return f"{_ACTIVITY[log]} started{_at(when)}{where}"


def finished(log: Log, outcome: str, when: datetime | None, where: str = "") -> str:
    """A job succeeded: `Evaluation finished: match/accuracy 0.880, at 2026-01-31 10:05:00 on n1`."""
    result = f": {outcome}{',' if when or where else ''}" if outcome else ""
    return f"{_ACTIVITY[log]} finished{result}{_at(when)}{where}"


def failure_text(message: str, log: Path | None, again: str = "") -> str:
    """Why a job failed: what happened, its log, the last lines of that, long ones cut.

    `again` is why it is submitted again, if it is.
    """
    first, *lines = [line.strip() for line in message.splitlines() if line.strip()] or ["failed"]
    where = f"; its log is {log}" if log and not _LOG_FILE.search(message) else ""
    then = f"; it is submitted again: {again}" if again else ""
    last = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in lines[-_LINES:]]
    return "\n".join([first + where + then, *last])


def completion(log: Log, verdicts: Sequence[str], complete: int, missed: int, seconds: float) -> Entry:
    """All jobs of a kind are at their ends; some may have been complete before, or could not be submitted."""
    rest = [f"{complete} complete before" if complete else "", f"{missed} not submitted" if missed else ""]
    said = "; ".join(["", *filter(None, rest)])
    counts = Counter({"COMPLETED": 0, "FAILED": 0})
    counts.update(verdicts)
    ends = "reached a terminal state" if len(verdicts) == 1 else "reached terminal states"
    return Entry(
        Action.ALL_COMPLETE,
        f"All {counted(len(verdicts), JOBS[log])} {ends}{said}",
        ", ".join(f"{count} {state}" for state, count in counts.items()),
        duration=duration_text(seconds),
    )


def all_submitted(submitted: Sequence[str], attached: int, refused: int, blocked: int) -> Entry:
    """Every evaluation that can be submitted was; `attached` of them in an earlier session."""
    earlier = f", {attached} of them in an earlier session" if attached else ""
    rest = f"; {blocked} cannot be submitted: what they need failed" if blocked else ""
    details = f"{counted(len(submitted), JOBS[Log.INSPECT])} submitted ({counted(refused, 'failure')}){earlier}{rest}"
    return Entry(Action.ALL_SUBMITTED, details, job_ids_text(submitted) if submitted else "none")


def job_ids_text(job_ids: Iterable[str]) -> str:
    """Ids of jobs, runs of numbers as ranges: `Job IDs 17-19, 25`."""
    ids = list(job_ids)
    numbers = sorted(int(one) for one in ids if one.isdecimal())
    groups = [[number for _, number in group] for _, group in groupby(enumerate(numbers), lambda it: it[1] - it[0])]
    ranges = [f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups]
    ranges += [one for one in ids if not one.isdecimal()]
    text = _shortened(ranges)
    return f"Job ID {text}" if len(ids) == 1 else f"Job IDs {text}"


def detachment(log: Log, job_ids: Sequence[str], waiting: int, cancelled: bool, local: bool) -> Entry:
    """The main process ends before its jobs, `waiting` of which were not submitted."""
    rest = f"; {waiting} not submitted" if waiting else ""
    jobs = counted(len(job_ids), JOBS[log])
    what = "cancelled" if cancelled else "ended with it" if local else "left running"
    return Entry(
        Action.MONITOR_DETACHED,
        f"Stopped with {jobs} in flight{rest}",
        f"{jobs} {what}: {job_ids_text(job_ids)}" if job_ids else "No job is left running",
        recommendation="Start again with the same command",
    )


def reattachment(job: SessionJob, job_id: str, submitted: str, state: str) -> Entry:
    """A job of an earlier session is followed again, or its end is judged; `state` is empty if SLURM forgot it."""
    ended = not state or not is_live(state)
    details = f"Job {job_id}, submitted{_at(moment_of(submitted))} by an earlier session"
    result = "ended while no process followed it" if ended else "followed again"
    return Entry(Action.JOB_REATTACHED, details, f"{state}: {result}" if state else result, job.subject, job_id=job_id)


def _polling(plan: SessionPlan) -> str:
    if plan.is_attached:
        return "Polling SLURM (sacct)"
    return "Checking local jobs" if plan.is_local else f"Checking jobs of {plan.executor}"


def _parts(skipped: Sequence[tuple[str, str]]) -> list[str]:
    """Names by their reason, `r4, r8 (already complete), base (control, no training)`, in parts that are not cut."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped:
        by_reason.setdefault(reason, []).append(name)
    parts: list[dict[str, list[str]]] = [{}]
    for reason, names in by_reason.items():
        for name in names:
            longer = {**parts[-1], reason: [*parts[-1].get(reason, []), name]}
            if len(_grouped(longer)) > _ROOM:
                parts.append({reason: [name]})
            else:
                parts[-1] = longer
    return [_grouped(part) for part in parts if part]


def _grouped(by_reason: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())


def _shortened(items: Sequence[str]) -> str:
    """A list that is not cut; what it leaves out is counted, and has entries of its own."""
    shown = list(items)
    while len(", ".join(shown)) > _ROOM:
        shown.pop()
    rest = len(items) - len(shown)
    return ", ".join(shown) + (f" and {rest} more, each in the entry of its submission" if rest else "")


def _at(moment: datetime | None) -> str:
    return f" at {moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment else ""
