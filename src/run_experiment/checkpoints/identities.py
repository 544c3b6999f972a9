"""What tells trainings and checkpoints apart, read from their records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The cell of a configuration that only the job can fill in: the checkpoint it evaluates.
CHECKPOINT = "checkpoint"


def training_identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one training from another of the same configuration."""
    return {key: record.get(key) for key in ("job_id", "ended")}


def checkpoint_hashes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """SHA-256 of a verified checkpoint's files, by name; none where the manifest does not tell them."""
    try:
        return {name: {"sha256": facts["sha256"]} for name, facts in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError):
        return {}
