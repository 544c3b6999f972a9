"""Show the state and the logs of an experiment, and collect its results."""

from __future__ import annotations

import argparse
import io
import os
import sys
from datetime import datetime
from pathlib import Path

from run_experiment.actionlog import show
from run_experiment.common import paths
from run_experiment.common.errors import InputError
from run_experiment.report.collect import collect
from run_experiment.results.page import PROVENANCE
from run_experiment.status import command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "status":
            return _status(options)
        (_log if options.command == "log" else _results)(options)
    except (InputError, show.LogCommandError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _results(options: argparse.Namespace) -> None:
    collect(options.folder.resolve())
    for path in (
        paths.EVALS_TABLE,
        paths.COMPARISONS_TABLE,
        paths.SUMMARY_PAGE,
        PROVENANCE,
        paths.REPORT,
        paths.FIGURES,
    ):
        # Without something to draw there are no figures.
        if (options.folder / path).exists():
            print(options.folder / path)


def _log(options: argparse.Namespace) -> None:
    filters = show.Filters(options.action, options.subject, options.since, options.log)
    table = show.entries(options.folder, filters, datetime.now())
    if table.empty and not options.json:
        print("No such entries.", file=sys.stderr)
        return
    _print(show.as_json(table) if options.json else show.as_text(table, show.terminal_width()))


def _status(options: argparse.Namespace) -> int:
    shown = command.Options(options.json, options.missing, options.watch)
    return command.show_status(options.folder, shown, _print)


def _print(text: str) -> None:
    """Print text that may be long or contain characters that the terminal cannot show."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader has closed the pipe; without this Python would fail again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run-experiment", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    results = commands.add_parser(
        "results",
        help=f"write {paths.REPORT}, {paths.SUMMARY_PAGE}, {paths.EVALS_TABLE} and more of what is done so far",
    )
    results.add_argument("folder", type=Path, nargs="?", default=Path(), help="the experiment's folder")
    _add_log(commands.add_parser("log", help="show the action logs, run-torchtune.log and run-inspect.log"))
    _add_status(commands.add_parser("status", help="show what is done, running, pending, failed or missing"))
    return parser


def _add_log(log: argparse.ArgumentParser) -> None:
    log.add_argument("folder", type=Path, nargs="?", default=Path(), help="the experiment's folder")
    log.add_argument(
        "--action", nargs="+", action="extend", default=[], help="only these actions, such as STATE_CHANGE"
    )
    log.add_argument("--subject", metavar="PATTERN", help="only these subjects, such as 'r8*' or 'r8/*/epoch1'")
    log.add_argument("--since", metavar="TIME", help="only since 10m, 2h, 3d (ago), 2025-01-31 or '2025-01-31 10:00'")
    log.add_argument("--log", metavar="LOG", help="only one log: torchtune or inspect")
    log.add_argument("--json", action="store_true", help="print JSON with all fields")


def _add_status(status: argparse.ArgumentParser) -> None:
    status.add_argument("folder", type=Path, nargs="?", default=Path(), help="the experiment's folder")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument(
        "--missing", action="store_true", help="list what is not done, with reasons; exit status 3 if any"
    )
    status.add_argument(
        "--watch",
        metavar="SECONDS",
        type=_seconds,
        nargs="?",
        const=10.0,
        help="repeat every SECONDS (default 10), until Ctrl-C or until nothing is running or pending",
    )


def _seconds(text: str) -> float:
    """Parse seconds; at least 1, since every repetition queries SLURM."""
    seconds = float(text)
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 to 86400 seconds")
    return seconds
