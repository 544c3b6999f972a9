"""Why a target was not made, by what its attempts left: the folder of a run is read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment.attempts.files import BEGUN, ENDED, SLURM, number_of
from run_experiment.common import paths
from run_experiment.common.clock import moment_of
from run_experiment.common.json_files import read_record

_OLDEST = float("-inf")


@dataclass(frozen=True)
class Left:
    """What is left of an attempt. `folder` is relative to the experiment.

    `error` is why it failed, None of one that could not say; `slurm_state` is SLURM's verdict, None without one, and
    `slurm_error` the same in words. `moment` is when it ended, or, where that was not noted, when it began; `began`
    likewise. Texts are empty where they are not known.
    """

    folder: str
    target: str
    job_id: str
    began: datetime | None
    moment: datetime | None
    error: str | None
    slurm_state: str | None
    slurm_error: str
    config_hash: str
    host: str

    @property
    def is_over(self) -> bool:
        """Whether its end was noted, by itself or by who followed it."""
        return self.error is not None or self.slurm_state is not None

    @property
    def place(self) -> tuple[float, int]:
        """Where it stands among the attempts at its target: later ones are greater."""
        return self.began.timestamp() if self.began else _OLDEST, number_of(Path(self.folder))

    @property
    def what(self) -> str:
        """That it failed, or was cut off: from here that looks like one that is at work."""
        return f"failed as job {self.job_id}" if self._why else f"cut off, or still at work, as job {self.job_id}"

    @property
    def text(self) -> str:
        """The same with the first line of why."""
        return f"{self.what}: {self._why.partition(chr(10))[0]}" if self._why else self.what

    @property
    def _why(self) -> str:
        """What it said itself; else who followed a job that was killed may know."""
        return self.error or self.slurm_error


class LeftAttempts:
    """The attempts in the experiment `folder`, by target, oldest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_run: dict[str, dict[str, list[Left]]] = {}

    def at(self, target: str) -> list[Left]:
        """Attempts at the target of a record."""
        run, name = paths.target_of(target)
        if run not in self._by_run:
            self._by_run[run] = self._read(run)
        return self._by_run[run].get(name, [])

    def newest(self, target: str) -> Left | None:
        """The last attempt at the target of a record; None where there is none."""
        return next(reversed(self.at(target)), None)

    def _read(self, run: str) -> dict[str, list[Left]]:
        found: dict[str, list[Left]] = {}
        for folder in (self._folder / paths.attempts(run)).glob("*/"):
            if not folder.suffix.startswith(".artifacts") and (left := self._left(folder)):
                found.setdefault(left.target, []).append(left)
        return {target: sorted(lefts, key=lambda left: left.place) for target, lefts in found.items()}

    def _left(self, folder: Path) -> Left | None:
        ended, slurm = read_record(folder / ENDED), read_record(folder / SLURM)
        # A job whose node failed at its start could write nothing.
        known = ended or read_record(folder / BEGUN) or slurm
        if not known:
            return None
        moment = moment_of((ended or slurm or known).get("ended")) or moment_of(known.get("started"))
        return Left(
            folder=str(folder.relative_to(self._folder)),
            target=str(known.get("target")),
            job_id=_text(known, "job_id") or folder.name,
            began=moment_of(known.get("started")) or moment,
            moment=moment,
            error=(_text(ended, "error") or "it does not say why") if ended else None,
            slurm_state=_text(slurm, "state") or None,
            slurm_error=_text(slurm, "error"),
            config_hash=_text(known, "config_hash"),
            host=_text(known, "host"),
        )


def _text(record: Mapping[str, Any] | None, name: str) -> str:
    return str(record[name]) if record and record.get(name) else ""
