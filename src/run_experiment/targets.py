"""Targets: the things to make, and whether each is fresh, stale or missing."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from run_experiment.determinants import Config


class State(enum.Enum):
    """Whether a target has to be made."""

    FRESH = "fresh"
    MISSING = "missing"
    STALE = "stale"


@dataclass(frozen=True)
class Target:
    """One thing to make: the path that stands for it, whether and why, and what it needs first.

    `config` is what determines it, as far as that is known before what it needs is made. `optional` targets are made
    only for others. `redo` is the time (ISO) since when what was made of it counts; empty where anything does.
    """

    path: str
    state: State
    reason: str
    config: Config
    needs: tuple[str, ...] = ()
    optional: bool = False
    redo: str = ""

    @property
    def wanted(self) -> bool:
        """Whether it has to be made."""
        return self.state is not State.FRESH

    @property
    def marker(self) -> str:
        """File that Snakemake sees newer than a stale target: times of the user's own files prove nothing."""
        return f".snakemake/stale/{self.path}"

    @property
    def inputs(self) -> list[str]:
        """What the target depends on in Snakemake's eyes: where it is fresh nothing, but for the results."""
        return [*self.needs, *([self.marker] if self.state is State.STALE else [])]
