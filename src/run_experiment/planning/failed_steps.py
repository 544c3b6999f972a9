"""Why a step of the main process failed when it was last tried: its log ends with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.clock import CLOCK_SKEW
from run_experiment.common.json_files import Config
from run_experiment.evaluation.dataset_cache import failed_at
from run_experiment.finetuning.model_check import FAILED
from run_experiment.machine.processes import last_lines


@dataclass(frozen=True)
class FailedStep:
    """The error of a step, in a line, and the log that it is from (relative to the experiment)."""

    error: str
    log: str


def failed_check(folder: Path, name: str) -> FailedStep | None:
    """Why a model failed its check; None if it did not. Its name stands for all that it depends on."""
    log = paths.model_check_log(name)
    said = [line.removeprefix(FAILED) for line in last_lines(folder / log, 1) if line.startswith(FAILED)]
    return FailedStep(said[0], log) if said else None


def failed_cache(folder: Path, data_set: str, config: Config) -> FailedStep | None:
    """The exception by which a task did not load its data set; None if there was none at this configuration."""
    log, begins = paths.cache_log(data_set), failed_at(config)
    said = [line.removeprefix(begins) for line in last_lines(folder / log, 1) if line.startswith(begins)]
    return FailedStep(said[0], log) if said else None


def failed_verification(folder: Path, run: str, checkpoint: str, since: datetime | None) -> FailedStep | None:
    """Why a checkpoint failed verification; None if it did not since its training ended."""
    log = paths.verification_log(run, checkpoint)
    try:
        written = datetime.fromtimestamp((folder / log).stat().st_mtime).astimezone()
    except OSError:
        return None
    said = last_lines(folder / log, 1)
    return FailedStep(said[0], log) if said and (since is None or written >= since - CLOCK_SKEW) else None
