"""What is left of the attempts at an experiment's targets, for who only looks: the folder of a run is read once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from run_experiment import layout
from run_experiment.attempts import BEGUN, ENDED, SLURM
from run_experiment.records import read_record
from run_experiment.status_sources import moment_of, written_at

# `17`, `17.2`, …: not `17.artifacts`.
_FOLDER = re.compile(r"(.+?)(?:\.(\d+))?")
_OLDEST = float("-inf")


@dataclass(frozen=True)
class Left:
    """What is left of an attempt. `folder` is relative to the experiment.

    `error` is why it failed, None of one that could not say; `slurm_state` is SLURM's verdict, None without one.
    `moment` is when it ended, or, where that was not noted, when it began; `began` likewise. Texts are empty where they
    are not known.
    """

    folder: str
    target: str
    job_id: str
    began: datetime | None
    moment: datetime | None
    error: str | None
    slurm_state: str | None
    config_hash: str
    host: str

    @property
    def is_over(self) -> bool:
        """Whether its end was noted, by itself or by who followed it."""
        return self.error is not None or self.slurm_state is not None

    @property
    def place(self) -> tuple[float, int]:
        """Where it stands among the attempts at its target: later ones are greater."""
        number = _FOLDER.fullmatch(Path(self.folder).name)
        return self.began.timestamp() if self.began else _OLDEST, int(number[2] or 1) if number else 1


class LeftAttempts:
    """The attempts in the experiment `folder`, by target, oldest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_run: dict[str, dict[str, list[Left]]] = {}

    def at(self, target: str) -> list[Left]:
        """Attempts at the target of a record."""
        run, name = layout.target_of(target)
        if run not in self._by_run:
            self._by_run[run] = self._read(run)
        return self._by_run[run].get(name, [])

    def _read(self, run: str) -> dict[str, list[Left]]:
        found: dict[str, list[Left]] = {}
        for folder in (self._folder / layout.attempts(run)).glob("*/"):
            if not folder.suffix.startswith(".artifacts") and (left := self._left(folder)):
                found.setdefault(left.target, []).append(left)
        return {target: sorted(lefts, key=lambda left: left.place) for target, lefts in found.items()}

    def _left(self, folder: Path) -> Left | None:
        ended, slurm = read_record(folder / ENDED), read_record(folder / SLURM)
        known = ended or read_record(folder / BEGUN) or slurm
        if not known:
            return None
        moment = _moment(folder, ended, known, slurm)
        return Left(
            folder=str(folder.relative_to(self._folder)),
            target=str(known.get("target")),
            job_id=_text(known, "job_id") or folder.name,
            began=moment_of(known.get("started")) or moment,
            moment=moment,
            error=(_text(ended, "error") or "it does not say why") if ended else None,
            slurm_state=_text(slurm, "state") or None,
            config_hash=_text(known, "config_hash"),
            host=_text(known, "host"),
        )


def _moment(
    folder: Path, ended: Mapping[str, Any] | None, known: Mapping[str, Any], slurm: Mapping[str, Any] | None
) -> datetime | None:
    if ended:
        return moment_of(ended.get("ended"))
    return written_at(folder / SLURM) if slurm else moment_of(known.get("started"))


def _text(record: Mapping[str, Any] | None, name: str) -> str:
    return str(record[name]) if record and record.get(name) else ""
