"""Wilson's interval as the formula has it."""

from __future__ import annotations

import math


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Equation 4 of Brown, Cai, DasGupta (2001), Statistical Science 16:101."""
    z = 1.959963984540054
    center = (successes + z * z / 2) / (n + z * z)
    half = z * math.sqrt(n) / (n + z * z) * math.sqrt(successes / n * (1 - successes / n) + z * z / (4 * n))
    return center - half, center + half
