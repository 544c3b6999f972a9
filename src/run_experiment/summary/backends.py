"""Evaluations with vLLM: adapters that it cannot serve, and options that have no effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from run_experiment.common.json_files import read_record
from run_experiment.common.paths import ADAPTER_CONFIG
from run_experiment.common.yaml_lines import KeyPath
from run_experiment.evaluation.vllm.ranks import LARGEST_RANK, adapter_rank
from run_experiment.experiment.schema import RunEntry
from run_experiment.summary.draft import Draft, Finding


def check_backends(draft: Draft, folder: Path) -> Iterator[Finding]:
    """What is wrong with evaluations by vLLM; checkpoints are relative to `folder`."""
    served = _served_runs(draft)
    if draft.evaluation.vllm_options and not served:
        message = "has an effect only with backend: vllm"
        yield Finding(("evaluation", "vllm_options"), message, warning=True)
    for path, run in draft.runs.items():
        if run.name in served:
            yield from _trained(draft, path, run) if run.type == "fine-tuned" else _given(path, run, folder)


def _served_runs(draft: Draft) -> set[str]:
    """Names of runs that have an evaluation by vLLM."""
    backends = {task.name: task.backend or draft.evaluation.backend for task in draft.tasks.values()}
    return {entry.run for entry in draft.matrix.values() if "vllm" in {backends.get(name) for name in entry.tasks}}


def _trained(draft: Draft, path: KeyPath, run: RunEntry) -> Iterator[Finding]:
    if draft.merged(run).full_finetuning:
        return
    if (rank := draft.merged(run).lora_rank) > LARGEST_RANK:
        message = f"vLLM serves adapters up to rank {LARGEST_RANK} (run {run.name}); evaluate it with backend: hf"
        yield Finding(draft.place_of(path, run, "lora_rank"), f"is {rank}, and {message}")
    if draft.merged(run).use_dora:
        message = f"vLLM cannot serve a DoRA adapter (run {run.name}); evaluate it with backend: hf"
        yield Finding(draft.place_of(path, run, "use_dora"), message)


def _given(path: KeyPath, run: RunEntry, folder: Path) -> Iterator[Finding]:
    """What vLLM cannot serve of the adapter of an eval-only run."""
    keys = [("checkpoint_path",)] if run.checkpoint_path else [("parameters", "checkpoint_path")]
    given = run.checkpoint_path or run.parameters.checkpoint_path
    config = read_record(folder / given / ADAPTER_CONFIG) if given else None
    if config is None:
        return
    rank = adapter_rank(config)
    if rank is not None and rank > LARGEST_RANK:
        message = f"vLLM serves adapters up to rank {LARGEST_RANK}, and this one is of rank {rank}; use backend: hf"
        yield Finding((*path, *keys[0]), message)
    elif config.get("use_dora") or config.get("modules_to_save"):
        what = "a DoRA adapter" if config.get("use_dora") else "an adapter with whole modules (`modules_to_save`)"
        yield Finding((*path, *keys[0]), f"vLLM cannot serve {what}; use backend: hf")
