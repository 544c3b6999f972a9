"""Targets: files to make, each with its state: fresh, stale or missing."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from run_experiment.attempts.history import Attempt
from run_experiment.common.json_files import write_atomically
from run_experiment.inputs.configuration import Config
from run_experiment.planning.failed_steps import FailedStep

# Why a target is wanted that `redo=` named.
REDONE = "asked for (redo)"
# Why a verification is wanted that has nothing to verify.
NO_CHECKPOINT = "the checkpoint does not exist"


class State(enum.Enum):
    """Whether a target has to be made."""

    FRESH = "fresh"
    MISSING = "missing"
    STALE = "stale"


class Kind(enum.StrEnum):
    """The kind of a target."""

    TRAINING = "training"
    EPOCH = "epoch"
    VERIFICATION = "verification"
    CACHE = "cache"
    CHECK = "check"
    EVALUATION = "evaluation"
    RESULTS = "results"


@dataclass(frozen=True)
class Target:
    """A target: the path that identifies it, its state with the reason, and the targets that it needs.

    `why` is the one reason that `-n`, status, the results page and the action log give. `config` is the configuration,
    as far as it is known before the needed targets are made. `attempt` is the last attempt at this configuration, None
    if the target was made afterwards. `own_script` is true if a script of the user's or of another tool makes it;
    `edited` if its job script or a config of that is not as it was rendered; `restored` if an earlier result only has
    to be put in its place. `failed` is the step that stopped it when it was last tried: itself, or one that it needs.
    `optional` targets are made only if others need them. `redone` is true if it is wanted because `redo=` named it, now
    or in an earlier session.
    """

    kind: Kind
    path: str
    state: State
    why: str
    config: Config
    needs: tuple[str, ...] = ()
    attempt: Attempt | None = None
    failed: FailedStep | None = None
    own_script: bool = False
    edited: bool = False
    restored: bool = False
    optional: bool = False
    redone: bool = False

    @property
    def wanted(self) -> bool:
        """Whether it has to be made."""
        return self.state is not State.FRESH

    @property
    def was_tried(self) -> bool:
        """Whether it was made or attempted before."""
        return self.state is State.STALE or self.attempt is not None or self.redone

    @property
    def marker(self) -> str:
        """File that Snakemake finds newer than a stale target; times of the user's own files prove nothing."""
        return f".snakemake/stale/{self.path}"

    @property
    def inputs(self) -> list[str]:
        """Inputs of the target as Snakemake sees them; a fresh one has none, except the results."""
        return [*self.needs, *([self.marker] if self.state is State.STALE else [])]


def after_training(training: Target) -> str:
    """Why targets that need this training are not made yet."""
    if training.failed:
        return training.why
    if training.attempt:
        return f"its training {training.attempt.what}"
    again = training.state is State.STALE or training.redone
    return f"its run is trained again: {training.why}" if again else "its run is not trained yet"


def after_verification(manifest: Target) -> str:
    """Why an evaluation that needs this verified checkpoint is not made yet."""
    if manifest.failed:
        return f"its checkpoint failed verification: {manifest.failed.error}"
    if manifest.why == NO_CHECKPOINT:
        return "its checkpoint is missing"
    if manifest.state is State.STALE:
        return f"its checkpoint is verified again: {manifest.why}"
    return "its checkpoint is not verified yet"


def mark_stale(folder: Path, targets: Iterable[Target]) -> None:
    """Write the marker of each stale target in the experiment `folder`.

    Its text contains the change time of the target's file, so that it differs for every stale result: Snakemake
    considers an input with known content unchanged.
    """
    for target in targets:
        if target.state is State.STALE:
            marker, made = folder / target.marker, folder / target.path
            try:
                stat = made.stat()
            # The target is missing, or a running job has just removed it.
            except FileNotFoundError:
                stat = None
            # The change time: a file restored from a copy may have kept its modification time.
            write_atomically(marker, f"{target.path}: {target.why}\n{stat and stat.st_ctime_ns}\n")
            if stat and marker.stat().st_mtime <= stat.st_mtime:
                # The clock of another node is ahead, or the file system knows only seconds. Never later than it must
                # be: a record that is restored at once has to be newer than its marker.
                newer = stat.st_mtime + 1
                os.utime(marker, (newer, newer))
