"""Writes entries to the two action logs of an experiment.

Entries are appended and never changed. Only the submitting host writes them; jobs do not.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from run_experiment.common.files import refuse_foreign_links, try_lock
from run_experiment.common.secret_values import secret_values, without_secrets

MAX_CHARACTERS = 2000

# Line that closes an entry cut off by a crash or a full disk. No entry can contain it: each line of an entry begins
# with the name of a field.
CUT_OFF = "(cut off: the rest of this entry was not written)"

# Control characters, line separators, direction marks, surrogates, and the backslash itself.
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\\]")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}
_ESCAPE = re.compile(r"\\(?:[nrt\\]|x[0-9a-f]{2}|u[0-9a-f]{4})")
_ESCAPED_BY = {escape: character for character, escape in _SHORT_ESCAPES.items()}

# Seconds to wait for another process that is writing an entry.
_PATIENCE = 1.0


class Log(StrEnum):
    """One of the two action logs, named for its stage."""

    TORCHTUNE = "torchtune"
    INSPECT = "inspect"

    @property
    def file(self) -> str:
        """Its file in the experiment's folder."""
        return f"run-{self.value}.log"


class Action(StrEnum):
    """The kind of event that an entry records."""

    DISCOVER_EXPERIMENT = "DISCOVER_EXPERIMENT"
    IDENTIFY_RUNS = "IDENTIFY_RUNS"
    SUBMIT_JOB = "SUBMIT_JOB"
    STATUS_CHECK = "STATUS_CHECK"
    STATE_CHANGE = "STATE_CHANGE"
    COMPUTE_METRICS = "COMPUTE_METRICS"
    RESOURCE_STATUS = "RESOURCE_STATUS"
    ALL_COMPLETE = "ALL_COMPLETE"
    VERIFY_FINETUNING = "VERIFY_FINETUNING"
    VERIFY_CHECKPOINTS = "VERIFY_CHECKPOINTS"
    CHECKPOINT_MISSING = "CHECKPOINT_MISSING"
    MODEL_CHECK = "MODEL_CHECK"
    CACHE_PREBUILD = "CACHE_PREBUILD"
    CACHE_BUILT = "CACHE_BUILT"
    CACHE_PREBUILD_COMPLETE = "CACHE_PREBUILD_COMPLETE"
    IDENTIFY_EVALS = "IDENTIFY_EVALS"
    REUSE_EVAL = "REUSE_EVAL"
    SUBMIT_EVAL = "SUBMIT_EVAL"
    ALL_SUBMITTED = "ALL_SUBMITTED"
    MONITOR_DETACHED = "MONITOR_DETACHED"
    JOB_REATTACHED = "JOB_REATTACHED"
    OOM_RETRY = "OOM_RETRY"
    RESUME_TRAINING = "RESUME_TRAINING"
    EVAL_RETRY = "EVAL_RETRY"
    STALE_CACHE = "STALE_CACHE"
    QUEUE_FULL = "QUEUE_FULL"
    THROUGHPUT_STATUS = "THROUGHPUT_STATUS"

    @property
    def logs(self) -> tuple[Log, ...]:
        """The logs in which this action appears."""
        if self in _OF_TRAINING:
            return (Log.TORCHTUNE,)
        return (Log.INSPECT,) if self in _OF_EVALUATION else tuple(Log)


_OF_TRAINING = frozenset({Action.IDENTIFY_RUNS, Action.SUBMIT_JOB, Action.RESUME_TRAINING, Action.THROUGHPUT_STATUS})
_OF_EVALUATION = frozenset(
    {
        Action.VERIFY_FINETUNING,
        Action.VERIFY_CHECKPOINTS,
        Action.CHECKPOINT_MISSING,
        Action.CACHE_PREBUILD,
        Action.CACHE_BUILT,
        Action.CACHE_PREBUILD_COMPLETE,
        Action.IDENTIFY_EVALS,
        Action.REUSE_EVAL,
        Action.SUBMIT_EVAL,
        Action.ALL_SUBMITTED,
        Action.EVAL_RETRY,
        Action.STALE_CACHE,
    }
)

# Actions of jobs, which write them to their records; the session copies them to the logs.
OF_JOBS = frozenset({Action.OOM_RETRY, Action.RESUME_TRAINING, Action.EVAL_RETRY})


@dataclass(frozen=True)
class Entry:
    """An event: what happened, to what, with which result. Values may be any text, even with several lines."""

    action: Action
    details: str
    result: str
    subject: str | None = None
    command: str | None = None
    input: str | None = None
    calculation: str | None = None
    explanation: str | None = None
    job_id: str | None = None
    recommendation: str | None = None
    duration: str | None = None


# Names of the fields in the logs, in order, and in `Entry`.
FIELDS = {
    "Details": "details",
    "Command": "command",
    "Input": "input",
    "Calculation": "calculation",
    "Explanation": "explanation",
    "Job ID": "job_id",
    "Recommendation": "recommendation",
    "Result": "result",
    "Duration": "duration",
}


def render(entry: Entry, moment: datetime, environment: Mapping[str, str] = os.environ) -> str:
    """Text of an entry, one line per field; values of secret environment variables are replaced by stars."""
    secrets = secret_values(environment)
    subject = f": {_line(entry.subject, secrets)}" if entry.subject else ""
    values = {label: getattr(entry, name) for label, name in FIELDS.items()}
    lines = [f"{label}: {_line(value, secrets)}\n" for label, value in values.items() if value is not None]
    return f"[{moment:%Y-%m-%d %H:%M:%S}] {entry.action}{subject}\n{''.join(lines)}\n"


def escape(text: str) -> str:
    """The text in one line, with control characters and backslashes as visible escapes."""
    return _ESCAPED.sub(_escape, text)


def unescape(line: str) -> str:
    """Undo `escape`; anything else stays as it is."""
    return _ESCAPE.sub(_unescape, line) if "\\" in line else line


def duration_text(seconds: float) -> str:
    """A time span in its two largest units: `45 minutes`, `1 hour 5 minutes`."""
    rest = max(0, round(seconds))
    counts = {}
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        counts[unit], rest = divmod(rest, length)
    largest = next((place for place, count in enumerate(counts.values()) if count), 3)
    shown = list(counts.items())[largest : largest + 2]
    parts = [f"{count} {unit}{'' if count == 1 else 's'}" for unit, count in shown if count]
    return " ".join(parts) or "0 seconds"


class ActionLogs:
    """Writes to the action logs of an experiment, from any thread.

    An entry that cannot be written is lost and counted: a log never stops a run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._lost: dict[Log, Counter[str]] = {log: Counter() for log in Log}
        self._turn = threading.Lock()

    def write(self, logs: Log | Iterable[Log], entry: Entry) -> bool:
        """Append an entry, as of now, to a log or to several; False if one of them lacks it now."""
        text = render(entry, datetime.now()).encode()
        lost = False
        with self._turn:
            for log in [logs] if isinstance(logs, Log) else logs:
                try:
                    _append(self._folder / log.file, text)
                except OSError as error:
                    self._lost[log][error.strerror or str(error)] += 1
                    lost = True
        return not lost

    def incomplete(self) -> str | None:
        """Message on the entries that each log lacks, and why; None if all were written."""
        with self._turn:
            return "; ".join(_account(log, lost) for log, lost in self._lost.items() if lost) or None


def _account(log: Log, lost: Counter[str]) -> str:
    entries = "1 entry" if lost.total() == 1 else f"{lost.total()} entries"
    return f"{log.file} lacks {entries}: {', '.join(f'{reason} ({count})' for reason, count in lost.items())}"


def _append(path: Path, entry: bytes) -> None:
    """Append an entry with one write. Raises OSError, even if a part of it was written.

    The file is opened for each entry: if the log was moved away, a new one is created, and file systems that report a
    full disk on closing a file do so now.
    """
    refuse_foreign_links(path)
    # Non-blocking, so that a pipe without a reader cannot block the run.
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    try:
        _lock(file)
        text = _after_torn_entry(file) + entry
        if os.write(file, text) != len(text):
            raise OSError("only a part could be written")
    finally:
        os.close(file)


def _lock(file: int) -> None:
    """Keep other processes from appending, so that none takes a half-written entry for a torn one.

    Without locks in the file system, or if a stopped process holds the lock, the entry is written all the same.
    """
    end = time.monotonic() + _PATIENCE
    with suppress(OSError):
        while not try_lock(file) and time.monotonic() < end:
            time.sleep(0.0005)


def _after_torn_entry(file: int) -> bytes:
    """Text that closes a last entry that is incomplete; empty if it is complete."""
    size = os.fstat(file).st_size
    # An editor may have written CRLF line ends.
    end = os.pread(file, 4, max(0, size - 4)).replace(b"\r", b"") if size else b""
    if not end or end.endswith(b"\n\n"):
        return b""
    return (b"" if end.endswith(b"\n") else b"\n") + CUT_OFF.encode() + b"\n\n"


def _line(text: str, secrets: list[str]) -> str:
    """A value as written: first without secrets, then cut, then escaped, since each step could hide the one before."""
    text = without_secrets(text, secrets)
    cut = f"… (cut after {MAX_CHARACTERS:,} of {len(text):,} characters)" if len(text) > MAX_CHARACTERS else ""
    return escape(text[:MAX_CHARACTERS]) + cut


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPED_BY.get(match[0]) or chr(int(match[0][2:], 16))


def link_logs(folder: Path) -> None:
    """Link the logs of an experiment from its folder `logs/`, where other tools look for them."""
    for log in Log:
        link = folder / "logs" / log.file
        # The links are only a convenience.
        with suppress(OSError):
            link.parent.mkdir(exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(Path("..", log.file))
