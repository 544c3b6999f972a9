"""The command `run-experiment`: what users do beside running the workflow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from run_experiment import layout
from run_experiment.collect import collect
from run_experiment.problems import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        collect(options.folder.resolve())
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(options.folder / layout.EVALS_TABLE)
    print(options.folder / layout.SUMMARY_PAGE)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run-experiment", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    results = commands.add_parser("results", help="write results/evals.csv and results/summary.md of what is done")
    results.add_argument("folder", type=Path, nargs="?", default=Path(), help="the experiment's folder")
    return parser
