"""Whether a job of several targets has begun with one, or is not to: the first who says so wins.

A job makes its targets one after the other. A target that is outdated before its turn is withdrawn, so that the job
need not be cancelled with all that it has done for another one.
"""

from __future__ import annotations

import os
from pathlib import Path

from run_experiment.common import paths
from run_experiment.slurm.ledger import PATH as LEDGER
from run_experiment.slurm.ledger import Ledger

_BEGUN, _WITHDRAWN = "begun", "withdrawn"


def begin(folder: Path, job_id: str) -> bool:
    """Note that a job begins with a target; False if that was withdrawn. `job_id` is that for the target: `17+2`.

    Raises OSError.
    """
    return _agreed(folder, job_id, _BEGUN) == _BEGUN


def withdraw(folder: Path, job_id: str) -> bool:
    """Keep a job from beginning with a target; False if it has begun. Raises OSError."""
    return _agreed(folder, job_id, _WITHDRAWN) == _WITHDRAWN


def is_withdrawn(folder: Path, job_id: str) -> bool:
    """Whether a job is not to begin with a target."""
    try:
        return (folder / paths.TURNS / job_id).read_text() == _WITHDRAWN
    except OSError:
        return False


def is_given_up(folder: Path, submission_target: str, job_id: str) -> bool:
    """Whether the ledger says that a job is not to make a target any more, should the note of that have been removed.

    Raises OSError.
    """
    noted = Ledger(folder / LEDGER).read(submission_target)
    if submission := noted.open.get(submission_target):
        return submission.job_id not in (None, job_id)
    settled = noted.settled.get(submission_target)
    return settled is not None and (settled.job_id, settled.state) == (job_id, "CANCELLED")


def _agreed(folder: Path, job_id: str, word: str) -> str:
    """What was said first, by us or the other side."""
    place = folder / paths.TURNS / job_id
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{job_id}.{word}.{os.getpid()}")
    new.write_text(word)
    try:
        # Whole at once, and never over another: also on shared file systems.
        os.link(new, place)
    except FileExistsError:
        return place.read_text()
    finally:
        new.unlink()
    return word
