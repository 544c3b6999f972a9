"""Ranks of adapters as vLLM serves them, and what a job knows of the server of its evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from run_experiment.common.json_files import read_record
from run_experiment.common.paths import ADAPTER_CONFIG

# What `--max-lora-rank` may be.
_SERVED = (1, 8, 16, 32, 64, 128, 256, 320, 512)
LARGEST_RANK = _SERVED[-1]
# File beside the socket of a job: what the server of its evaluations is.
SERVER = "vllm.json"
# Variable with the `--max-lora-rank` that the server of several evaluations has to be started with.
RANK = "RUN_EXPERIMENT_VLLM_RANK"


def served_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` that an adapter of a rank fits into; ranks go up to LARGEST_RANK."""
    return next(one for one in _SERVED if one >= rank)


def adapter_rank(config: Mapping[str, Any]) -> int | None:
    """The largest rank of an adapter, by its adapter_config.json; None if that does not say it."""
    ranks = config.get("rank_pattern")
    known = [config.get("r"), *(ranks.values() if isinstance(ranks, Mapping) else ())]
    return max((rank for rank in known if isinstance(rank, int) and rank > 0), default=None)


def largest_served(folders: Iterable[Path]) -> int:
    """The smallest `--max-lora-rank` for all adapters among some folders; 0 without any that can be served."""
    ranks = [adapter_rank(read_record(folder / ADAPTER_CONFIG) or {}) or 0 for folder in folders]
    return max((served_rank(rank) for rank in ranks if 0 < rank <= LARGEST_RANK), default=0)
