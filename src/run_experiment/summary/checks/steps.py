"""Optimizer steps of the trainings, which rows, batches and epochs decide: none, too few to warm up, rows left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from run_experiment.common.text import counted
from run_experiment.common.yaml_lines import KeyPath
from run_experiment.experiment.schema import ControlsSection, RunEntry
from run_experiment.summary.draft import Draft, Finding


def check_steps(draft: Draft, data: KeyPath, runs: Mapping[KeyPath, RunEntry], rows: int) -> Iterator[Finding]:
    """What is wrong, or odd, with the steps of runs that are trained on `rows` rows; `data` names their file."""
    seen: set[KeyPath] = set()
    for path, run in runs.items():
        merged = draft.merged(run)
        found = _too_few(path, run, merged, data, rows) or _odd(path, run, merged, rows)
        # What all runs share is said of the first.
        yield from (finding for finding in found if finding.path not in seen or not finding.warning)
        seen |= {finding.path for finding in found}


def steps_per_epoch(given: ControlsSection, rows: int) -> int:
    """Optimizer steps of an epoch: batches and accumulations that are not full are left out."""
    steps = rows // given.batch_size // given.gradient_accumulation_steps
    return min(steps, given.max_steps_per_epoch or steps)


def _too_few(path: KeyPath, run: RunEntry, merged: ControlsSection, data: KeyPath, rows: int) -> list[Finding]:
    """A run of which the train split does not fill one optimizer step: nothing would be trained."""
    batch, steps = merged.batch_size, merged.gradient_accumulation_steps
    if rows >= batch * steps:
        return []
    own = [name for name in ("batch_size", "gradient_accumulation_steps") if name in run.parameters.model_fields_set]
    place = (*path, "parameters", own[0]) if own else data
    product = f"batch_size {batch} × gradient_accumulation_steps {steps} = {batch * steps}"
    return [Finding(place, f"split train has {counted(rows, 'row')}, fewer than one optimizer step takes ({product})")]


def _odd(path: KeyPath, run: RunEntry, merged: ControlsSection, rows: int) -> list[Finding]:
    per_epoch = steps_per_epoch(merged, rows)
    total = per_epoch * merged.epochs
    found = []
    if merged.num_warmup_steps >= total:
        trained = f"{total} step{'s' * (total > 1)} ({per_epoch} an epoch)"
        message = f"the warm-up takes {merged.num_warmup_steps} steps, but run {run.name} trains {trained}"
        reached = f"its learning rate never reaches lr {merged.lr:g}"
        found.append(Finding(Draft.place_of(path, run, "num_warmup_steps"), f"{message}: {reached}", warning=True))
    used = per_epoch * merged.batch_size * merged.gradient_accumulation_steps
    if not merged.shuffle and used < rows:
        message = f"run {run.name} never trains on the last {rows - used} of {rows} rows: without shuffling, each epoch"
        reason = f"takes the same {used} rows (whole steps of batch_size × gradient_accumulation_steps)"
        found.append(Finding(Draft.place_of(path, run, "shuffle"), f"{message} {reason}", warning=True))
    return found
