"""Values of scores, as inspect-ai's metrics count them."""

from __future__ import annotations

import math
from typing import Any

# What inspect-ai's metrics take for numbers.
_WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


def number(value: Any) -> float | None:
    """A score as inspect-ai's metrics count it; None if it is none: unscored, not a number, or a list."""
    if isinstance(value, str):
        known = _WORDS.get(value, _WORDS.get(value.lower()) if len(value) > 1 else None)
        if known is not None:
            return known
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
