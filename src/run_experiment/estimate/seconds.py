"""A time and the range that it lies in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    """A time in seconds, and the range that it lies in."""

    likely: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        """Both, one after the other."""
        return Seconds(self.likely + other.likely, self.least + other.least, self.most + other.most)

    def after(self, elapsed: float) -> Seconds:
        """What is left of it when so much is over."""
        return Seconds(*(max(0.0, part - elapsed) for part in (self.likely, self.least, self.most)))

    def times(self, factor: float) -> Seconds:
        """As much of it."""
        return Seconds(self.likely * factor, self.least * factor, self.most * factor)
