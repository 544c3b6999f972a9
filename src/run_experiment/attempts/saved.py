"""What a training has saved that another job can resume from, by which a later look tells what was saved since.

Times of files are compared, never put in order: the clocks of a node, a login node and a file server may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from run_experiment.common.files import stamps
from run_experiment.trainers.known import saved_states

# What was saved already when an attempt began, in its `begun.json`.
SAVED = "saved"


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
