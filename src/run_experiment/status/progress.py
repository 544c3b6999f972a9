"""How far running jobs are, by what they write themselves: a training's steps, an evaluation's samples."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from run_experiment.actionlog.entry import duration_text
from run_experiment.common import paths
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


def training_progress(folder: Path, run: Run, size: TrainingSize | None, begun: Path) -> Progress | None:
    """How far the running training of a run is; None before the first step since its attempt wrote the file `begun`."""
    metrics = folder / (run.output_dir or f"{run.name}/artifacts") / METRICS_FILE
    pace = read_pace(metrics) if _seconds_since(begun, metrics) is not None else None
    if pace is None:
        return None
    total = size.epochs * size.steps if size and size.steps else None
    left = None
    if size and total and pace.tokens_per_second:
        left = max(0, total - pace.step) / size.steps * size.loss_tokens / pace.tokens_per_second
    return Progress(pace.step, total, "step", pace.loss, pace.tokens_per_second, left)


def evaluation_progress(folder: Path, run: str, cell: str, begun: Path) -> Progress | None:
    """How far a running evaluation is, by the log that it writes; None if there is none since it wrote `begun`."""
    logs = folder.glob(f"{paths.unfinished_eval(glob.escape(run), glob.escape(cell), _HASH)}/*.eval")
    ages = {log: seconds for log in logs if (seconds := _seconds_since(begun, log)) is not None}
    log = max(ages, key=ages.__getitem__, default=None)
    written = samples_written(log) if log else None
    if log is None or written is None:
        return None
    done, total = written
    # Those that an earlier attempt left took no time of this one, so that this may be too short.
    left = ages[log] / done * max(0, total - done) if total and done else None
    return Progress(done, total, "sample", seconds_left=left)


def _seconds_since(begun: Path, file: Path) -> float | None:
    """How long after the first file the other was written, by the clock of their file system.

    None if it was not: it is of the attempt before.
    """
    try:
        seconds = (file.stat().st_mtime_ns - begun.stat().st_mtime_ns) / 1e9
    except OSError:
        return None
    return seconds if seconds >= 0 else None
