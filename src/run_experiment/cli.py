"""Show the state, the logs and the results of an experiment."""

from __future__ import annotations

import argparse
import io
import os
import sys
from datetime import datetime
from pathlib import Path

from run_experiment.actionlog import show
from run_experiment.common import paths
from run_experiment.common.errors import CommandError, InputError
from run_experiment.report.collect import collect
from run_experiment.results.collect import read_records
from run_experiment.results.page import PROVENANCE
from run_experiment.sharing.view import HOST, PORT, view
from run_experiment.status import command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (InputError, CommandError) as error:
        print(error, file=sys.stderr)
        return 2


def _results(options: argparse.Namespace) -> int:
    folder = options.folder.resolve()
    if options.compare:
        # Here, since scipy takes a second.
        from run_experiment.sharing.compare import comparison_text

        _print(comparison_text(folder, options.compare))
        return 0
    collect(folder)
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
    return 0


def _view(options: argparse.Namespace) -> int:
    return view(read_records(options.folder.resolve()), options.port)


def _export(options: argparse.Namespace) -> int:
    # Here, since it needs a library that is only installed where it is wanted.
    from run_experiment.sharing.crate import export

    folder = options.folder.resolve()
    target = (options.file or Path(f"{folder.name}.crate.zip")).resolve()
    export(read_records(folder), target, options.checkpoints)
    print(target)
    return 0


def _log(options: argparse.Namespace) -> int:
    filters = show.Filters(options.action, options.subject, options.since, options.log)
    table = show.entries(options.folder, filters, datetime.now())
    if table.empty and not options.json:
        print("No such entries.", file=sys.stderr)
        return 0
    _print(show.as_json(table) if options.json else show.as_text(table, show.terminal_width()))
    return 0


def _status(options: argparse.Namespace) -> int:
    shown = command.Options(options.json, options.missing, options.watch)
    return command.show_status(options.folder, shown, _print)


_COMMANDS = {"results": _results, "view": _view, "export": _export, "log": _log, "status": _status}


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
    _add_results(commands)
    _add_view(commands.add_parser("view", help="show the logs of the results in inspect-ai's viewer, until Ctrl-C"))
    _add_export(commands.add_parser("export", help="write a Workflow Run RO-Crate of the experiment, a ZIP file"))
    _add_log(commands.add_parser("log", help="show the action logs, run-torchtune.log and run-inspect.log"))
    _add_status(commands.add_parser("status", help="show what is done, running, pending, failed or missing"))
    return parser


def _add_results(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    results = commands.add_parser(
        "results",
        help=f"write {paths.REPORT}, {paths.SUMMARY_PAGE}, {paths.EVALS_TABLE} and more of what is done so far",
    )
    results.add_argument("folder", type=Path, nargs="?", default=Path(), help="the experiment's folder")
    results.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="write nothing, but print how A differs from B; each is a run's name or an experiment's folder",
    )


def _add_view(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, nargs="?", default=Path(), help="the experiment's folder")
    command.add_argument("--port", type=int, default=PORT, help=f"port of {HOST} (default {PORT})")


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, nargs="?", default=Path(), help="the experiment's folder")
    command.add_argument("file", type=Path, nargs="?", help="ZIP file to write (default {folder}.crate.zip, here)")
    command.add_argument("--checkpoints", action="store_true", help="put the adapters into it, too")


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
