"""Checks of losses: finite, falling, flat, still falling at the end, rising or far apart on validation data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from run_experiment.report.values import check_row

# A loss that fell by a smaller part of itself has not moved.
_FLAT = 0.01
# A loss that fell by more of itself in the last epoch, or in the last quarter of the steps, is still falling.
_STILL_FALLING = 0.02
# A validation loss this many times the train loss is far from it.
_FAR_APART = 1.5
# Points by which it is judged whether a train loss is still falling: with fewer, noise decides.
_ENOUGH = 20

Curve = Mapping[str, Any]
Row = dict[str, str]


def loss_checks(curves: Sequence[Curve]) -> Iterator[Row]:
    """Rows on the losses of each training, and one on all that fell."""
    fell = [curve for curve in curves if _fell(curve)]
    for curve in curves:
        yield from _of_training(curve)
    if fell:
        yield check_row("trainings", "train loss", f"fell in {len(fell)} of {len(curves)}")


def _of_training(curve: Curve) -> Iterator[Row]:
    run, train, validation = curve["run"], _train(curve), _validation(curve)
    if None in train or None in validation:
        yield check_row(run, "loss", "not a finite number", "diverged: try a lower learning rate")
        return
    if len(train) > 1:
        yield from _train_loss(run, train, bool(validation))
    rows = list(_validation_loss(run, validation)) if len(validation) > 1 else []
    yield from rows
    if not rows and train and validation and validation[-1] > _FAR_APART * _ends(train)[1] > 0:
        found = f"train {_ends(train)[1]:.4f}, validation {validation[-1]:.4f} at the end"
        yield check_row(run, "train and validation loss", found, "far apart: it may have learned its data by heart")


def _train_loss(run: str, train: Sequence[float], validated: bool) -> Iterator[Row]:
    first, last = _ends(train)
    found = f"{first:.4f} at the start, {last:.4f} at the end"
    if last >= first:
        yield check_row(run, "train loss", found, "did not fall: look at the learning rate and the data")
    elif first - last < _FLAT * first:
        yield check_row(run, "train loss", found, "hardly moved: try a higher learning rate or more steps")
    elif not validated and len(train) >= _ENOUGH:
        quarter = len(train) // 4
        before, after = fmean(train[-2 * quarter : -quarter]), fmean(train[-quarter:])
        if before - after > _STILL_FALLING * before:
            found = f"{before:.4f} in the third quarter of the steps, {after:.4f} in the last"
            yield check_row(run, "train loss", found, "still falling: more epochs may help")


def _validation_loss(run: str, losses: Sequence[float]) -> Iterator[Row]:
    lowest, last = min(losses), losses[-1]
    if last - lowest > _FLAT * lowest:
        found = f"lowest after epoch {losses.index(lowest)} ({lowest:.4f}), {last:.4f} at the end"
        yield check_row(run, "validation loss", found, "rises: an earlier epoch may be better")
    elif last == lowest and losses[-2] - last > _STILL_FALLING * losses[-2]:
        found = f"{losses[-2]:.4f} before the last epoch, {last:.4f} after it"
        yield check_row(run, "validation loss", found, "still falling: more epochs may help")


def _fell(curve: Curve) -> bool:
    train = _train(curve)
    return len(train) > 1 and None not in train and _ends(train)[1] < _ends(train)[0]


def _train(curve: Curve) -> list[Any]:
    return [loss for _, loss in curve["train"]]


def _validation(curve: Curve) -> list[Any]:
    return [loss for *_, loss in curve["validation"]]


def _ends(losses: Sequence[float]) -> tuple[float, float]:
    """Means over the first and the last tenth, since the loss of a step is noisy."""
    some = max(1, len(losses) // 10)
    return fmean(losses[:some]), fmean(losses[-some:])
