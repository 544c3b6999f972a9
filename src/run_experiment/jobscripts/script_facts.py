"""What the text of a job script says to the job that runs it; the text is read once, when the job starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from run_experiment.evaluation.environment import EVAL_SET_FOLDER
from run_experiment.jobscripts.commands import log_folders
from run_experiment.jobscripts.edits import Existing, parse
from run_experiment.jobscripts.own_samples import sample_files, samples_itself


@dataclass(frozen=True)
class ScriptFacts:
    """What a script does. Of one that `is_rendered` the user may have edited parts.

    `may_activate` another Python than ours; `continues_logs` of earlier attempts with `inspect eval-set`;
    `gives_epoch` to its logs as metadata; `samples_itself` the GPUs, to `sample_files`; it names `log_folders`.
    """

    is_rendered: bool
    may_activate: bool
    continues_logs: bool
    gives_epoch: bool
    sets_max_connections: bool
    samples_itself: bool
    sample_files: tuple[Path, ...]
    log_folders: tuple[Path, ...]


def script_facts(script: Path, folder: Path, environment: Mapping[str, str] = os.environ) -> ScriptFacts:
    """Read a script that will run in `folder`. Raises OSError."""
    text = script.read_text(encoding="utf-8", errors="replace")
    existing = parse(text)
    is_rendered = existing.rendered is not None
    place = {**environment, "SLURM_SUBMIT_DIR": str(folder.absolute()), "PWD": str(folder.absolute())}
    return ScriptFacts(
        is_rendered=is_rendered,
        may_activate=_may_activate(existing),
        continues_logs=EVAL_SET_FOLDER in text,
        gives_epoch=not is_rendered and "epoch=" in text,
        sets_max_connections="--max-connections" in text,
        samples_itself=samples_itself(text),
        sample_files=tuple(sample_files(text, place)),
        log_folders=tuple(log_folders(text, place)),
    )


def _may_activate(script: Existing) -> bool:
    """Not if the commands are as rendered and the head activates no environment."""
    lines = [line.strip() for line in script.parts.head.splitlines()]
    return script.own_commands or any(line and not line.startswith("#") for line in lines)
