"""What a training has saved that another job can resume from, by which a later look tells what was saved since.

Times of files are compared, never put in order: the clocks of a node, a login node and a file server may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from run_experiment.attempts.files import BEGUN
from run_experiment.attempts.history import Attempt
from run_experiment.common.files import stamps
from run_experiment.trainers.known import saved_states

# What was saved already when an attempt began, in its `begun.json`.
SAVED = "saved"


def seconds_gone_on_from(earlier: Sequence[Attempt], saved: Mapping[str, list[int]]) -> float:
    """Seconds of the `earlier` attempts, newest first, that saved something which is in `saved`, or led to it.

    Of one that was killed, those until what it saved last count.
    """
    seconds = 0.0
    for attempt in earlier:
        if not saved:
            break
        # What was there when it began; it may have ended before it looked.
        before = attempt.begun.get(SAVED)
        if not isinstance(before, Mapping):
            continue
        own = [stamp for path, stamp in saved.items() if before.get(path) != stamp]
        if own:
            seconds += _seconds_of(attempt, max(own))
        saved = before
    return seconds


def _seconds_of(attempt: Attempt, last: Sequence[int]) -> float:
    if isinstance(known := attempt.begun.get("seconds"), int | float):
        return known
    try:
        # Both of the clock of their file system.
        began = (attempt.folder / BEGUN).stat().st_mtime_ns
    except OSError:
        return 0.0
    return max(0.0, (last[0] - began) / 1e9)


def saved_files(folder: Path, output_dir: str | None, checkpoints: Sequence[str]) -> dict[str, list[int]]:
    """Stamps of a training's saved states by their paths; relative ones are of the experiment `folder`.

    Of another tool's training, without an `output_dir`, any file of its checkpoints counts.
    """
    places = [output_dir] if output_dir else checkpoints
    found: dict[str, list[int]] = {}
    for place in places:
        files = saved_states(folder / place) if output_dir else (folder / place).glob("*")
        stamped = stamps(files).items()
        found |= {f"{place}/{path.relative_to(folder / place)}": list(stamp) for path, stamp in stamped}
    return found
