"""Whether the action logs account for every job that SLURM's accounting knows. Each check returns what is wrong.

Checks take values alone: jobs as sacct has them, entries as the package's reader has them, records by subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import pandas as pd
from cluster_runs import ClusterJob

from run_experiment.actionlog.entry import Action, Log
from run_experiment.slurm.job_ids import slurm_id
from run_experiment.slurm.states import is_live

Records = Mapping[str, Mapping[str, Any]]

# Clocks of two processes, each in whole seconds.
NEAR = timedelta(seconds=2)
SUBMISSIONS = (Action.SUBMIT_JOB, Action.SUBMIT_EVAL)
# Ends after which SLURM may start the same job again.
_QUEUED_AGAIN = ("NODE_FAIL", "PREEMPTED")
# Ends that say nothing of what the job had done until then.
_FROM_OUTSIDE = (*_QUEUED_AGAIN, "CANCELLED")
# The same for a job that makes other targets, too, of which one failed.
_OF_SEVERAL = (*_FROM_OUTSIDE, "FAILED")
_TIME = re.compile(r" at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


def all_problems(jobs: Sequence[ClusterJob], table: pd.DataFrame, records: Records) -> list[str]:
    """All that is wrong, with records as the experiment should have them: one a target."""
    jobs = [_as_made(job, records) for job in jobs]
    found = [*problems_of_targets(jobs, table, records), *incomplete(table, records)]
    for job in jobs:
        found += unaccounted(job, table)
    return found


def problems_of_targets(jobs: Sequence[ClusterJob], table: pd.DataFrame, records: Records) -> list[str]:
    """Targets that are not made, or by more jobs than they need; jobs without an entry of their submission."""
    found = [*not_made_once(jobs, records), *two_at_once(jobs), *torn(table)]
    for job in jobs:
        found += [f"{describe(job)}: {problem}" for problem in not_submitted_once(job, table)]
    return found


def unaccounted(job: ClusterJob, table: pd.DataFrame) -> list[str]:
    """What the logs lack, or have too much, of what became of a job."""
    checks = (wrong_transitions, wrong_times, wrong_metrics)
    return [f"{describe(job)}: {problem}" for check in checks for problem in check(job, table)]


def subject_of(job: ClusterJob) -> str:
    """What the logs call the target of a job named `experiment.run`, `experiment.run.task.e0`, or without an epoch."""
    _, run, *cell = job.name.split(".")
    if len(cell) == 1:
        return f"{run}/{cell[0]}/base"
    return "/".join([run, *(re.sub(r"^e(\d+)$", r"epoch\1", part) for part in cell)])


def describe(job: ClusterJob) -> str:
    return f"job {job.job_id} ({subject_of(job)}, {job.state})"


def not_made_once(jobs: Sequence[ClusterJob], records: Records) -> list[str]:
    """Targets that not exactly one job made: the one that its record names."""
    found = []
    for subject in sorted({*records, *map(subject_of, jobs)}):
        by = records.get(subject, {}).get("job_id")
        of_subject = [job for job in jobs if subject_of(job) == subject]
        made = [job.job_id for job in of_subject if job.state == "COMPLETED"]
        if made != [by]:
            found.append(f"{subject}: its record names job {by}, and these completed: {', '.join(made) or 'none'}")
    return found


def _as_made(job: ClusterJob, records: Records) -> ClusterJob:
    """A job as completed if it left its record and then ended otherwise: cancelled, by a dead node, for others."""
    left = records.get(subject_of(job), {}).get("job_id") == job.job_id
    outside = _OF_SEVERAL if slurm_id(job.job_id) != job.job_id else _FROM_OUTSIDE
    return replace(job, state="COMPLETED") if left and job.state in outside else job


def two_at_once(jobs: Iterable[ClusterJob]) -> list[str]:
    """Pairs of jobs for one target that ran at the same time."""
    ran = [job for job in jobs if job.start]
    pairs = [pair for pair in combinations(ran, 2) if pair[0].name == pair[1].name]
    return [f"{describe(one)} and {describe(other)} ran at the same time" for one, other in pairs if _met(one, other)]


def _met(one: ClusterJob, other: ClusterJob) -> bool:
    assert one.start
    assert other.start
    latest = datetime.max
    return one.start < (other.end or latest) and other.start < (one.end or latest)


def not_submitted_once(job: ClusterJob, table: pd.DataFrame) -> list[str]:
    """A job has one entry of its submission, by its subject."""
    subjects = list(_of(job, table, *SUBMISSIONS)["subject"])
    if subjects == [subject_of(job)]:
        return []
    return [f"{len(subjects)} entries of its submission, not 1{_listed(subjects)}"]


def wrong_transitions(job: ClusterJob, table: pd.DataFrame) -> list[str]:
    """A job's transitions are a chain from PENDING to the state that accounting has, the only one that is an end."""
    changes = [tuple(text.split(" → ")) for text in _of(job, table, Action.STATE_CHANGE)["details"]]
    states = ["PENDING", *(after for _, after in changes)]
    found = []
    if [before for before, _ in changes] != states[:-1]:
        found.append(f"its transitions are no chain{_listed(f'{one} → {other}' for one, other in changes)}")
    if states[-1] != job.state:
        found.append(f"the last state in the log is {states[-1]}")
    if any(not is_live(state) and state not in _QUEUED_AGAIN for state in states[:-1]):
        found.append(f"it went on after an end{_listed(states)}")
    if job.start and "RUNNING" not in states:
        found.append("the log does not have its start")
    return found


def wrong_times(job: ClusterJob, table: pd.DataFrame) -> list[str]:
    """The last start and the end in the log lie within those of accounting.

    Ends are written from the record, which the job leaves shortly before SLURM calls it ended.
    """
    changes = _of(job, table, Action.STATE_CHANGE)
    rows = changes.to_dict("records")
    started = [row["result"] for row in rows if row["details"].endswith("→ RUNNING")][-1:]
    ended = [row["result"] for row in rows if not _leads_to_live(row["details"])][-1:]
    # A job that made what it should without a start was queued again, and ended before it began once more.
    again = job.start or (job.end if job.state == "COMPLETED" else None)
    if again and any(said < again - NEAR for said in map(_time, ended) if said):
        # SLURM took the job for lost and ran it once more, after its record was there.
        return []
    return [
        f"its {what} is {time} in accounting, in the log: {result}"
        for what, time, results in (("start", job.start, started), ("end", job.end, ended))
        for result in results
        if time and not _is_within(_time(result), job)
    ]


def _is_within(said: datetime | None, job: ClusterJob) -> bool:
    begin, end = job.start or job.end, job.end or job.start
    return bool(said and begin and end) and begin - NEAR <= said <= end + NEAR


def _time(result: str) -> datetime | None:
    said = _TIME.search(result or "")
    return datetime.fromisoformat(said[1]) if said else None


def wrong_metrics(job: ClusterJob, table: pd.DataFrame) -> list[str]:
    """What a job used is in the log once, with its state."""
    results = list(_of(job, table, Action.COMPUTE_METRICS)["result"])
    return [] if results == [job.state] else [f"COMPUTE_METRICS is not there once{_listed(results)}"]


def wrong_on_page(jobs: Sequence[ClusterJob], rows: Sequence[Mapping[str, Any]], records: Records) -> list[str]:
    """Jobs that the page's table of jobs (`rows`) lacks, or has with another state, length or GPU-hours.

    Of SLURM's jobs that make several targets the page has each one's part, which are no more than the whole.
    """
    found, shared = [], dict[str, list[tuple[ClusterJob, Mapping[str, Any]]]]()
    for job in (_as_made(job, records) for job in jobs):
        shown = [row for row in rows if row["job_id"] == job.job_id]
        states = [row["state"] for row in shown]
        if states != [job.state]:
            found.append(f"{describe(job)}: the page's table of jobs has it as {states}")
        else:
            shared.setdefault(slurm_id(job.job_id), []).append((job, shown[0]))
    return found + [problem for parts in shared.values() for problem in _wrong_use(parts)]


def _wrong_use(parts: Sequence[tuple[ClusterJob, Mapping[str, Any]]]) -> Iterator[str]:
    """Figures of the page's rows of a job that are not those of accounting, but for a rounding or two clocks."""
    # SLURM may take a job for lost and run it once more, after a record was there.
    known = [(job, row) for job, row in parts if job.start and job.end and _is_of_last_start(job, row)]
    if not known:
        return
    job, near = known[0][0], NEAR.total_seconds() * len(known)
    assert job.start
    assert job.end
    for name, a_second in (("seconds", 1.0), ("gpu_hours", job.gpus / 3600)):
        expected = (job.end - job.start).total_seconds() * a_second
        given = [row[name] for _, row in known if name in row]
        difference = sum(given) - expected
        # Between its targets, a job works for none of them.
        too_little = difference < 0 and job.job_id == slurm_id(job.job_id)
        if given and (difference > 0 or too_little) and abs(difference) > near * a_second + 1e-6:
            yield f"{describe(job)}: on the page its {name} is {' + '.join(map(str, given))}"


def _is_of_last_start(job: ClusterJob, row: Mapping[str, Any]) -> bool:
    ended = datetime.fromisoformat(row["ended"]) if "ended" in row else None
    return bool(job.start and ended and ended >= job.start - NEAR)


def incomplete(table: pd.DataFrame, records: Records) -> list[str]:
    """Each log ends with an ALL_COMPLETE that counts all targets which are made, and none was written too soon."""
    found = []
    for log in Log:
        entries = table[table["log"] == log.value]
        wanted = sum(("/" in subject) == (log is Log.INSPECT) for subject in records)
        if wanted:
            found += [f"{log.file}: {problem}" for problem in (*_too_soon(entries), *_miscounted(entries, wanted))]
    return found


def _too_soon(entries: pd.DataFrame) -> list[str]:
    """Jobs submitted before an ALL_COMPLETE whose end comes after it, or never."""
    found, live = [], set()
    for entry in entries.to_dict("records"):
        if entry["action"] in SUBMISSIONS and entry["job_id"]:
            live.add(entry["job_id"])
        elif entry["action"] == Action.STATE_CHANGE and not is_live(entry["details"].split(" → ")[-1]):
            live.discard(entry["job_id"])
        elif entry["action"] == Action.ALL_COMPLETE and live:
            found.append(f"ALL_COMPLETE of {entry['time']} comes before the end of job {', '.join(sorted(live))}")
    return found


def _miscounted(entries: pd.DataFrame, wanted: int) -> list[str]:
    """The last ALL_COMPLETE follows the last end and counts what is made, `wanted` of them."""
    ends = entries[(entries["action"] == Action.STATE_CHANGE) & ~entries["details"].map(_leads_to_live)]
    complete = entries[entries["action"] == Action.ALL_COMPLETE].tail(1)
    if complete.empty or (len(ends) and complete.index[0] < ends.index[-1]):
        return [f"no ALL_COMPLETE after the end of job {ends['job_id'].iloc[-1]}" if len(ends) else "no ALL_COMPLETE"]
    details, result = complete["details"].item(), complete["result"].item()
    counts = [_number(r"All (\d+)", details), _number(r"(\d+) complete before", details)]
    if sum(counts) == wanted and result.startswith(f"{counts[0]} COMPLETED, 0 FAILED"):
        return []
    return [f"ALL_COMPLETE says {details!r}, {result!r}: {wanted} are made"]


def _leads_to_live(details: str | None) -> bool:
    return is_live((details or "").split(" → ")[-1])


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def torn(table: pd.DataFrame) -> list[str]:
    """Entries that are not whole."""
    return [
        f"the entry {row['action']} of {row['time']} is torn" for row in table[table["truncated"]].to_dict("records")
    ]


def _of(job: ClusterJob, table: pd.DataFrame, *actions: Action) -> pd.DataFrame:
    return table[(table["job_id"] == job.job_id) & table["action"].isin([action.value for action in actions])]


def _listed(items: Iterable[str]) -> str:
    text = ", ".join(items)
    return f": {text}" if text else ""
