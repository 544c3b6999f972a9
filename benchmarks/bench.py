"""How fast the workflow is: on the test cluster, in planning and parsing, in making its results. Prints tables.

    make bench                                            all of it; `large` alone takes many minutes
    python benchmarks/bench.py [planning|large|following|results|cluster|early|shared]

Exit status 1 if a goal is missed. Other work on the machine slows it: only ratios compare from one machine to another,
and a missed goal counts when the machine was idle.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tabulate import tabulate

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "slurm")]

from cluster import BenchmarkError, figures, last_path, observe  # noqa: E402
from early import early_figures  # noqa: E402
from following import following_figures  # noqa: E402
from large import large_figures  # noqa: E402
from planning import log_figures, planning_figures  # noqa: E402
from results_page import results_figures  # noqa: E402
from shared import shared_figures  # noqa: E402
from tables import Figure, table  # noqa: E402


def start_cluster() -> None:
    """Start the test cluster if it is not up."""
    up = subprocess.run([TESTS / "slurm/cluster", "up"], stdout=subprocess.PIPE, text=True, check=True)
    os.environ["SLURM_CONF"] = up.stdout.strip().partition("=")[2]


def early_benchmark(folder: Path) -> list[Figure]:
    """Evaluate epochs while their runs train on the test cluster, or not, and print how long both took."""
    start_cluster()
    found = early_figures(folder)
    print(table("Early evaluation on the test cluster", found))
    return found


def cluster_benchmark(folder: Path) -> list[Figure]:
    """Run jobs on the test cluster, and print what they cost."""
    start_cluster()
    observed = observe(folder)
    found = figures(observed)
    print(table("On the test cluster", found))
    rows = [(f"{moment:.2f} s", name) for name, moment in last_path(observed)]
    print(f"The way to the last end\n\n{tabulate(rows, tablefmt='github', disable_numparse=True)}\n")
    return found


def planning_benchmark(folder: Path) -> list[Figure]:
    """Plan, write and parse, and print how long that took."""
    found = [*planning_figures(folder), *log_figures(folder)]
    print(table("Planning and parsing", found))
    return found


def large_benchmark(folder: Path) -> list[Figure]:
    """Plan a large experiment with Snakemake and with a plain Snakefile of it, and print what both cost."""
    found = large_figures(folder)
    print(table("Beside a plain Snakefile", found))
    return found


def following_benchmark(folder: Path) -> list[Figure]:
    """Follow many jobs of a large experiment, and print what that cost."""
    found = following_figures(folder)
    print(table("Following many jobs", found))
    return found


def results_benchmark(folder: Path) -> list[Figure]:
    """Make the results of a large experiment and open their page in a browser, and print how long that took."""
    found = results_figures(folder)
    print(table("Results", found))
    return found


def shared_benchmark(folder: Path) -> list[Figure]:
    """Evaluate the demo in jobs of one evaluation and in one of all on the test cluster, and print what both cost."""
    start_cluster()
    found = shared_figures(folder)
    print(table("Evaluations that share a job", found))
    return found


BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "planning": planning_benchmark,
    "large": large_benchmark,
    "following": following_benchmark,
    "results": results_benchmark,
    "cluster": cluster_benchmark,
    "early": early_benchmark,
    "shared": shared_benchmark,
}


def main() -> int:
    """Run benchmarks; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="?", choices=BENCHMARKS, help="run this one alone")
    chosen = parser.parse_args().only
    missed = False
    for name in [chosen] if chosen else BENCHMARKS:
        print(f"Load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n", flush=True)
        with tempfile.TemporaryDirectory(prefix="run-experiment-bench-") as folder:
            missed |= any(figure.missed for figure in BENCHMARKS[name](Path(folder)))
    return int(missed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(str(error))
