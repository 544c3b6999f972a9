"""The tables under `-n`: what will run, what will not, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from run_experiment.planning.plan import Row


def plan_table(rows: Sequence[Row], planned: Collection[str]) -> str:
    """Both tables; `planned` are the outputs of the jobs that Snakemake will run."""
    run = [(row.subject, row.why) for row in rows if row.path in planned]
    rest = [(row.subject, _why_not(row)) for row in rows if row.path not in planned and not row.is_step]
    width = max((len(subject) for subject, _ in (*run, *rest)), default=0)
    return "\n".join([*_table("Will run:", run, width), *_table("Will not run:", rest, width)])


def _table(title: str, rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    return ["", title, *(f"    {subject:<{width}}  {why}" for subject, why in rows)] if rows else []


def _why_not(row: Row) -> str:
    if row.taken:
        return row.taken
    return f"not asked for ({row.why})" if row.wanted else row.why
