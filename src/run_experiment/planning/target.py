"""Targets: the things to make, and whether each is fresh, stale or missing."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from run_experiment.attempts.history import Attempt
from run_experiment.common.json_files import write_atomically
from run_experiment.inputs.configuration import Config


class State(enum.Enum):
    """Whether a target has to be made."""

    FRESH = "fresh"
    MISSING = "missing"
    STALE = "stale"


class Kind(enum.StrEnum):
    """What a target is."""

    TRAINING = "training"
    VERIFICATION = "verification"
    CACHE = "cache"
    EVALUATION = "evaluation"
    RESULTS = "results"


@dataclass(frozen=True)
class Target:
    """One thing to make: the path that stands for it, whether and why, and what it needs first.

    `why` is the one reason that `-n`, status, the results page and the action log give. `config` is what determines it,
    as far as that is known before what it needs is made. `attempt` is the last attempt at this configuration, if
    nothing was made after it. `own_script`: the user's own job script makes it, or another tool's. `optional` targets
    are made only for others. `redo` is the time (ISO) since when what was made of it counts; empty if anything does.
    """

    kind: Kind
    path: str
    state: State
    why: str
    config: Config
    needs: tuple[str, ...] = ()
    attempt: Attempt | None = None
    own_script: bool = False
    optional: bool = False
    redo: str = ""

    @property
    def wanted(self) -> bool:
        """Whether it has to be made."""
        return self.state is not State.FRESH

    @property
    def was_tried(self) -> bool:
        """Whether there is, or was tried to be, something of it."""
        return self.state is State.STALE or self.attempt is not None

    @property
    def marker(self) -> str:
        """File that Snakemake sees newer than a stale target: times of the user's own files prove nothing."""
        return f".snakemake/stale/{self.path}"

    @property
    def inputs(self) -> list[str]:
        """What the target depends on in Snakemake's eyes: if it is fresh nothing, but for the results."""
        return [*self.needs, *([self.marker] if self.state is State.STALE else [])]


def mark_stale(folder: Path, targets: Iterable[Target]) -> None:
    """Write the marker of each stale target in the experiment `folder`. Its text names the result by when its file
    came, so that no two stale results share it: Snakemake takes an input of known content for unchanged.
    """
    for target in targets:
        if target.state is State.STALE:
            marker, made = folder / target.marker, folder / target.path
            try:
                stat = made.stat()
            # There is none, or a live job has just removed it.
            except FileNotFoundError:
                stat = None
            # The change time: a file that was put back may have the modification time that it had.
            write_atomically(marker, f"{target.path}: {target.why}\n{stat and stat.st_ctime_ns}\n")
            if stat:
                newer = max(time.time(), stat.st_mtime + 1)
                os.utime(marker, (newer, newer))
