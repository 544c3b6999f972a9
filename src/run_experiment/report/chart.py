"""Charts as SVG: axes, marks with tooltips, labels. Colours are CSS classes, so that a page's theme applies to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import escape

from run_experiment.report.values import MINUS

WIDTH, HEIGHT = 340, 230
# Characters of a text in a chart.
_LONGEST = 48
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 26, 40


@dataclass(frozen=True)
class Scale:
    """Maps numbers from `low` … `high` to pixels `start` … `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass
class Chart:
    """An SVG that is drawn piece by piece; `x` and `y` map values to pixels."""

    x: Scale
    y: Scale
    label: str
    width: int = WIDTH
    height: int = HEIGHT
    parts: list[str] = field(default_factory=list)

    def grid(self, ticks: Sequence[float]) -> None:
        """Horizontal lines at values of y, with their labels."""
        for tick, text in labelled(ticks):
            y = self.y(tick)
            self.across(y, "grid")
            self.text(self.x.start - 6, y + 4, text, anchor="end")

    def below(self, ticks: Iterable[tuple[float, str]], title: str) -> None:
        """Labels at values of x, and the name of the axis."""
        bottom = self.height - _BOTTOM
        self.across(bottom, "axis")
        for value, name in ticks:
            self.text(self.x(value), bottom + 15, name, anchor="middle")
        self.text((self.x.start + self.x.end) / 2, self.height - 6, title, anchor="middle")

    def point(self, x: float, y: float, kind: str, tip: str, radius: float = 3.5) -> None:
        """A dot."""
        self.parts.append(
            f'<circle class="mark {kind}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius}"{tip_attribute(tip)}/>'
        )

    def whisker(self, x: float, low: float, high: float, kind: str) -> None:
        """A vertical line from low to high."""
        at = self.x(x)
        self.parts.append(
            f'<line class="whisker {kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{self.y(low):.1f}" y2="{self.y(high):.1f}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], kind: str, tip: str = "") -> None:
        """A line through points."""
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline class="line {kind}" points="{path}"{tip_attribute(tip)}/>')

    def reference(self, value: float, low: float | None, high: float | None, tip: str) -> None:
        """A dashed horizontal line, with the interval as a band."""
        if low is not None and high is not None:
            top = self.y(high)
            self.bar(self.x.start, self.x.end, top, self.y(low) - top, "band")
        self.across(self.y(value), "reference", tip)

    def across(self, y: float, kind: str, tip: str = "") -> None:
        """A horizontal line over the whole width, at a pixel."""
        ends = f'x1="{self.x.start:.0f}" x2="{self.x.end:.0f}" y1="{y:.1f}" y2="{y:.1f}"'
        self.parts.append(f'<line class="{kind}" {ends}{tip_attribute(tip)}/>')

    def bar(self, left: float, right: float, top: float, height: float, kind: str, tip: str = "") -> None:
        """A rectangle, in pixels; never so narrow that it vanishes."""
        size = f'x="{left:.1f}" y="{top:.1f}" width="{max(1.0, right - left):.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect class="{kind}" {size}{tip_attribute(tip)}/>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """A piece of text; long ones are cut."""
        shown = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(clean(shown))}</text>'
        )

    def svg(self, style: str = "") -> str:
        """The finished drawing; with a style sheet it needs no page around it."""
        sheet = f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>' if style else ""
        head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}"'
        return (
            f'<svg {head} height="{self.height}" role="img" aria-label="{escape(clean(self.label))}">{sheet}'
            f"{''.join(self.parts)}</svg>"
        )


def plot(
    xs: tuple[float, float], ys: Sequence[float], title: str, within: tuple[float, float] | None = None, right: int = 0
) -> Chart:
    """A chart for these values, with a grid and the title of its y axis; y stays within bounds.

    `right` is room for labels beside the lines.
    """
    low, high = y_range(ys, within)
    x, y = Scale(*xs, _LEFT, WIDTH - _RIGHT - right), Scale(low, high, HEIGHT - _BOTTOM, _TOP)
    chart = Chart(x, y, title, WIDTH, HEIGHT)
    chart.text(0, 11, title)
    chart.grid(ticks(low, high))
    return chart


def y_range(values: Sequence[float], within: tuple[float, float] | None = None) -> tuple[float, float]:
    """The range of an axis that shows all values, with some room."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 0.1
    low, high = low - room, high + room
    if within:
        edge = (high - low) * 0.03
        low, high = max(low, within[0] - edge), min(high, within[1] + edge)
    return low, high


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within a range."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def labelled(values: Sequence[float]) -> list[tuple[float, str]]:
    """Each tick of an axis with its label: all have the same number of decimals."""
    texts = [f"{value:g}" for value in values]
    if not any("e" in text for text in texts):
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        texts = [f"{value:.{decimals}f}" for value in values]
    return [(value, text.replace("-", MINUS)) for value, text in zip(values, texts, strict=True)]


def clean(text: str) -> str:
    """Text without what XML forbids, and with direction marks and escapes made visible."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if (code < 32 and character not in "\t\n") or 0x7F <= code < 0xA0:
        return "\N{SYMBOL FOR ESCAPE}" if code == 27 else "\N{REPLACEMENT CHARACTER}"
    if code in _MARKS or 0xD800 <= code < 0xE000 or code in (0xFFFE, 0xFFFF):
        return "\N{REPLACEMENT CHARACTER}"
    return character


# Direction marks, which reorder the text around them.
_MARKS = frozenset({0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)})


def tip_attribute(text: str) -> str:
    """The attribute that carries the text of a tooltip."""
    return f' data-tip="{escape(clean(text))}"' if text else ""
