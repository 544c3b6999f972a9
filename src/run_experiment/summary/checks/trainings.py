"""Trainings: keys that need another one; optimizer steps, too few of them, and rows that they leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from run_experiment.common.text import counted
from run_experiment.common.yaml_lines import KeyPath, shown
from run_experiment.experiment.hyperparameters import OF_ADAPTERS
from run_experiment.experiment.schema import ControlsSection, RunEntry
from run_experiment.summary.draft import Draft, Finding

_OF_ADAPTERS = (*OF_ADAPTERS, "custom_recipe", "save_adapter_weights_only")
_OF_FIRST_STEP = ("batch_size", "gradient_accumulation_steps")


def check_steps(draft: Draft, data: KeyPath, runs: Mapping[KeyPath, RunEntry], rows: int) -> Iterator[Finding]:
    """What is wrong, or odd, with the steps of runs whose file has `rows` rows; `data` names the file.

    How many packs a packed training makes of its rows, at the most one of each, only a tokenizer can say.
    """
    seen: set[KeyPath] = set()
    for path, run in runs.items():
        merged = draft.merged(run)
        used = min(rows, merged.training_samples or rows)
        found = _too_few(path, run, merged, data, used) or _odd(path, run, merged, used)
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
    own = [name for name in _OF_FIRST_STEP if name in run.parameters.model_fields_set]
    place = (*path, "parameters", own[0]) if own else data
    product = f"batch_size {batch} × gradient_accumulation_steps {steps} = {batch * steps}"
    found = f"split train has {counted(rows, 'row')}"
    if merged.training_samples == rows:
        place, found = Draft.place_of(path, run, "training_samples"), f"takes {counted(rows, 'row')}"
    return [Finding(place, f"{found}, fewer than one optimizer step takes ({product})")]


def _odd(path: KeyPath, run: RunEntry, merged: ControlsSection, rows: int) -> list[Finding]:
    if merged.packed:
        return []
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


def check_training_keys(draft: Draft, strict: bool) -> Iterator[Finding]:
    """What a key of a training lacks beside it."""
    yield from _packed(draft)
    yield from _of_adapters(draft)
    yield from _folder_of_data(draft, strict)


def _packed(draft: Draft) -> Iterator[Finding]:
    """A pack is as long as max_seq_len, which would otherwise be all that the model can take."""
    asked = {
        draft.place_of(path, run, "packed")
        for path, run in draft.runs.items()
        if run.type == "fine-tuned" and draft.merged(run).packed and draft.merged(run).max_seq_len is None
    }
    for place in sorted(asked, key=str):
        yield Finding(place, "needs max_seq_len beside it: the tokens of a pack, such as 2048")


def _of_adapters(draft: Draft) -> Iterator[Finding]:
    """Keys of adapters, written for runs that train the whole model, or for all runs where each of them does."""
    trained = {path: run for path, run in draft.runs.items() if run.type == "fine-tuned"}
    whole = {path: run for path, run in trained.items() if draft.merged(run).full_finetuning}
    places = [(*path, "parameters", key) for path, run in whole.items() for key in _given(run.parameters)]
    if whole.keys() == trained.keys():
        places += [("controls", key) for key in _given(draft.controls)]
    for place in places if whole else ():
        yield Finding(place, "is of adapters, and full_finetuning: true trains the whole model; leave one of them out")


def _given(section: ControlsSection) -> list[str]:
    # `use_dora: false` asks for none.
    return [key for key in _OF_ADAPTERS if key in section.model_fields_set and getattr(section, key)]


def _folder_of_data(draft: Draft, strict: bool) -> Iterator[Finding]:
    """In other tools the data's folder has two parts; here its path is whole.

    A folder that such a tool made has it in its configs already.
    """
    for path, run in draft.runs.items():
        folder = draft.merged(run).input_formatting
        files = run.data or (draft.training.path if draft.training else [])
        other = next((file for file in files if folder and Path(folder).name != Path(file).parent.name), None)
        if other is not None:
            message = f"the data file {shown(other)} is not in a folder {shown(folder)}; write its whole path"
            yield Finding(draft.place_of(path, run, "input_formatting"), message, warning=not strict)
            return
