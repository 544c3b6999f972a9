"""Values of secret environment variables, kept out of all that is recorded and shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

# Shorter values of secret variables (`false`, `1`) would turn ordinary text into stars.
_SHORTEST = 6
_NAME = re.compile("TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)


def secret_values(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Values of secret variables, and their lines: a key of several lines may be met in parts."""
    # Another thread may change the environment meanwhile.
    values = [environment.get(name, "").strip() for name in environment if _NAME.search(name)]
    parts = {part.strip() for value in values for part in (value, *value.splitlines())}
    return [part for part in parts if len(part) >= _SHORTEST]


def without_secrets(text: str, secrets: Iterable[str] | None = None) -> str:
    """Replace every secret with stars, by default those of the environment; of overlapping ones nothing is left."""
    known = secret_values() if secrets is None else secrets
    spans = sorted(match.span(1) for secret in known if secret in text for match in _occurrences(secret, text))
    kept, end = [], 0
    for start, stop in spans:
        if start >= end:
            kept.append(text[end:start] + "***")
        end = max(end, stop)
    return "".join(kept) + text[end:]


def _occurrences(secret: str, text: str) -> Iterable[re.Match[str]]:
    """All places of a secret, overlapping ones, too."""
    return re.finditer(f"(?=({re.escape(secret)}))", text)
