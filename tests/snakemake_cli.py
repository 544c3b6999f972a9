"""Snakemake as a user calls it, and what its output says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent.parent
SERVER = Path(__file__).with_name("snakemake_server.py")


def snakemake(folder: Path, *arguments: str, profile: str = "local") -> subprocess.CompletedProcess[str]:
    """Run the workflow on an experiment, in a fork of a process that has imported Snakemake; its output is one text."""
    settings = [] if "--config" in arguments else ["--config"]
    # All of Snakemake's own output, which tells of rules.
    quiet = [] if "--quiet" in arguments else ["--quiet", "host"]
    given = [*quiet, "--profile", f"profiles/{profile}", *arguments, *settings, f"experiment_dir={folder}"]
    with tempfile.NamedTemporaryFile("r") as output:
        request = {"arguments": given, "cwd": str(SOURCE), "environment": dict(os.environ), "output": output.name}
        status = _answer(request)
        result = subprocess.CompletedProcess(given, status, output.read())
    # Snakemake swallows what a log handler raises.
    assert "Error in logging handler" not in result.stdout
    assert "--- Logging error ---" not in result.stdout
    return result


def _answer(request: dict[str, object]) -> int:
    """Exit status of a run."""
    server = _server()
    assert server.stdin
    assert server.stdout
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@cache
def _server() -> subprocess.Popen[str]:
    """The process that forks; it ends with this one, whose end closes its stdin."""
    return subprocess.Popen([sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def planned(folder: Path, *arguments: str, profile: str = "local") -> Counter[str]:
    """Jobs that `-n` announces, by rule, but for `all`."""
    result = snakemake(folder, "-n", *arguments, profile=profile)
    assert result.returncode == 0, result.stdout
    table = re.findall(r"^(\w+) +(\d+)$", result.stdout.partition("Job stats:")[2].partition("\n\n")[0], re.MULTILINE)
    return Counter({rule: int(count) for rule, count in table if rule not in ("all", "total", "job")})


def ran(output: str) -> Counter[str]:
    """Jobs that a run finished, by rule, but for `all`."""
    return Counter(rule for rule in re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output) if rule != "all")
