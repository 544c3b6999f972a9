"""The figures of the page as files for papers and slides: SVG, and PNG of twice the size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from run_experiment.common.json_files import write_atomically
from run_experiment.report.figures import Figure
from run_experiment.report.page import asset

_OTHER = re.compile(r"[^\w.-]+")
_VARIABLE = re.compile(r"(--\w+): (#\w+)")


def write_figures(folder: Path, drawn: Iterable[Figure]) -> None:
    """Write each figure into the folder; figures that are not drawn any more are removed."""
    style, names = file_style(), set()
    for figure in drawn:
        path = folder / _OTHER.sub("_", figure.name)
        _write(path, figure.chart.svg(style) + "\n")
        names |= {f"{path.name}.svg", f"{path.name}.png"}
    for path in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        if path.name not in names:
            path.unlink()


def _write(path: Path, svg: str) -> None:
    """Write both files of a figure. An unchanged one stays: making its picture takes a second."""
    drawing, picture = (path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png"))
    if drawing.is_file() and picture.is_file() and drawing.read_bytes() == svg.encode():
        return
    # The picture first: the drawing stands for both.
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawing.unlink(missing_ok=True)
    picture.write_bytes(png(svg))
    write_atomically(drawing, svg)


def png(svg: str) -> bytes:
    """A picture of an SVG, at twice its size."""
    # Here, since it is big, and most commands draw nothing.
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=2))


def file_style() -> str:
    """The style sheet of figures with the light colours of the page in it: files know no variables."""
    light = dict(_VARIABLE.findall(asset("report.css").partition("@media")[0]))
    return re.sub(r"var\((--\w+)\)", lambda found: light[found[1]], asset("figures.css"))
