"""Further options of sbatch in `slurm_overrides`: those that no job may have, and misspelt requests.

Whether SLURM takes the others is asked before a job is submitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from run_experiment.common.suggestions import closest
from run_experiment.experiment.compute import Compute
from run_experiment.jobscripts.sbatch_lines import LEFT_OUT, Option, refusal
from run_experiment.summary.checks.types import MISSPELT
from run_experiment.summary.draft import Draft, Finding

_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9-]*", re.ASCII)


def check_slurm_options(draft: Draft) -> Iterator[Finding]:
    """What is wrong with the options of runs."""
    for path, run in draft.runs.items():
        for key in (run.slurm_overrides and run.slurm_overrides.model_extra) or {}:
            if why := _why_not(key):
                yield Finding((*path, "slurm_overrides", key), why)


def _why_not(key: str) -> str:
    name = key.replace("_", "-")
    if not _OPTION.fullmatch(name):
        return "is no option of sbatch; write its name in letters, as in mail-type"
    if name in LEFT_OUT:
        return "is set when the job is submitted; leave it out"
    if why := refusal(Option(name, "", "", 0)):
        return why
    match = closest(key, Compute.model_fields, MISSPELT)
    # `gpus_per_node` is another option than `gpus`.
    is_misspelt = match is not None and abs(len(match) - len(key)) <= 1
    return f"unknown key; did you mean {match}?" if is_misspelt else ""
