"""Why a step of the main process failed when it was last tried: its log ends with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.json_files import Config, failed_at
from run_experiment.finetuning.model_check import FAILED
from run_experiment.machine.processes import last_lines


@dataclass(frozen=True)
class FailedStep:
    """The error of a step, in a line, and the log that it is from (relative to the experiment)."""

    error: str
    log: str


def failed_check(folder: Path, name: str) -> FailedStep | None:
    """Why a model failed its check; None if it did not. Its name stands for all that it depends on."""
    return _failed(folder, paths.model_check_log(name), FAILED)


def failed_cache(folder: Path, data_set: str, config: Config) -> FailedStep | None:
    """The exception by which a task did not load its data set; None if there was none at this configuration."""
    return _failed(folder, paths.cache_log(data_set), failed_at(config))


def failed_verification(folder: Path, run: str, checkpoint: str, config: Config) -> FailedStep | None:
    """Why a checkpoint failed verification; None if it did not, or was of another training."""
    return _failed(folder, paths.verification_log(run, checkpoint), failed_at(config))


def _failed(folder: Path, log: str, begins: str) -> FailedStep | None:
    """The error in the last line of a log, if that is of a failure and begins so."""
    said = [line.removeprefix(begins) for line in last_lines(folder / log, 1) if line.startswith(begins)]
    return FailedStep(said[0], log) if said else None
