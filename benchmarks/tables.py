"""Figures of a benchmark, and tables of them."""

from __future__ import annotations

from dataclasses import dataclass

from tabulate import tabulate


@dataclass(frozen=True)
class Figure:
    """What was measured, and the most that it may be, if there is a goal."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None

    @property
    def missed(self) -> bool:
        """Whether there is a goal and it was missed."""
        return self.goal is not None and self.value > self.goal


def table(title: str, figures: list[Figure]) -> str:
    """A table of figures with their goals."""
    rows = [(figure.name, f"{figure.value:.2f} {figure.unit}".rstrip(), *_judgement(figure)) for figure in figures]
    return f"{title}\n\n{tabulate(rows, ['', 'measured', 'goal', ''], 'github', disable_numparse=True)}\n"


def _judgement(figure: Figure) -> tuple[str, str]:
    if figure.goal is None:
        return "", ""
    return f"≤ {figure.goal:g} {figure.unit}".rstrip(), "MISSED" if figure.missed else "met"
