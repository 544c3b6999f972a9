"""The training curve: written by the recipe step by step, read for the results."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, TextIO

from run_experiment.common.json_files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

METRICS_FILE = "metrics.csv"
COLUMNS = (
    "epoch",
    "step",
    "loss",
    "lr",
    "tokens_per_second",
    "grad_norm",
    "peak_memory_gib",
    "validation_loss",
)
# torchtune's names of what we keep.
_RENAMED = {"tokens_per_second_per_gpu": "tokens_per_second", "peak_memory_active": "peak_memory_gib"}

# If one of these is not a finite number, nothing that is computed after it can be of use.
_MUST_BE_FINITE = {"loss": "loss", "validation_loss": "validation loss", "grad_norm": "gradient norm"}
# Of a training's pace: bytes read, steps that count, and those at its beginning that do not.
_END, _LAST, _FIRST = 16_384, 50, 5
_CHECK_BASE = "check the base model's weights and dtype"
_CHANGE_STEPS = "lower lr, warm up longer or set clip_grad_norm"

log = logging.getLogger(__name__)


class DivergedError(Exception):
    """A training diverged: `what` (a loss, say) became `value`, NaN or infinite, in a step (from 1) of an epoch."""

    def __init__(self, what: str, value: float, epoch: int, step: int) -> None:
        super().__init__(f"the {what} is {_number(value)} at step {step} (epoch {epoch})")
        self.what, self.value, self.epoch, self.step = what, value, epoch, step

    def explained(self, steps: int) -> str:
        """The message for the user, with the number of steps that were planned and what to change."""
        where = f"at step {self.step} of {steps} (epoch {self.epoch})"
        # The first loss is that of the base model: nothing has been learned yet.
        is_base = self.step == 1 and self.what == "loss"
        advice = _CHECK_BASE if is_base else _CHANGE_STEPS
        return f"the training diverged: the {self.what} is {_number(self.value)} {where}: {advice}"


class MetricsLogger:
    """Metric logger for torchtune: one row a step, flushed at once; also to W&B (offline) where there is a project.

    Columns: `epoch` (from 0), `step` (from 1), `loss` (mean of the step's tokens), `lr` (after the step),
    `tokens_per_second`, `grad_norm`, `peak_memory_gib`, `validation_loss` (in rows of its own).
    """

    def __init__(self, output_dir: str, wandb_project: str | Sequence[str] | None = None) -> None:
        self._folder = Path(output_dir)
        self._project = "".join(wandb_project or "")
        self._epoch = 0
        self._file: TextIO | None = None
        self._wandb_run: Any = None

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Begin the W&B run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._project:
            self._wandb_run = _start_wandb(self._project, self._folder)

    def begin_epoch(self, epoch: int, step: int | None = None) -> None:
        """Say which epoch (from 0) the rows that follow belong to.

        The first time, it begins the file: with the rows of the epochs before, which an earlier training left, and
        those of this epoch up to a `step`.
        """
        self._epoch = epoch
        if self._file is None:
            path = self._folder / METRICS_FILE
            write_atomically(path, _text_before(path, epoch, step))
            # Line buffering flushes every row.
            self._file = path.open("a", newline="", encoding="utf-8", buffering=1)
            self._writer = csv.DictWriter(self._file, COLUMNS)

    def sync(self) -> None:
        """Have the rows on disk for good."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def log_dict(self, payload: Mapping[str, Any], step: int) -> None:
        """Write a row of scalars (numbers or one-element tensors).

        Raises DivergedError, with the row written, for a loss or gradient norm that is not a finite number.
        """
        values = {_RENAMED.get(name, name): float(value) for name, value in payload.items()}
        known = {name: value for name, value in values.items() if name in COLUMNS}
        self._write(known, step)
        for name, what in _MUST_BE_FINITE.items():
            if not math.isfinite(value := known.get(name, 0.0)):
                raise DivergedError(what, value, self._epoch, step)

    def _write(self, row: dict[str, float], step: int) -> None:
        self._writer.writerow({"epoch": self._epoch, "step": step} | row)
        if self._wandb_run is not None:
            self._wandb_run.log({"epoch": self._epoch} | row, step=step)

    def log(self, name: str, data: Any, step: int) -> None:
        """Write a row of one scalar."""
        self.log_dict({name: data}, step)

    def close(self) -> None:
        """End the file and the W&B run."""
        if self._file is not None:
            self._file.close()
        if self._wandb_run is not None:
            self._wandb_run.finish()


def _text_before(path: Path, epoch: int, step: int | None) -> str:
    """A `metrics.csv` with the rows of the epochs before one, and of that one up to a step; else only the header."""
    header = ",".join(COLUMNS) + "\r\n"
    try:
        lines = path.read_bytes().decode().splitlines(keepends=True)
    except (OSError, ValueError):
        return header
    whole = [line for line in lines if line.endswith("\n")]
    if whole[:1] != [header]:
        return header
    return header + "".join(line for line in whole[1:] if _is_before(line, epoch, step))


def _is_before(row: str, epoch: int, step: int | None) -> bool:
    place = tuple(int(value) for value in row.split(",")[:2] if value.isdecimal())
    return len(place) == 2 and (place[0] < epoch or (step is not None and place <= (epoch, step)))


def _start_wandb(project: str, folder: Path) -> Any:
    """An offline W&B run; None, said once, where wandb cannot be used: it must not cost the training."""
    try:
        import wandb

        return wandb.init(project=project, dir=os.fspath(folder), mode="offline")
    except Exception as error:
        log.warning("No Weights & Biases log of this training: %s", error)
        return None


def read_metrics(path: Path) -> pd.DataFrame:
    """Read a `metrics.csv`; a torn last line (a killed training) is left out."""
    # Here, since a training's job holds its GPU while it imports.
    import pandas as pd

    frame = pd.DataFrame(_rows(path), columns=list(COLUMNS)).replace("", None).astype(float)
    return frame.astype({"epoch": int, "step": int})


@dataclass(frozen=True)
class Pace:
    """How far a training is: its last step (from 1), the loss there, and tokens/s, the median of the last steps.

    As torchtune counts them, tokens are those that the loss is of. `tokens_per_second` is None before the first steps
    are over, which take longer.
    """

    step: int
    loss: float
    tokens_per_second: float | None = None


def read_pace(path: Path) -> Pace | None:
    """How far a training is, by the end of its `metrics.csv`, of whatever size; None before its first step."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _END))
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = [dict(zip(COLUMNS, line.split(","), strict=True)) for line in lines if line.count(",") == len(COLUMNS) - 1]
    try:
        steps = [(int(row["step"]), row) for row in rows if row["step"].isdecimal() and row["loss"]]
        speeds = [float(row["tokens_per_second"]) for step, row in steps[-_LAST:] if step > _FIRST]
        return Pace(steps[-1][0], float(steps[-1][1]["loss"]), median(speeds) if speeds else None) if steps else None
    # Written by another trainer.
    except ValueError:
        return None


@dataclass(frozen=True)
class Losses:
    """The losses of a training: (step, loss) of its steps, (epoch, step, loss) of its validations; NaN included."""

    train: list[tuple[int, float]]
    validation: list[tuple[int, int, float]]


def read_losses(path: Path) -> Losses:
    """Losses in a `metrics.csv`, read without pandas, which takes seconds for hundreds of files.

    Raises OSError, and ValueError if the file is of another form.
    """
    train, validation = [], []
    for row in _rows(path):
        epoch, step = (int(float(row.get(name) or "")) for name in ("epoch", "step"))
        if loss := row.get("loss"):
            train.append((step, float(loss)))
        if loss := row.get("validation_loss"):
            validation.append((epoch, step, float(loss)))
    return Losses(train, validation)


def final_losses(path: Path) -> dict[str, float | None]:
    """`train_loss`, the last epoch's mean, and `validation_loss`, the last; None if there is none.

    NaN if one of the values is NaN: a mean never leaves steps out. Raises OSError, and ValueError if the file is of
    another form.
    """
    rows = _rows(path)
    train, validation = _values(rows, "loss"), _values(rows, "validation_loss")
    last_epoch = max((epoch for epoch, _ in train), default=0)
    return {
        "train_loss": fmean(loss for epoch, loss in train if epoch == last_epoch) if train else None,
        "validation_loss": validation[-1][1] if validation else None,
    }


def _values(rows: list[dict[str, str]], column: str) -> list[tuple[float, float]]:
    """Epoch and value of the rows that have one in a column, NaN included. Raises ValueError."""
    found = [(float(row.get("epoch") or ""), row.get(column)) for row in rows]
    return [(epoch, float(value)) for epoch, value in found if value]


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite"


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a `metrics.csv`, without a torn last line."""
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
