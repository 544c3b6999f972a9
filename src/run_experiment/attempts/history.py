"""The attempts at the targets of a run: the only reader of `{run}/attempts`, which reads each file once."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from run_experiment.attempts.files import BEGUN, ENDED, NOT_SUBMITTED, SLURM, Failure, folders, number_of
from run_experiment.common import paths
from run_experiment.common.clock import moment_of
from run_experiment.common.json_files import Config, config_hash, read_record
from run_experiment.common.text import clipped, harmless
from run_experiment.experiment.records import allocation_of
from run_experiment.slurm.ends import meaning
from run_experiment.slurm.job_ids import is_of_slurm

_OLDEST = float("-inf")
# Characters of an error that a reason has: some messages have a whole tensor, or an answer, in their first line.
_LONGEST = 400
# Beginnings of the error messages of cancelled attempts.
_CUT = ("ended by SIGTERM", "KeyboardInterrupt")
# SLURM states that decide the kind of failure, whatever the job itself wrote.
_BY_STATE = {
    "OUT_OF_MEMORY": Failure.OUT_OF_MEMORY,
    **dict.fromkeys(("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT"), Failure.INTERRUPTED),
}


@dataclass(frozen=True)
class Attempt:
    """An attempt that failed, or is still running.

    `target` is `finetune` or an evaluation's cell, `job_id` empty if SLURM refused the job, `restarts` how often SLURM
    had started its job before. `begun` is everything that the job itself wrote; `own_error` its error message, None if
    it wrote none. `slurm_state` is SLURM's verdict, None if there is none; `slurm_error` says it in words. Unknown
    texts are empty, unknown times None.
    """

    folder: Path
    target: str
    job_id: str
    failure: Failure
    restarts: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    config: Config | None = None
    config_hash: str = ""
    host: str = ""
    begun: Mapping[str, Any] = field(default_factory=dict)
    own_error: str | None = None
    slurm_state: str | None = None
    slurm_error: str = ""

    @property
    def is_over(self) -> bool:
        """Whether its end is known, from the job itself or from SLURM."""
        return self.own_error is not None or self.slurm_state is not None

    @property
    def error(self) -> str:
        """Why it failed: the job's own message, else SLURM's."""
        return self.own_error or self.slurm_error or "it was interrupted"

    @property
    def moment(self) -> datetime | None:
        """When it ended; if that is unknown, when it began."""
        return self.ended or self.began

    @property
    def clock(self) -> float:
        """Seconds of its machine's clock when it began."""
        with suppress(KeyError, TypeError, ValueError):
            # Has fractions of a second, and is not set back when summer time ends.
            return float(self.begun["clock"])
        began = self.began or self.ended
        return began.timestamp() if began else _OLDEST

    @property
    def slurm_start(self) -> datetime | None:
        """When SLURM started its job, by SLURM's clock; None if the job did not ask."""
        start = allocation_of(self.begun)
        return start.started if start.start_known_to_slurm else None

    @property
    def was_cancelled(self) -> bool:
        """Whether someone cancelled it; not if it ran out of time or memory, or its node failed."""
        if self.slurm_state:
            return self.slurm_state == "CANCELLED"
        return self.own_error is not None and self.own_error.startswith(_CUT)

    @property
    def was_submitted(self) -> bool:
        """Whether there was a job; not if SLURM refused it."""
        return self.slurm_state != NOT_SUBMITTED

    @property
    def may_run(self) -> bool:
        """Whether it may still be running elsewhere; a local job of this machine would hold its lock."""
        is_local = self.host == socket.gethostname() and not is_of_slurm(self.job_id)
        return not self.is_over and not is_local

    @property
    def what(self) -> str:
        """How it ended: `failed as job 17`."""
        if not self.was_submitted:
            return "was not submitted"
        if self.is_over:
            return f"{'was cancelled' if self.was_cancelled else 'failed'} as job {self.job_id}"
        on = f" on {self.host}" if self.host else ""
        or_runs = f" or is still running{on}," if self.may_run else ""
        return f"was interrupted{or_runs} as job {self.job_id}"

    @property
    def why(self) -> str:
        """How it ended, with the first line of the error: `failed as job 17: CUDA out of memory`."""
        error = self.own_error or self.slurm_error.removeprefix(f"SLURM job {self.job_id} ended as ")
        known = clipped((error or _in_words(self.slurm_state or "")).partition("\n")[0].strip(), _LONGEST)
        return f"{self.what}: {known}" if known else self.what

    def is_of(self, config: Config) -> bool:
        """Whether it had this configuration, or an unknown one; only the beginning of its hash may be known."""
        return not self.config_hash or config_hash(config).startswith(self.config_hash)


def read(
    folder: Path, run: str, job_id: str | None = None, accepted: Mapping[str, int] = MappingProxyType({})
) -> list[Attempt]:
    """Attempts at all targets of a run in the experiment `folder`, or only those of one job; oldest first.

    `accepted` numbers jobs in the order in which SLURM accepted them.
    """
    found = [_Files(path) for path in folders(folder / paths.attempts(run), job_id)]
    return in_order([_attempt(one, found) for one in found if one.known], accepted)


def of_job(folder: Path, submission_target: str, job_id: str) -> list[Attempt]:
    """Attempts of a job at a record, oldest first; ids come again, so another job of its run may have had this one."""
    run, name = paths.target_of(submission_target)
    # Older attempts do not say what they were at.
    return [one for one in read(folder, run, job_id) if one.target in (name, "")]


def in_order(attempts: list[Attempt], accepted: Mapping[str, int]) -> list[Attempt]:
    """Attempts, oldest first, also if the clocks of their nodes differ.

    Those of a job come in their order; those of a target's jobs are put into the order in which SLURM accepted them.
    """
    latest: dict[tuple[str, str], float] = {}
    places: list[tuple[float, int, int, int]] = []
    for index, one in sorted(enumerate(attempts), key=lambda item: accepted.get(item[1].job_id, 0)):
        number = accepted.get(one.job_id)
        others = (one.target, "" if number is not None else one.job_id)
        latest[others] = max(one.clock, latest.get(others, _OLDEST))
        places.append((latest[others], number or 0, number_of(one.folder), index))
    return [attempts[index] for *_, index in sorted(places)]


class History:
    """The attempts in an experiment `folder` by target; those of a run are read once.

    `accepted` numbers jobs in the order in which SLURM accepted them; it is called when that is first needed.
    """

    def __init__(self, folder: Path, accepted: Callable[[], Mapping[str, int]] = dict) -> None:
        self._folder = folder
        self._accepted = accepted
        self._by_run: dict[str, dict[str, list[Attempt]]] = {}

    def at(self, target: str) -> list[Attempt]:
        """Attempts at a record, oldest first."""
        run, name = paths.target_of(target)
        if run not in self._by_run:
            found: dict[str, list[Attempt]] = {}
            for attempt in read(self._folder, run, accepted=self._accepted()):
                found.setdefault(attempt.target, []).append(attempt)
            self._by_run[run] = found
        return self._by_run[run].get(name, [])

    def newest(self, target: str) -> Attempt | None:
        """The last attempt at a record; None if there is none."""
        return next(reversed(self.at(target)), None)


class _Files:
    """The JSON files in an attempt's folder; None if missing or incomplete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ended = read_record(folder / ENDED)
        self.begun = None if self.ended else read_record(folder / BEGUN)
        self.slurm = read_record(folder / SLURM) or {}

    @property
    def own(self) -> dict[str, Any]:
        """What the job itself wrote."""
        return self.ended or self.begun or {}

    @property
    def known(self) -> dict[str, Any]:
        """The file that identifies the attempt: SLURM's verdict if the job itself could write nothing."""
        return self.own or self.slurm

    @property
    def own_failure(self) -> Failure:
        if self.ended is None:
            return Failure.INTERRUPTED
        try:
            return Failure(str(self.ended.get("failure")))
        except ValueError:
            return Failure.ERROR


def _attempt(files: _Files, others: list[_Files]) -> Attempt:
    known, config = files.known, files.own.get("config")
    return Attempt(
        folder=files.folder,
        target=_text(known, "target"),
        job_id=_job_id(files),
        restarts=restarts if isinstance(restarts := files.own.get("restarts"), int) else 0,
        began=moment_of(known.get("started")),
        ended=moment_of((files.ended or files.slurm).get("ended")),
        config=config if isinstance(config, dict) else None,
        config_hash=_text(known, "config_hash"),
        host=_text(known, "host"),
        begun=files.own,
        failure=_failure(files, others),
        own_error=(_text(files.ended, "error") or "no error message") if files.ended else None,
        slurm_state=_text(files.slurm, "state") or None,
        slurm_error=_text(files.slurm, "error"),
    )


def _job_id(files: _Files) -> str:
    if _text(files.slurm, "state") == NOT_SUBMITTED:
        return ""
    return _text(files.known, "job_id") or files.folder.name.partition(".")[0]


def _failure(files: _Files, others: list[_Files]) -> Failure:
    by_state = _BY_STATE.get(_text(files.slurm, "state"))
    # SLURM's verdict is on the whole job: if an earlier attempt ran out of memory, the last one may have another cause.
    if by_state is Failure.OUT_OF_MEMORY and files.ended and _another_ran_out_of_memory(files, others):
        return files.own_failure
    return by_state or files.own_failure


def _another_ran_out_of_memory(files: _Files, others: list[_Files]) -> bool:
    """Whether another attempt of the same job says that it ran out of memory."""
    job_id, target = files.folder.name.partition(".")[0], _text(files.known, "target")
    return any(
        other is not files
        and other.folder.name.partition(".")[0] == job_id
        and _text(other.known, "target") == target
        and other.own_failure is Failure.OUT_OF_MEMORY
        for other in others
    )


def _in_words(slurm_state: str) -> str:
    """A state of which SLURM said nothing more, with what it means."""
    means = meaning(slurm_state, "")
    return f"{slurm_state} ({means})" if means else slurm_state


def _text(record: Mapping[str, Any], name: str) -> str:
    """A text of a record, which others may have written."""
    value = record.get(name)
    return "" if value is None else harmless(str(value))
