"""The figures of the page, each made from its data alone: scores, losses, comparisons, the timeline of jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from run_experiment.report.chart import HEIGHT, WIDTH, Chart, Scale, labelled, plot, ticks, y_range

Row = Mapping[str, Any]
_SEEDS = re.compile(r" \((\d+) seeds\)$")
# Up to this many runs have their names beside their lines.
_LABELLED = 6
# Up to this many rows of jobs, of comparisons fit into a figure; a table has them all.
MOST_ROWS = 60
_LONGEST_LABEL = 15
# Pixels between the names beside lines.
_LINE = 12


@dataclass(frozen=True)
class Figure:
    """A figure: the section that it belongs to, the name of its file, a title and the drawing."""

    section: str
    name: str
    title: str
    chart: Chart


def figures(data: Mapping[str, Any]) -> list[Figure]:
    """All figures of the page; those without data are left out."""
    return [
        *_by_task(data, "scores", score_by_epoch),
        *_by_parameter(data),
        *_losses(data),
        *_comparisons(data),
        *_timeline(data),
    ]


def _by_task(data: Mapping[str, Any], section: str, draw: Callable[..., Chart | None]) -> Iterator[Figure]:
    for task in data.get("tasks", []):
        rows = _scored(data, task["task"])
        if chart := draw(rows, task):
            yield Figure(section, f"{section}_{task['task']}", task["task"], chart)


def _scored(data: Mapping[str, Any], task: str) -> list[Row]:
    return [row for row in data.get("scores", []) if row["task"] == task and row["value"] is not None]


def score_by_epoch(rows: Sequence[Row], task: Row) -> Chart | None:
    """A line for each run; models that were not trained are dashed lines across."""
    trained, flat = [row for row in rows if row["epoch"] is not None], [row for row in rows if row["epoch"] is None]
    if not trained:
        return None
    runs = list(dict.fromkeys(row["run"] for row in trained))
    epochs = sorted({row["epoch"] for row in trained})
    few, best = len(runs) <= _LABELLED, task["best_runs"]
    xs = (epochs[0] - 0.25, epochs[-1] + 0.25)
    chart = plot(xs, _extent(rows, few), _axis(task), _bounds(rows), _room(runs) if few else 0)
    for row in flat[:3]:
        _reference(chart, row)
    for run in sorted(runs, key=lambda run: run in best):
        _run_line(chart, _of(trained, run), run in best, few)
    if few:
        last = [max(_of(trained, run), key=lambda row: row["epoch"]) for run in runs]
        _labels(chart, [(row["value"], row["run"], row["run"] in best) for row in [*last, *flat[:3]]])
    chart.below([(epoch, str(epoch)) for epoch in _some(epochs)], "epoch")
    return chart


def _run_line(chart: Chart, rows: Sequence[Row], best: bool, whiskers: bool) -> None:
    kind = "accent" if best else "" if whiskers else "faint"
    ordered = sorted(rows, key=lambda row: row["epoch"])
    chart.line([(row["epoch"], row["value"]) for row in ordered], kind)
    for row in ordered:
        if (whiskers or best) and row["low"] is not None:
            chart.whisker(row["epoch"], row["low"], row["high"], kind)
        chart.point(row["epoch"], row["value"], kind, score_tip(row), 3.5 if whiskers or best else 2.5)


def _by_parameter(data: Mapping[str, Any]) -> Iterator[Figure]:
    known = {run["run"]: run["parameters"] for run in data["runs"]}
    for task in data.get("tasks", []):
        for name in data["parameters"]["differing"]:
            # Seeds are replicates: which one is best means nothing.
            if name == "seed" and data["seeds"]:
                continue
            rows = [row for row in _scored(data, task["task"]) if row["epoch"] is not None]
            rows = [row for row in rows if known[row["run"]].get(name) is not None]
            flat = [row for row in _scored(data, task["task"]) if row["epoch"] is None]
            values = {row["run"]: _written(known[row["run"]][name]) for row in rows}
            if 1 < len(set(map(str, values.values()))) <= 24:
                chart = score_by_parameter(rows, flat, task, name, values)
                yield Figure("parameters", f"{name}_{task['task']}", f"{task['task']} by {name}", chart)


def score_by_parameter(
    rows: Sequence[Row], flat: Sequence[Row], task: Row, name: str, values: Mapping[str, Any]
) -> Chart:
    """A dot for each run after its last epoch, with its interval; fainter ones after earlier epochs."""
    places = {str(value): place for place, value in enumerate(sorted(set(values.values()), key=_order))}
    last = {row["run"]: row["epoch"] for row in sorted(rows, key=lambda row: row["epoch"])}
    of_place: dict[str, list[str]] = {}
    for run in last:
        of_place.setdefault(str(values[run]), []).append(run)
    chart = plot((-0.5, len(places) - 0.5), _extent([*rows, *flat[:1]], True), _axis(task), _bounds([*rows, *flat[:1]]))
    for row in flat[:1]:
        _reference(chart, row)
    for row in rows:
        beside = of_place[str(values[row["run"]])]
        at = places[str(values[row["run"]])] + _spread(beside.index(row["run"]), len(beside))
        is_last, best = last[row["run"]] == row["epoch"], row["run"] in task["best_runs"]
        kind = "accent" if best and is_last else "" if is_last else "faint"
        if is_last and row["low"] is not None:
            chart.whisker(at, row["low"], row["high"], kind)
        tip = f"{name} {values[row['run']]}\n{score_tip(row)}"
        chart.point(at, row["value"], kind, tip, 3.5 if is_last else 2.5)
    chart.below([(place, value) for value, place in places.items()], name)
    return chart


def _written(value: Any) -> Any:
    """A parameter's value as the summary has it."""
    return str(value).lower() if isinstance(value, bool) else value


def _losses(data: Mapping[str, Any]) -> Iterator[Figure]:
    curves, best = data["curves"], {run for task in data["tasks"] for run in task["best_runs"]}
    for name, title, axis in (("train", "Train loss", "step"), ("validation", "Validation loss", "epoch")):
        lines = {curve["run"]: _points(curve[name]) for curve in curves}
        lines = {run: points for run, points in lines.items() if points}
        if lines:
            yield Figure("losses", f"{name}_loss", title, loss_chart(lines, title, axis, best))


def loss_chart(lines: Mapping[str, Sequence[tuple[float, float]]], title: str, axis: str, best: set[Any]) -> Chart:
    """A line for each training."""
    xs = [x for points in lines.values() for x, _ in points]
    few, low, high = len(lines) <= _LABELLED, min(xs), max(xs)
    room = (high - low) * 0.03 or 0.5
    ys = [y for points in lines.values() for _, y in points]
    chart = plot((low - room, high + room), ys, "loss", (min(0.0, *ys), max(ys)), _room(list(lines)) if few else 0)
    for run, points in sorted(lines.items(), key=lambda line: line[0] in best):
        kind = "accent" if run in best else "" if few else "faint"
        chart.line(points, kind, run)
        for x, y in points if len(points) <= 12 else points[-1:]:
            chart.point(x, y, kind, f"{run}, {axis} {x:g}\n{title.lower()} {y:.4g}", 3 if few else 2)
    if few:
        _labels(chart, [(points[-1][1], run, run in best) for run, points in lines.items()])
    whole = [tick for tick in ticks(low, high, 5) if tick == int(tick)] if high > low else [low]
    chart.below(labelled(whole), axis)
    return chart


def _points(values: Iterable[Sequence[Any]]) -> list[tuple[float, float]]:
    """The points of a curve: its first column and its last."""
    return [(row[0], row[-1]) for row in values if row[-1] is not None]


def _comparisons(data: Mapping[str, Any]) -> Iterator[Figure]:
    for task in data.get("tasks", []):
        rows = [row for row in data.get("comparisons", []) if row["task"] == task["task"] and row["delta"] is not None]
        if rows:
            chart = forest(rows[:MOST_ROWS], task)
            yield Figure(
                "comparisons", f"differences_{task['task']}", f"{task['task']}: {task['metric']} minus reference", chart
            )


def forest(rows: Sequence[Row], task: Row) -> Chart:
    """A line for each difference, with its interval, beside zero."""
    edges = [value for row in rows for value in (row["low"], row["high"], row["delta"]) if value is not None]
    low, high = y_range([0.0, *edges])
    height = 20 * len(rows) + 50
    y = Scale(0, len(rows), 8, height - 42)
    chart = Chart(Scale(low, high, 118, WIDTH - 12), y, "differences", WIDTH, height)
    zero = chart.x(0)
    chart.parts.append(f'<line class="reference" x1="{zero:.1f}" x2="{zero:.1f}" y1="4" y2="{height - 40}"/>')
    for place, row in enumerate(rows):
        run = _SEEDS.sub(r" ×\1", row["run"])
        name = f"{run}{'' if row['epoch'] is None else ' e' + str(row['epoch'])}"
        kind = "accent" if row.get("clear") else ""
        at = chart.y(place + 0.5)
        chart.text(110, at + 4, _shortened(name, 19), anchor="end")
        if row["low"] is not None:
            chart.bar(chart.x(row["low"]), chart.x(row["high"]), at - 0.75, 1.5, f"mark {kind}")
        chart.point(row["delta"], place + 0.5, kind, comparison_tip(row))
    side = {"higher": " (right is better)", "lower": " (left is better)"}.get(task["better"], "")
    chart.below(labelled(ticks(low, high, 4)), f"difference{side}")
    return chart


def _timeline(data: Mapping[str, Any]) -> Iterator[Figure]:
    rows = [row for row in data["jobs"] if row.get("started") and (row.get("ended") or row.get("submitted"))]
    if rows:
        yield Figure("timeline", "timeline", "Jobs", timeline(rows[:MOST_ROWS]))


def timeline(rows: Sequence[Row]) -> Chart:
    """A bar for each job, after a pale one for the time that it waited."""
    times = [time for row in rows for name in ("submitted", "started", "ended") if (time := _time(row.get(name)))]
    low, high = min(times), max(*times, min(times) + 1)
    height = 16 * len(rows) + 50
    chart = Chart(Scale(low, high, 200, 900), Scale(0, len(rows), 8, height - 42), "jobs over time", 920, height)
    for place, row in enumerate(rows):
        _job_bars(chart, place, row, high)
    chart.below(_hours(low, high), "time since the first job was submitted")
    return chart


def _job_bars(chart: Chart, place: int, row: Row, last: float) -> None:
    submitted, started, ended = (_time(row.get(name)) for name in ("submitted", "started", "ended"))
    top, subject = chart.y(place) + 3, row["subject"]
    chart.text(192, top + 9, _shortened(subject, 31), anchor="end")
    begun = last if started is None else started
    if submitted is not None:
        waited = f"{subject}\nwaited {max(0, begun - submitted):.0f} s"
        chart.bar(chart.x(submitted), chart.x(begun), top, 10, "waited", waited)
    kind = {"in the results": "", "failed": "bad"}.get(row["outcome"], "faint")
    chart.bar(chart.x(begun), chart.x(last if ended is None else ended), top, 10, f"mark {kind}", job_tip(row))


def _hours(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of a time axis, from its begin."""
    span = high - low
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    unit, name = next((one for one in units if span > 2 * one[0]), units[-1])
    return [(low + tick * unit, f"{tick:g} {name}") for tick in ticks(0, span / unit, 6)]


def _time(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def score_tip(row: Row) -> str:
    """What a tooltip says of a score."""
    after = "not trained" if row["epoch"] is None else f"epoch {row['epoch']}"
    interval = "" if row["low"] is None else f"\n95 % {row['low']:.3f} to {row['high']:.3f}"
    return f"{row['run']}, {after}\n{row['value']:.3f}{interval}\nn = {row['n']}"


def comparison_tip(row: Row) -> str:
    """What a tooltip says of a comparison."""
    p = "" if row["p_corrected"] is None else f"\np = {row['p_corrected']:.2g} (corrected)"
    return f"{row['run']} against {row['reference']}\n{row['delta']:+.3f}{p}"


def job_tip(row: Row) -> str:
    """What a tooltip says of a job."""
    ran = f"\nran {row['seconds']:.0f} s" if row.get("seconds") is not None else ""
    return f"{row['subject']}, job {row['job_id']}\n{row['state']}, {row['outcome']}{ran}"


def _axis(task: Row) -> str:
    """The metric of a task; that lower is better is not what one expects of a figure."""
    return f"{task['metric']} (lower is better)" if task["better"] == "lower" else str(task["metric"])


def _reference(chart: Chart, row: Row) -> None:
    chart.reference(row["value"], row["low"], row["high"], score_tip(row))


def _labels(chart: Chart, ends: Sequence[tuple[float, str, bool]]) -> None:
    """Names beside the ends of lines, moved apart where they would overlap."""
    ordered = sorted(ends, key=lambda end: chart.y(end[0]))
    places: list[float] = []
    for value, *_ in ordered:
        places.append(max(chart.y(value) + 4, places[-1] + _LINE if places else 0))
    # What went below the axis goes up again, and moves the others.
    room = HEIGHT - 42.0
    for place in reversed(range(len(places))):
        places[place] = room = min(places[place], room)
        room -= _LINE
    for at, (_, name, best) in zip(places, ordered, strict=True):
        chart.text(chart.x.end + 6, at, _shortened(name, _LONGEST_LABEL), "accent" if best else "")


def _room(names: Sequence[str]) -> int:
    """Pixels that the names beside lines take."""
    return round(6.4 * min(_LONGEST_LABEL, max(map(len, names))))


def _shortened(name: str, most: int) -> str:
    """A name without its middle if it is long: names of runs often differ at their ends."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def _extent(rows: Sequence[Row], intervals: bool) -> list[float]:
    names = ("value", "low", "high") if intervals else ("value",)
    return [row[name] for row in rows for name in names if row[name] is not None]


def _bounds(rows: Sequence[Row]) -> tuple[float, float] | None:
    """0 to 1 for scores that all lie there, with their intervals."""
    return (0.0, 1.0) if all(0 <= value <= 1 for value in _extent(rows, intervals=True)) else None


def _of(rows: Sequence[Row], run: str) -> list[Row]:
    return [row for row in rows if row["run"] == run]


def _some(values: Sequence[int], most: int = 8) -> list[int]:
    stride = -(-len(values) // most)
    return list(values[::stride])


def _order(value: Any) -> tuple[bool, Any]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return not is_number, value if is_number else str(value)


def _spread(place: int, of: int) -> float:
    """Where a dot stands beside others of its value: within 0.3 to both sides."""
    return 0.0 if of == 1 else -0.3 + 0.6 * place / (of - 1)
