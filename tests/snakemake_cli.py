"""Snakemake as a user calls it, and what its output says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).parent.parent


def snakemake(folder: Path, *arguments: str, profile: str = "local") -> subprocess.CompletedProcess[str]:
    """Run the workflow on an experiment; its output is one text."""
    settings = [] if "--config" in arguments else ["--config"]
    # All of Snakemake's own output, which tells of rules.
    quiet = [] if "--quiet" in arguments else ["--quiet", "host"]
    command = [sys.executable, "-m", "snakemake", *quiet, "--profile", f"profiles/{profile}", *arguments, *settings]
    result = subprocess.run(
        [*command, f"experiment_dir={folder}"],
        cwd=SOURCE,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    # Snakemake swallows what a log handler raises.
    assert "Error in logging handler" not in result.stdout
    assert "--- Logging error ---" not in result.stdout
    return result


def planned(folder: Path, *arguments: str, profile: str = "local") -> Counter[str]:
    """Jobs that `-n` announces, by rule, but for `all`."""
    result = snakemake(folder, "-n", *arguments, profile=profile)
    assert result.returncode == 0, result.stdout
    table = re.findall(r"^(\w+) +(\d+)$", result.stdout.partition("Job stats:")[2].partition("\n\n")[0], re.MULTILINE)
    return Counter({rule: int(count) for rule, count in table if rule not in ("all", "total", "job")})


def ran(output: str) -> Counter[str]:
    """Jobs that a run finished, by rule, but for `all`."""
    return Counter(rule for rule in re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output) if rule != "all")
