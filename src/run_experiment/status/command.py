"""Runs `run-experiment status`: shows an experiment's state once or repeatedly, or what is missing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from run_experiment.actionlog.show import terminal_width
from run_experiment.common import paths
from run_experiment.common.errors import InputError, UnreadableError
from run_experiment.estimate.cost import Estimate
from run_experiment.estimate.seconds import Seconds
from run_experiment.inputs.file_hashes import HashMemory, hash_memory
from run_experiment.status.items import Item, RunStatus, State, Status
from run_experiment.status.page import missing_text, status_text
from run_experiment.status.read import read_status

# Exit status if something is missing and `--missing` was given.
INCOMPLETE = 3
# Width of the output if it is not a terminal.
_WIDTH = 100
_CLEAR = "\x1b[H\x1b[2J"
_TRIES = 3


@dataclass(frozen=True)
class Options:
    """How to show the status: as JSON or text, all of it or what is missing, repeated every `watch` seconds."""

    json: bool = False
    missing: bool = False
    watch: float | None = None


def show_status(folder: Path, options: Options, show: Callable[[str], None]) -> int:
    """Show the state of the experiment in `folder`; returns the exit status. Raises InputError."""
    folder = folder.resolve()
    memory = hash_memory(folder)
    try:
        status = _read(folder, memory)
        show(_drawn(status, options))
        while options.watch is not None and status.is_moving:
            time.sleep(options.watch)
            try:
                status = _read(folder, memory)
            except InputError as error:
                # Perhaps the summary is being edited.
                print(error, file=sys.stderr)
                continue
            show(_drawn(status, options))
    except KeyboardInterrupt:
        if options.watch is None:
            raise
        return 0
    return INCOMPLETE if options.missing and status.missing else 0


def as_json(status: Status) -> dict[str, Any]:
    """The state as plain values: times in ISO format, null if something is not known.

    Keys: experiment, folder, time, followed, owner (host, pid, user, started, ended, …), asked, notes,
    complete, total, counts (by state), left, runs; of `left`: gpu_seconds and path_seconds (likely, least, most),
    jobs, unknown (how many of them are like none that was measured); of a run: name, type, training, verified,
    verifications, evaluations; of each of these: kind, subject, run, task, epoch, state, certain, is_stuck, attempt,
    job_id, slurm_state, since, seconds, reason, read_on, progress (null, or done, total, unit, loss, tokens_per_second,
    seconds_left), taken_from (another experiment, or empty).
    """
    return {
        "experiment": status.experiment,
        "folder": str(status.folder),
        "time": status.time.isoformat(timespec="seconds"),
        "followed": status.followed,
        "owner": asdict(status.owner) if status.owner else None,
        "asked": status.asked,
        "notes": list(status.notes),
        "complete": not status.missing,
        "total": status.total,
        "counts": {str(state): count for state, count in status.counts.items()},
        "left": _left(status.left) if status.left else None,
        "runs": [_run(run) for run in status.runs],
    }


def missing_as_json(status: Status) -> dict[str, Any]:
    """What is missing, as plain values: some of `as_json`'s keys, and `missing`, a list of items as there."""
    whole = as_json(status)
    kept = {name: whole[name] for name in ("experiment", "folder", "time", "complete")}
    return {**kept, "missing": [_item(item) for item in status.missing]}


def _left(left: Estimate) -> dict[str, Any]:
    path = sum((job.seconds for job in left.longest_path if job.seconds), Seconds())
    return {
        "gpu_seconds": asdict(left.gpu_seconds),
        "path_seconds": asdict(path),
        "jobs": len(left.jobs),
        "unknown": len(left.jobs) - len(left.known),
    }


def _run(run: RunStatus) -> dict[str, Any]:
    wanted = [item for item in run.verifications if item.state is not State.SKIPPED]
    return {
        "name": run.name,
        "type": run.type,
        "training": _item(run.training),
        "verified": {"done": sum(item.state is State.DONE for item in wanted), "of": len(wanted)},
        "verifications": [_item(item) for item in run.verifications],
        "evaluations": [_item(item) for item in run.evaluations],
    }


def _item(item: Item) -> dict[str, Any]:
    values = asdict(item)
    since = item.since.isoformat(timespec="seconds") if item.since else None
    return {**values, "state": str(item.state), "since": since}


def _drawn(status: Status, options: Options) -> str:
    if options.json:
        values = missing_as_json(status) if options.missing else as_json(status)
        # With --watch, one object per line.
        return json.dumps(values, indent=None if options.watch else 2, ensure_ascii=False)
    text = missing_text(status) if options.missing else status_text(status, _width())
    if options.watch is None:
        return text
    last = "Nothing is running any more."
    if status.is_moving:
        advice = "Ctrl-C ends this display, not the experiment"
        last = f"{status.time:%Y-%m-%d %H:%M:%S}, next update in {options.watch:g} s; {advice}"
    return f"{_CLEAR if sys.stdout.isatty() else ''}{text}\n\n{last}"


def _width() -> int:
    return terminal_width() if sys.stdout.isatty() else _WIDTH


def _read(folder: Path, memory: HashMemory) -> Status:
    """Read the state; again if files appear or vanish meanwhile. Raises InputError."""
    for _ in range(_TRIES - 1):
        with suppress(OSError, UnreadableError):
            return read_status(folder, memory)
        time.sleep(0.2)
    try:
        return read_status(folder, memory)
    except OSError as error:
        raise UnreadableError(str(folder / paths.SUMMARY), error) from error
