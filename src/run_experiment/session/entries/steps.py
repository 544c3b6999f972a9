"""Entries of the steps between training and evaluation: checkpoints that are looked at, data sets that are cached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run_experiment.actionlog.entry import Action, Entry
from run_experiment.common.text import counted
from run_experiment.finetuning.model_check import CheckFacts, ModelCheck

_SKIPPED = "skipping evaluations"
TRAINING_FAILED = "Fine-tuning failed"


def checkpoint_missing(run: str, name: str, folder: Path, reason: str, trained: bool) -> Entry:
    """A checkpoint is absent, or does not load for the `reason` given; `trained`: it is of a training of ours."""
    result = "Checkpoint does not load" if folder.exists() else "Checkpoint not found"
    again = f"to train again, remove {run}/finetune.json and {folder.parent}, then start the same command"
    return Entry(
        Action.CHECKPOINT_MISSING,
        f"Expected path: {folder}",
        f"{result} - {_SKIPPED}",
        f"{run}/{name}",
        explanation=reason,
        recommendation=f"See logs/run_finetune/{run}.log; {again}" if trained else "Put a whole checkpoint there",
    )


def checkpoint_of_failed(run: str, name: str, folder: Path, why: str) -> Entry:
    """A checkpoint is not looked at, since the training that was to make it failed."""
    result = "Checkpoint of a training that failed" if folder.exists() else "Checkpoint not found"
    return Entry(
        Action.CHECKPOINT_MISSING,
        f"Expected path: {folder}",
        f"{result} - {_SKIPPED}",
        f"{run}/{name}",
        explanation=f"{TRAINING_FAILED}: {why}",
        recommendation="Fix the failure; the same command trains the run again",
    )


def model_checked(check: ModelCheck, facts: CheckFacts) -> Entry:
    """A model takes its prompts, and its training's rows if it is trained."""
    found = f"{facts.rows:,} rows; the longest has {facts.longest} tokens ({facts.longest_row})" if check.data else ""
    parts = ("passed", found, *unexpected(check, facts), f"{facts.seconds:.1f} s")
    result = "; ".join(part for part in parts if part)
    return Entry(Action.MODEL_CHECK, f"Checking {check.what}", result, check.model)


def model_refused(check: ModelCheck, failure: str) -> Entry:
    """A model cannot be trained or evaluated as asked."""
    return Entry(Action.MODEL_CHECK, f"Checking {check.what}", f"failed: {failure}", check.model)


def unexpected(check: ModelCheck, facts: CheckFacts) -> list[str]:
    """What happens unexpectedly to prompts and rows, such as a training that sees only a part of some answers."""
    rows = f"{facts.cut:,} of {facts.rows:,} rows {'is' if facts.cut == 1 else 'are'}"
    cut = f"{rows} longer than max_seq_len {check.max_seq_len}, so training sees only a part of the answer"
    return [*([cut] if facts.cut else []), *facts.odd]


def finetuning_verified(run: str, details: str, result: str) -> Entry:
    """How the training of a run ended, before its checkpoints are looked at."""
    return Entry(Action.VERIFY_FINETUNING, details, result, run)


def checkpoints_verified(run: str, names: Sequence[str], missing: Sequence[str]) -> Entry:
    """The last checkpoint of a run that was to be looked at was."""
    there = len(names) - len(missing)
    result = f"All {len(names)} checkpoints exist" if not missing else f"{there} of {len(names)} checkpoints exist"
    if len(names) == 1 and not missing:
        result = "The checkpoint exists"
    lacking = f"; missing or unusable: {', '.join(missing)}" if missing else ""
    return Entry(Action.VERIFY_CHECKPOINTS, f"Checking {', '.join(names)}", result + lacking, run)


def prebuild_started(count: int, cached: int) -> Entry:
    """The first data set is about to be cached, of so many; others were before."""
    return Entry(Action.CACHE_PREBUILD, f"Pre-building dataset caches ({_unique(count, cached)})", "started")


def prebuild_ended(count: int, cached: int, ready: int) -> Entry:
    """All data sets were seen to."""
    details = f"Pre-built dataset caches ({_unique(count, cached)})"
    return Entry(Action.CACHE_PREBUILD_COMPLETE, details, f"{ready} of {count} caches ready")


def cache_stale(name: str, job: Mapping[str, Any], reason: str, there: bool) -> Entry:
    """A data set's cache was of something else and is rebuilt; `there`: the new one already exists."""
    result = "to be replaced by one built earlier" if there else "to be rebuilt"
    return Entry(Action.STALE_CACHE, f"Cache of {_data(job)} is stale: {reason}", result, name)


def cache_built(
    name: str, job: Mapping[str, Any], samples: int, seconds: float, there: bool, odd: Sequence[str] = ()
) -> Entry:
    """A data set was cached, with so many samples; `there`: it was so before, then in so many seconds."""
    result = f"cached: {counted(samples, 'row')} in {seconds:.1f} s" + (", by an earlier session" if there else "")
    return Entry(Action.CACHE_BUILT, _data(job), "; ".join([result, *odd]), name)


def cache_failed(name: str, job: Mapping[str, Any], error: str, log: Path) -> Entry:
    """A data set could not be cached."""
    return Entry(Action.CACHE_BUILT, _data(job), f"failed: {error} (log: {log})", name)


def _data(job: Mapping[str, Any]) -> str:
    """Path and split of a data set."""
    data = job["config"].get("data") or {}
    split = f" (split {data['split']})" if data.get("split") else ""
    return f"{job['data']}{split}" if job["data"] else f"{job['script']} (no data file)"


def _unique(count: int, cached: int) -> str:
    before = f"; {cached} more cached before" if cached else ""
    return f"{counted(count, 'unique dataset')}{before}"
