"""How far running jobs are, by what they write themselves: a training's steps, an evaluation's samples."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from run_experiment.actionlog.entry import duration_text
from run_experiment.common import paths
from run_experiment.common.clock import CLOCK_SKEW
from run_experiment.estimate.sizes import TrainingSize
from run_experiment.evaluation.log_file import samples_written
from run_experiment.experiment.model import Run
from run_experiment.finetuning.metrics import METRICS_FILE, read_pace

# What stands for all that determines an evaluation's result in the name of its unfinished log's folder.
_HASH = "[0-9a-f]" * 16


@dataclass(frozen=True)
class Progress:
    """How far a job is: steps of a training, samples of an evaluation, `done` of `total`; None for what is not known.

    `loss` is the last step's. `tokens_per_second` counts those that the loss is of, as torchtune does.
    """

    done: int
    total: int | None
    unit: str
    loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None

    @property
    def text(self) -> str:
        """It in words: `step 120 of 400, loss 1.234, 812 tokens/s, 6 minutes left`."""
        of = f" of {self.total}" if self.total else ""
        how_far = f"step {self.done}{of}" if self.unit == "step" else f"{self.done}{of} samples"
        return ", ".join(
            [
                how_far,
                *([f"loss {self.loss:.4g}"] if self.loss is not None else []),
                *([f"{self.tokens_per_second:,.0f} tokens/s"] if self.tokens_per_second else []),
                *([f"{duration_text(self.seconds_left)} left"] if self.seconds_left is not None else []),
            ]
        )


def training_progress(folder: Path, run: Run, size: TrainingSize | None, since: datetime | None) -> Progress | None:
    """How far the running training of a run is; None before the first step since it began."""
    metrics = folder / (run.output_dir or f"{run.name}/artifacts") / METRICS_FILE
    pace = read_pace(metrics) if _is_new(metrics, since) else None
    if pace is None:
        return None
    total = size.epochs * size.steps if size and size.steps else None
    left = None
    if size and total and pace.tokens_per_second:
        left = max(0, total - pace.step) / size.steps * size.loss_tokens / pace.tokens_per_second
    return Progress(pace.step, total, "step", pace.loss, pace.tokens_per_second, left)


def evaluation_progress(folder: Path, run: str, cell: str, since: datetime | None, now: datetime) -> Progress | None:
    """How far a running evaluation is, by the log that it is writing; None if there is none yet."""
    logs = folder.glob(f"{paths.unfinished_eval(glob.escape(run), glob.escape(cell), _HASH)}/*.eval")
    log = max((path for path in logs if _is_new(path, since)), key=_changed, default=None)
    written = samples_written(log) if log else None
    if log is None or written is None:
        return None
    done, total = written
    # Those that an earlier attempt left took no time of this one, so that this may be too short.
    seconds = (now - since).total_seconds() if since else None
    left = seconds / done * max(0, total - done) if seconds and total and done else None
    return Progress(done, total, "sample", seconds_left=left)


def _is_new(path: Path, since: datetime | None) -> bool:
    """Whether a file was written since a job began: an older one is of the attempt before."""
    changed = _changed(path)
    return changed > 0 and (since is None or changed >= (since - CLOCK_SKEW).timestamp())


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
