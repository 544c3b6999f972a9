"""The answer, and the results of each task on the page: a table of its runs and epochs, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from run_experiment.common import paths
from run_experiment.common.text import counted, shortened
from run_experiment.experiment.records import DEFAULT_BACKEND
from run_experiment.results.markdown import inert, markdown_table

if TYPE_CHECKING:
    from run_experiment.results.analysis.analyse import Analysis
    from run_experiment.results.analysis.scores import Cell, Score


def answer_part(analysis: Analysis | None) -> list[str]:
    """What may be said of each task; empty if nothing was evaluated."""
    if analysis is None or not analysis.answers:
        return []
    from run_experiment.results.analysis.answer_text import answer_text

    lines = [f"- **{answer.task}**: {answer_text(answer)}" for answer in analysis.answers]
    return ["## Answer", "\n".join(lines), *_correction(analysis)]


def _correction(analysis: Analysis) -> list[str]:
    tests = sum(one.p is not None for one in analysis.comparisons)
    if not tests:
        return []
    count = counted(tests, "comparison")
    where = Path(paths.COMPARISONS_TABLE).name
    return [f"P-values against a reference are corrected (Holm) for the {count} of `{where}`."]


def task_part(analysis: Analysis, task: str) -> list[str]:
    """The part of the page on a task; empty if no evaluation of it was made."""
    cells = analysis.of_task(task)
    if not cells:
        return []
    headline = analysis.headlines[task]
    better = f", {headline.better} is better" if headline.better else ""
    backends = sorted({cell.record.backend for cell in cells})
    by = f", by {backends[0]}" if len(backends) == 1 and backends != [DEFAULT_BACKEND] else ""
    title = f"### {task}: {headline.metric or 'no metric'}{better}{by}"
    return [title, _table(cells, len(backends) > 1), _intervals(cells), _several(backends)]


def notes(analysis: Analysis) -> list[str]:
    """What could not be read, and where more is."""
    parts = []
    by_reason: dict[str, list[str]] = {}
    for subject, why in analysis.unreadable.items():
        by_reason.setdefault(why.splitlines()[0], []).append(subject)
    for why, subjects in by_reason.items():
        parts.append(f"Samples of {shortened(subjects)} could not be read: {inert(why)}.")
    if analysis.scores:
        parts.append(f"`{Path(paths.REPORT).name}`, beside this file, has figures, comparisons and samples.")
    return parts


def _several(backends: Sequence[str]) -> str:
    if len(backends) == 1:
        return ""
    return f"Results of several backends ({', '.join(backends)}) are not compared with each other."


def _table(cells: Sequence[Cell], names_backends: bool) -> str:
    """A line for each run, a column for each epoch."""
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        mark = f", {cell.record.backend}" if names_backends else ""
        rows.setdefault(cell.score.run, {})[_column(cell)] = f"{_text(cell.score)}{mark}"
    epochs = sorted({cell.score.epoch for cell in cells if cell.score.epoch is not None})
    used = {name for row in rows.values() for name in row}
    columns = [name for name in ("base", "eval-only", *(f"epoch {epoch}" for epoch in epochs)) if name in used]
    lines = [[run, *(row.get(name, "") for name in columns)] for run, row in rows.items()]
    return markdown_table(["run", *columns], lines)


def _column(cell: Cell) -> str:
    if cell.score.epoch is not None:
        return f"epoch {cell.score.epoch}"
    return "eval-only" if cell.evaluation.run.type == "eval-only" else "base"


def _text(score: Score) -> str:
    """`0.920 [0.812, 0.968] (49 of 50 samples)`."""
    number, total = score.n_scored, score.n
    samples = "" if number is None else counted(number, "sample", None if total == number else total)
    if score.metric is None:
        return samples
    value = "n/a" if score.value is None else f"{score.value:.3f}"
    interval = "" if score.low is None or score.high is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return f"{value}{interval} ({samples})" if " of " in samples else f"{value}{interval}"


def _intervals(cells: Iterable[Cell]) -> str:
    """What the brackets are, and why some cells have none."""
    scores = [cell.score for cell in cells if cell.score.value is not None]
    methods = dict.fromkeys(score.method for score in scores if score.low is not None)
    reasons = dict.fromkeys(score.method.removeprefix("none: ") for score in scores if score.low is None)
    brackets = f"In brackets: 95 % intervals ({', '.join(methods)})." if methods else ""
    without = f"No interval: {'; '.join(reasons)}." if reasons else ""
    return " ".join(filter(None, [brackets, without]))
