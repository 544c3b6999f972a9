"""Collects the results of an experiment as it lies there, finished or not, and makes their page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from run_experiment.common import paths
from run_experiment.common.json_files import write_atomically
from run_experiment.planning.results_state import Records
from run_experiment.results.collect import read_records
from run_experiment.results.page import write_results
from run_experiment.status.jobs import Jobs
from run_experiment.status.read import status_of


def collect(folder: Path) -> list[tuple[str, str]]:
    """Write the results of the experiment in `folder`; returns what is missing, with the reason. Raises InputError."""
    return write_all(read_records(folder))


def write_all(records: Records) -> list[tuple[str, str]]:
    """Write the results of these records, and their page; returns what is missing, with the reason."""
    write_results(records)
    report = records.experiment.folder / paths.REPORT
    with _reported(paths.REPORT):
        try:
            write_report(records)
        except Exception:
            # An old page must not pass for a new one.
            report.unlink(missing_ok=True)
            raise
    return records.missing()


def refresh(records: Records) -> None:
    """Write the results after a session that made other targets; a failure is a line on the terminal, no error."""
    with _reported("results"):
        write_all(records)


def renew_page(records: Records) -> None:
    """Make the page of unchanged results again; a failure is a line on the terminal, no error."""
    with _reported(paths.REPORT):
        write_report(records)


def write_report(records: Records) -> None:
    """Write `results/report.html` and `results/figures/` from records whose results were just collected."""
    # Here, since what draws and computes takes seconds to import, and most commands do neither.
    from run_experiment.report.data import report_data
    from run_experiment.report.figure_files import write_figures
    from run_experiment.report.figures import figures
    from run_experiment.report.page import page
    from run_experiment.results.analysis.analyse import analyse

    folder = records.experiment.folder
    status = status_of(records.plan, Jobs(records.plan.snapshot))
    data = report_data(records, status, analyse(records))
    drawn = figures(data)
    write_atomically(folder / paths.REPORT, page(data, drawn))
    with _reported(paths.FIGURES):
        write_figures(folder / paths.FIGURES, drawn)


@contextmanager
def _reported(path: str) -> Iterator[None]:
    """Turn a failure to write something that is only there to be read into a line on the terminal."""
    try:
        yield
    except Exception as error:
        print(f"{path} could not be made: {type(error).__name__}: {error}", file=sys.stderr)
