"""Snakemake as a user calls it, and what its output says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent.parent
SERVER = Path(__file__).with_name("snakemake_server.py")
LIMIT_SECONDS = 600


class Snakemake:
    """The workflow in a fork of a process that has imported Snakemake, in a process group of its own."""

    def __init__(self, arguments: list[str], output: Path, environment: dict[str, str]) -> None:
        self._status = output.with_name(f"{output.name}.status")
        request = {
            "arguments": arguments,
            "cwd": str(SOURCE),
            "environment": environment,
            "output": str(output),
            "status": str(self._status),
            # As a child would inherit it.
            "ignores_hangup": signal.getsignal(signal.SIGHUP) is signal.SIG_IGN,
        }
        self.pid = int(_ask(request))

    @property
    def returncode(self) -> int | None:
        """Exit status, once it has ended; the negative number of the signal that ended it."""
        return int(self._status.read_text()) if self._status.exists() else None

    def wait(self, seconds: float = LIMIT_SECONDS) -> int:
        """Exit status at its end. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + seconds
        while (status := self.returncode) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("snakemake", seconds)
            time.sleep(0.02)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash does."""
        self.send_signal(signal.SIGKILL)
        self.wait()


def snakemake(folder: Path, *arguments: str, profile: str = "local") -> subprocess.CompletedProcess[str]:
    """Run the workflow on an experiment to its end; its output is one text."""
    settings = [] if "--config" in arguments else ["--config"]
    # All of Snakemake's own output, which tells of rules.
    quiet = [] if "--quiet" in arguments else ["--quiet", "host"]
    given = [*quiet, "--profile", f"profiles/{profile}", *arguments, *settings, f"experiment_dir={folder}"]
    with tempfile.TemporaryDirectory() as place:
        output = Path(place, "output")
        started = Snakemake(given, output, dict(os.environ))
        try:
            status = started.wait()
        finally:
            started.kill()
        result = subprocess.CompletedProcess(given, status, output.read_text())
    # Snakemake swallows what a log handler raises.
    assert "Error in logging handler" not in result.stdout
    assert "--- Logging error ---" not in result.stdout
    return result


def _ask(request: dict[str, object]) -> str:
    """The server's answer."""
    server = _server()
    assert server.stdin
    assert server.stdout
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return server.stdout.readline()


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
