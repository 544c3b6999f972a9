"""The page as one HTML file: text by a template that escapes everything, tables and figures from the data in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from run_experiment.report.chart import clean
from run_experiment.report.figures import MOST_ROWS, Figure
from run_experiment.report.values import FINE

_SECTIONS = {
    "problems": "Not done",
    "warnings": "Warnings",
    "scores": "Scores",
    "curves": "Training",
    "comparisons": "Comparisons",
    "samples": "Samples",
    "jobs": "Compute",
    "timeline": "Timeline",
    "sanity": "Checks",
    "parameters": "Parameters",
    "provenance": "Provenance",
}
_ANCHORS = {"curves": "training", "jobs": "compute"}
# Within a script element these could end it, or a line of it.
_IN_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def page(data: Mapping[str, Any], drawn: Sequence[Figure]) -> str:
    """The HTML of the page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"markup": Markup, "clean": clean, "moment": _moment}
    shown = visible(data)
    return environment.from_string(asset("report.html.j2")).render(
        data=shown,
        drawn=drawn,
        json=json_block(shown),
        sections=_sections(shown, drawn),
        most_jobs=MOST_ROWS,
        fine=FINE,
        style=asset("report.css") + asset("figures.css"),
        script=asset("report.js"),
    )


def _sections(data: Mapping[str, Any], drawn: Sequence[Figure]) -> list[tuple[str, str]]:
    """Anchor and title of each section that is on the page."""
    there = {name for name, value in data.items() if value} | {figure.section for figure in drawn}
    return [(_ANCHORS.get(name, name), title) for name, title in _SECTIONS.items() if name in there]


def json_block(data: Any) -> str:
    """JSON that may stand in a script element, whatever its texts are."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_IN_SCRIPT)


def visible(value: Any) -> Any:
    """The same with control characters and direction marks in its texts made visible."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): visible(one) for name, one in value.items()}
    return [visible(one) for one in value] if isinstance(value, list | tuple) else value


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"


def asset(name: str) -> str:
    """The text of a file that the page is made from."""
    return files("run_experiment.report").joinpath("templates", name).read_text(encoding="utf-8")
