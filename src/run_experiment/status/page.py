"""The state of an experiment as text: one row per run, one mark per epoch, failures below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from run_experiment.actionlog.entry import escape
from run_experiment.common.text import counted
from run_experiment.estimate.text import left_text
from run_experiment.status.items import EVALUATION, TRAINING, VERIFICATION, Item, RunStatus, State, Status

MARKS = {
    State.DONE: "+",
    State.RUNNING: "R",
    State.PENDING: "P",
    State.FAILED: "F",
    State.CANCELLED: "C",
    State.STALE: "S",
    State.MISSING: ".",
    State.SKIPPED: "-",
}
_NARROWEST = 80
_LONGEST_RUN, _NARROWEST_TASK, _BAR = 28, 6, 30
_GAP = "  "
# Longest lists shown.
_MOST, _MOST_RUNNING = 10, 30
# Characters shown of a reason.
_LONGEST_REASON = 300


@dataclass(frozen=True)
class _Column:
    """A task and its epochs; None stands for an untrained model."""

    task: str
    epochs: tuple[int | None, ...]

    @property
    def narrowest(self) -> int:
        return max(len(self.epochs), min(len(self.task), _NARROWEST_TASK))


def status_text(status: Status, width: int) -> str:
    """The whole page for a terminal of `width` columns, at least 80."""
    width = max(width, _NARROWEST)
    parts = [*_head(status, width), "", *_table(status, width), *_taken(status, width)]
    parts += _running(status, width)
    return "\n".join([*parts, *_stuck(status, width), *_failures(status, width), *_outdated(status, width)])


def missing_text(status: Status) -> str:
    """One line for each missing item, with its state and reason."""
    if not status.missing:
        return f"Nothing is missing: {_done(_jobs(status))} are done."
    rows = [(_name(item), _state(item), _whole_reason(item)) for item in status.missing]
    name, state = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{row[0]:<{name}}{_GAP}{row[1]:<{state}}{_GAP}{row[2]}" for row in rows)


def age(seconds: float) -> str:
    """A time span in short form: 45s, 12m, 3h05m, 2d04h."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 1:
        return f"{max(0, int(seconds))}s"
    if hours < 1:
        return f"{minutes}m"
    return f"{hours}h{minutes % 60:02}m" if days < 1 else f"{days}d{hours % 24:02}h"


def _head(status: Status, width: int) -> list[str]:
    lines = [f"{escape(status.experiment)}: {escape(str(status.folder))}", _follower(status)]
    lines += [line for note in status.notes for line in textwrap.wrap(f"Note: {escape(note)}", width)]
    jobs = _jobs(status)
    states = [item.state for item in jobs]
    counts = {state: states.count(state) for state in State if state is not State.DONE and state in states}
    bar = "#" * (_BAR * states.count(State.DONE) // max(1, len(jobs)))
    others = ", ".join(f"{count} {state}" for state, count in counts.items())
    said = f"[{bar:.<{_BAR}}] {_done(jobs)} done" + (f": {others}" if others else "")
    lines += textwrap.wrap(said, width, subsequent_indent=" " * (_BAR + 3))
    left = left_text(status.left) if status.left else ""
    return [*lines, *textwrap.wrap(left, width, subsequent_indent="    ")]


def _jobs(status: Status) -> list[Item]:
    """Trainings and evaluations, as `-n` counts them: verifications have a column of their own."""
    return [item for item in status.items if item.kind != VERIFICATION and item.state is not State.SKIPPED]


def _done(jobs: Sequence[Item]) -> str:
    """How many of the trainings and of the evaluations are done."""
    of_kind = {kind: [item.state for item in jobs if item.kind == kind] for kind in (TRAINING, EVALUATION)}
    counts = [counted(states.count(State.DONE), kind, len(states)) for kind, states in of_kind.items() if states]
    return " and ".join(counts) or "0 of 0"


def _follower(status: Status) -> str:
    owner = status.owner
    if status.followed:
        if owner is None:
            return "Followed by an unknown process"
        since = datetime.fromisoformat(owner.started)
        who = f"process {owner.pid} on {escape(owner.host)}, user {escape(owner.user)}"
        return f"Followed by {who}, since {_time(since)} ({age((status.time - since).total_seconds())})"
    if status.total == status.counts[State.DONE]:
        return "No process is following this experiment: everything is done"
    live = any(item.state in (State.RUNNING, State.PENDING) for item in status.items)
    advice = f"run the same command to {'follow its jobs' if live else 'continue'}"
    if owner is None and not live:
        advice = "start it with snakemake"
    last = ""
    if owner:
        end = f"until {_time(datetime.fromisoformat(owner.ended))}" if owner.ended else "which did not record its end"
        last = f" (the last one was process {owner.pid} on {escape(owner.host)}, {end})"
    return f"No process is following this experiment; {advice}{last}"


def _table(status: Status, width: int) -> list[str]:
    """One row per run; tasks that do not fit beside the others follow in tables below."""
    left = _left(status)
    names = [line[: _run_width(status) + len(_GAP)] for line in left]
    lines: list[str] = []
    for block in _blocks(_columns(status), width - len(left[0]), width - len(names[0])):
        starts = names if lines else left
        sizes = _widths(block, width - len(starts[0]))
        cells = [_heads(block, sizes), *(_cells(run, block, sizes) for run in status.runs)]
        lines += [f"{start}{cell}".rstrip() for start, cell in zip(starts, cells, strict=True)] + [""]
    return [*lines, *_legend(status, width)]


def _run_width(status: Status) -> int:
    return min(_LONGEST_RUN, max(len("run"), *(len(run.name) for run in status.runs)))


def _left(status: Status) -> list[str]:
    """The columns on runs and their trainings, with their header."""
    rows = [("run", "training", "job", "time", "verified")]
    rows += [
        (
            _middle_cut(run.name, _run_width(status)),
            "-" if run.training.state is State.SKIPPED else _state(run.training),
            _cut(run.training.job_id or "", 12),
            _duration(run.training, status.time),
            _verified(run),
        )
        for run in status.runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["".join(f"{cell:<{size}}{_GAP}" for cell, size in zip(row, widths, strict=True)) for row in rows]


def _verified(run: RunStatus) -> str:
    """Number of verified checkpoints, of those to verify."""
    wanted = [item for item in run.verifications if item.state is not State.SKIPPED]
    done = sum(item.state is State.DONE for item in wanted)
    failed = sum(item.state is State.FAILED for item in wanted)
    return f"{done}/{len(wanted)}{' F' if failed else ''}" if wanted else "-"


def _duration(item: Item, moment: datetime) -> str:
    """How long a training that ended ran, or how long it has been running or pending."""
    if item.state in (State.RUNNING, State.PENDING):
        return "" if item.since is None else age((moment - item.since).total_seconds())
    return "" if item.seconds is None else age(item.seconds)


def _columns(status: Status) -> list[_Column]:
    epochs: dict[str, set[int | None]] = {}
    for run in status.runs:
        for item in run.evaluations:
            epochs.setdefault(str(item.task), set()).add(item.epoch)
    return [_Column(task, tuple(sorted(found, key=_order))) for task, found in epochs.items()]


def _order(epoch: int | None) -> int:
    return -1 if epoch is None else epoch


def _blocks(columns: Sequence[_Column], room: int, later: int) -> list[list[_Column]]:
    """Split columns into tables that fit: the first table has `room`, the others `later`; at least one column each."""
    blocks: list[list[_Column]] = [[]]
    left = room
    for column in columns:
        if blocks[-1] and column.narrowest > left:
            blocks.append([])
            left = later
        blocks[-1].append(column)
        left -= column.narrowest + len(_GAP)
    return blocks


def _widths(block: Sequence[_Column], room: int) -> list[int]:
    """Widths of columns: full names if they fit, else the room is shared equally."""
    widths = [column.narrowest for column in block]
    extra = room - sum(widths) - len(_GAP) * (len(widths) - 1)
    while extra > 0:
        cut = [number for number, column in enumerate(block) if widths[number] < len(column.task)]
        if not cut:
            break
        for number in cut[:extra]:
            widths[number] += 1
        extra -= len(cut)
    return widths


def _heads(block: Sequence[_Column], sizes: Sequence[int]) -> str:
    return _GAP.join(f"{_cut(column.task, size):<{size}}" for column, size in zip(block, sizes, strict=True))


def _cells(run: RunStatus, block: Sequence[_Column], sizes: Sequence[int]) -> str:
    found = {(item.task, item.epoch): _mark(item) for item in run.evaluations}
    cells = ["".join(found.get((column.task, epoch), " ") for epoch in column.epochs) for column in block]
    return _GAP.join(f"{cell:<{size}}" for cell, size in zip(cells, sizes, strict=True))


def _mark(item: Item) -> str:
    return MARKS[item.state] if item.certain else MARKS[item.state].lower()


def _legend(status: Status, width: int) -> list[str]:
    columns = _columns(status)
    used = {item.state for run in status.runs for item in run.evaluations}
    marks = [f"{mark} {state}" for state, mark in MARKS.items() if state in used]
    trained = sorted({_order(epoch) for column in columns for epoch in column.epochs if epoch is not None})
    has_base = any(None in column.epochs for column in columns)
    said = [*(["first the model as given"] if has_base else []), *([_epochs(trained)] if trained else [])]
    parts = [_GAP.join(marks), f"One mark per epoch: {', then '.join(said)}" if said else ""]
    if not all(item.certain for item in status.items):
        parts.append("?, r, p: last known state")
    return [line for part in parts if part for line in textwrap.wrap(part, width)]


def _epochs(epochs: Sequence[int]) -> str:
    whole = list(range(epochs[0], epochs[-1] + 1)) == list(epochs) and len(epochs) > 1
    return f"{epochs[0]} to {epochs[-1]}" if whole else ", ".join(map(str, epochs))


def _taken(status: Status, width: int) -> list[str]:
    """What was not made here."""
    groups: dict[str, list[Item]] = {}
    for item in _jobs(status):
        if item.taken_from:
            groups.setdefault(item.taken_from, []).append(item)
    said = [f"Taken from {escape(experiment)}: {_kinds(items)}" for experiment, items in groups.items()]
    # A path stays whole.
    options: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
    return [line for one in said for line in textwrap.wrap(one, width, subsequent_indent="    ", **options)]


def _running(status: Status, width: int) -> list[str]:
    """How far running jobs are."""
    items = [item for item in status.items if item.progress and not item.is_stuck][:_MOST_RUNNING]
    size = max((len(_name(item)) for item in items), default=0)
    lines = [_cut(f"  {_name(item):<{size}}{_GAP}{item.progress.text}", width) for item in items if item.progress]
    return ["", "Running:", *lines] if lines else []


def _stuck(status: Status, width: int) -> list[str]:
    """Jobs that do not go on by themselves, or not soon, with what to do."""
    return _list("Held up:", [item for item in status.items if item.is_stuck], status.time, width)


def _failures(status: Status, width: int) -> list[str]:
    """Failed and cancelled items, with reasons."""
    failed = [item for item in status.items if item.state in (State.FAILED, State.CANCELLED)]
    return _list("Failed or cancelled:", failed, status.time, width)


def _outdated(status: Status, width: int) -> list[str]:
    """Stale items, and missing ones that something blocks."""
    held_up = [item for item in status.missing if item.state is State.MISSING and (item.read_on or not item.certain)]
    stale = [item for item in status.missing if item.state is State.STALE]
    return _list("To be made again, or blocked:", [*stale, *held_up], status.time, width)


def _list(title: str, items: Sequence[Item], moment: datetime, width: int) -> list[str]:
    """Items grouped by run and reason, the newest last."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in sorted(items, key=_when):
        groups.setdefault((item.run, item.reason), []).append(item)
    together = sorted(groups.values(), key=lambda group: _when(group[-1]))[-_MOST:]
    lines = [line for group in together for line in _entry(group, moment, width)]
    more = [f"  and {len(groups) - _MOST} older reasons; --missing lists them all"] if len(groups) > _MOST else []
    return ["", title, *more, *lines] if lines else []


def _when(item: Item) -> float:
    return item.since.timestamp() if item.since else 0.0


def _entry(group: Sequence[Item], moment: datetime, width: int) -> list[str]:
    """A group of items with the same reason, and its newest job."""
    newest = group[-1]
    what = _name(newest) if len(group) == 1 else f"{newest.run}, {_kinds(group)}"
    job = f", {'newest ' if len(group) > 1 else ''}job {escape(newest.job_id)}" if newest.job_id else ""
    # Not twice, if the reason names the job.
    job = "" if f"job {newest.job_id}" in newest.reason else job
    when = f", {age((moment - newest.since).total_seconds())} ago" if newest.since else ""
    reason = _cut(_whole_reason(newest), _LONGEST_REASON)
    text = f"{what}{job}{when}: {reason}"
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def _kinds(items: Iterable[Item]) -> str:
    kinds: dict[str, int] = {}
    for item in items:
        kinds[item.kind] = kinds.get(item.kind, 0) + 1
    return ", ".join(kind if count == 1 else f"{count} {kind}s" for kind, count in kinds.items())


def _name(item: Item) -> str:
    extra = {TRAINING: " training", VERIFICATION: " verification"}
    return f"{escape(item.subject)}{extra.get(item.kind, '')}"


def _state(item: Item) -> str:
    again = f", attempt {item.attempt}" if item.attempt and item.attempt > 1 else ""
    return f"{item.state}{'' if item.certain else '?'}{again}"


def _whole_reason(item: Item) -> str:
    return escape(f"{item.reason}; see {item.read_on}" if item.read_on else item.reason)


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _middle_cut(text: str, width: int) -> str:
    """Cut in the middle, since runs often differ only at the end."""
    end = width // 2
    return text if len(text) <= width else text[: width - 1 - end] + "…" + text[-end:]
