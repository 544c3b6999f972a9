"""Ranks of adapters as vLLM serves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What `--max-lora-rank` may be.
_SERVED = (1, 8, 16, 32, 64, 128, 256, 320, 512)
LARGEST_RANK = _SERVED[-1]


def served_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` that an adapter of a rank fits into; ranks go up to LARGEST_RANK."""
    return next(one for one in _SERVED if one >= rank)


def adapter_rank(config: Mapping[str, Any]) -> int | None:
    """The largest rank of an adapter, by its adapter_config.json; None if that does not say it."""
    ranks = config.get("rank_pattern")
    known = [config.get("r"), *(ranks.values() if isinstance(ranks, Mapping) else ())]
    return max((rank for rank in known if isinstance(rank, int) and rank > 0), default=None)
